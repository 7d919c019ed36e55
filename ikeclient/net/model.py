"""What `net` is asked for, as values: how the machine shall look while a tunnel is up, and who can make it so."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Literal, Protocol

from ikeclient.lazy_dataclass import dataclass

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network
Version = Literal[4, 6]

VERSIONS: tuple[Version, Version] = (4, 6)
ANYWHERE: dict[Version, IPNetwork] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}

MARK = 0x1CE  # of the outer sockets of all tunnels

_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_TUNNEL = re.compile(r"[A-Za-z0-9_@+][A-Za-z0-9_.@+-]{0,63}")


def interface_name(text: object) -> str:
    """`text` if it can be the name of a network interface (15 characters, no `/`); raises ValueError."""
    if not isinstance(text, str) or not _INTERFACE.fullmatch(text):
        raise ValueError(f"not an interface name: {text!r}")
    return text


def tunnel_name(text: object) -> str:
    """`text` if it can name a tunnel and the files that belong to it; raises ValueError."""
    if not isinstance(text, str) or not _TUNNEL.fullmatch(text):
        raise ValueError(f"not a tunnel name: {text!r}")
    return text


NOT_SPLIT = "the tunnel's name servers are asked for every name"  # how a warning says so, if only some were meant


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig:
    """Name resolution while the tunnel is up.

    `split`: only names below `domains` are asked from `servers`. `all`: everything is; `domains` are search domains.
    """

    servers: tuple[IPAddress, ...]
    domains: tuple[str, ...] = ()
    mode: Literal["split", "all"] = "split"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineConfig:
    """How the machine shall look while the tunnel is up.

    `interface` exists already. `mtu` is in bytes. `routes` lead into the tunnel; networks in `exclude` never do, even
    where `routes` names a part of them. `exclude_lan` adds the private networks that other interfaces are on when the
    configuration is applied; those never take away what `routes` names explicitly. Families in `blocked` become
    unreachable wherever no route of the tunnel leads. `gateway` and `ports` are the gateway's outer addresses and our
    local UDP ports: where the machine filters by reverse path, answers from the gateway are let in by them. `mark` is
    on our outer sockets (SO_MARK), and every tunnel of the machine may use the same one; `table` is the tunnel's own.

    `own` are addresses of other interfaces from which packets enter the tunnel, where the gateway assigned none
    (`addresses` is then empty).
    """

    interface: str
    mtu: int
    addresses: tuple[IPInterface, ...]
    routes: tuple[IPNetwork, ...]
    exclude: tuple[IPNetwork, ...] = ()
    exclude_lan: bool = False
    blocked: frozenset[Version] = frozenset()
    gateway: tuple[IPAddress, ...]
    ports: tuple[int, ...]
    mark: int
    table: int
    dns: DnsConfig | None = None
    own: tuple[IPAddress, ...] = ()

    @property
    def sources(self) -> tuple[IPAddress, ...]:
        """What packets into the tunnel are from."""
        return (*(address.ip for address in self.addresses), *self.own)

    def __post_init__(self) -> None:
        interface_name(self.interface)
        if not 68 <= self.mtu <= 65535:
            raise ValueError(f"no usable MTU: {self.mtu}")
        if not 0 < self.mark < 1 << 32:
            raise ValueError(f"no usable socket mark: {self.mark}")
        if not 0 < self.table < 1 << 32 or 253 <= self.table <= 255:
            raise ValueError(f"not a table of our own: {self.table}")


class MachineAdapter(Protocol):
    """What a tunnel needs from the machine; `machine.Machine` is the real one, `fake.FakeMachine` the other.

    `servers` are the name servers in use since the last `apply`: not all that were wished for may be usable.
    """

    warnings: list[str]
    servers: tuple[IPAddress, ...]
    left: list[str]  # what `revert` could not undo, as the commands that would

    def plan(self, config: MachineConfig) -> list[str]:
        """The changes `apply` would make on an untouched machine, as command lines. Changes nothing."""

    def apply(self, config: MachineConfig) -> None:
        """Make the machine look like `config`; raises PlatformError after undoing what this call had changed."""

    def renew(self) -> None:
        """Apply the last configuration again, to a new interface of the same name. Raises PlatformError."""

    def revert(self) -> None:
        """Undo everything; what cannot be undone becomes a warning."""
