"""Every change this client can make on a machine, as data.

A closed set: the journal stores these values and nothing else, so a journal is never a program. Each value says how to
do it and how to undo it in the words of the commands people know, which is what `--dry-run` prints and what error
messages quote. The values check themselves, and the checks hold for what is read back from a journal too: no route
outside a table of our own and no rule that is not shaped like one of ours can be named, hence none can be deleted.
"""

from __future__ import annotations

import shlex
from typing import Literal

from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.model import IPAddress, IPInterface, IPNetwork, Version

RouteKind = Literal["unicast", "throw", "unreachable"]
Key = tuple[object, ...]

MAIN, LOCAL = 254, 255  # the kernel's tables
FIRST_TABLE, TABLES = 7400, 64  # ours: one for each tunnel, and as many behind them that catch what those let fall
KERNEL = 2  # who made a rule or route, RTPROT_KERNEL of rtnetlink(7)
OURS = 73  # the same, a number nobody else has


def backstop_table(table: int) -> int:
    """The table behind a tunnel's own one."""
    return table + TABLES


def tunnel_table(table: int) -> int:
    """The table of the tunnel that a table of ours belongs to; of others, the table itself."""
    return table - TABLES if FIRST_TABLE + TABLES <= table < FIRST_TABLE + 2 * TABLES else table


def _ip(version: Version) -> str:
    return "ip" if version == 4 else "ip -6"


def _printf(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "%%").replace("\n", "\\n")
    return f"printf {shlex.quote(escaped)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The tunnel's interface up and with our MTU; `old_mtu` and `was_up` are how it was found."""

    interface: str
    index: int
    mtu: int
    old_mtu: int
    was_up: bool

    @property
    def key(self) -> Key:
        """Two steps with the same key replace each other."""
        return ("link", self.index)

    def commands(self) -> list[str]:
        """What does it."""
        return [f"ip link set dev {self.interface} mtu {self.mtu} up"]

    def undo_commands(self) -> list[str]:
        """What undoes it."""
        return [f"ip link set dev {self.interface} mtu {self.old_mtu}{'' if self.was_up else ' down'}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An inner address on the tunnel's interface, without the connected route the kernel would add to table main."""

    interface: str
    index: int
    address: IPInterface

    @property
    def key(self) -> Key:
        """Two steps with the same key replace each other."""
        return ("address", self.index, self.address)

    def _line(self, verb: str, flags: str = "") -> str:
        return f"{_ip(self.address.version)} address {verb} {self.address} dev {self.interface}{flags}"

    def commands(self) -> list[str]:
        """What does it."""
        return [self._line("replace", " noprefixroute" if self.address.version == 4 else " noprefixroute nodad")]

    def undo_commands(self) -> list[str]:
        """What undoes it."""
        return [self._line("delete")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route in our own table: into the tunnel, `throw` (go on with the next rule) or `unreachable`."""

    destination: IPNetwork
    table: int
    kind: RouteKind
    interface: str | None = None
    index: int = 0
    source: IPAddress | None = None

    def __post_init__(self) -> None:
        if 253 <= self.table <= 255 or (self.kind == "unicast") != (self.interface is not None):
            raise ValueError(f"not a route of ours: {self}")

    @property
    def key(self) -> Key:
        """Two steps with the same key replace each other."""
        return ("route", self.table, self.destination)

    def _line(self, verb: str) -> str:
        kind = "" if self.kind == "unicast" else f"{self.kind} "
        device = f" dev {self.interface}" if self.interface else ""
        source = f" src {self.source}" if self.source else ""
        scope = " scope global" if self.interface and self.destination.version == 4 else ""  # see `desired`
        return (
            f"{_ip(self.destination.version)} route {verb} {kind}{self.destination}"
            f"{device}{source}{scope} table {self.table} protocol kernel"
        )

    def commands(self) -> list[str]:
        """What does it."""
        return [self._line("replace")]

    def undo_commands(self) -> list[str]:
        """What undoes it."""
        return [self._line("delete")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A policy rule: `action` a lookup in `table`, or `blackhole`. Absent selectors match everything.

    `mark` is inverted: the rule is for what does not carry it. Rules of protocol `KERNEL` survive a restart of
    systemd-networkd, which deletes all others that it did not make.
    """

    version: Version
    priority: int
    table: int
    protocol: int = KERNEL
    mark: int = 0
    destination: IPNetwork | None = None
    input_interface: str | None = None
    source_port: int = 0

    def __post_init__(self) -> None:
        guarded = self.priority == 0 and self.protocol == OURS and self.destination is not None
        return_path = self.priority > 0 and self.table == MAIN and self.destination is not None and self.source_port > 0
        tunnel = self.priority > 0 and self.mark > 0 and not 253 <= self.table <= 255 and self.table > 0
        if not (guarded and self.table in (0, LOCAL)) and not return_path and not tunnel:
            raise ValueError(f"not a rule of ours: {self}")

    @property
    def key(self) -> Key:
        """Two steps with the same key replace each other."""
        return ("rule", self)

    def _line(self, verb: str) -> str:
        words = [_ip(self.version), "rule", verb, "priority", str(self.priority)]
        if self.mark:
            words += ["not", "fwmark", hex(self.mark)]
        if self.destination:
            words += ["to", str(self.destination)]
        if self.input_interface:
            words += ["iif", self.input_interface]
        if self.source_port:
            words += ["ipproto", "udp", "sport", str(self.source_port)]
        words += ["lookup", {MAIN: "main", LOCAL: "local"}.get(self.table, str(self.table))] if self.table else []
        words += ["protocol", "kernel" if self.protocol == KERNEL else str(self.protocol)]
        words += [] if self.table else ["blackhole"]
        return " ".join(words)

    def commands(self) -> list[str]:
        """What does it."""
        return [self._line("add")]

    def undo_commands(self) -> list[str]:
        """What undoes it."""
        return [self._line("delete")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRuleLast:
    """The kernel's own rule for local addresses put behind our rules of the same priority 0.

    A stand-in at priority 1 serves while it is away, so local delivery never stops. Once our rules are gone the table
    of rules is what it was; undoing it only clears up after a crash half way.
    """

    version: Version

    @property
    def key(self) -> Key:
        """Two steps with the same key replace each other."""
        return ("local-rule", self.version)

    def commands(self) -> list[str]:
        """What does it."""
        ip = _ip(self.version)
        return [
            f"{ip} rule add priority 1 lookup local protocol {OURS}",
            f"{ip} rule delete priority 0 lookup local protocol kernel",
            f"{ip} rule add priority 0 lookup local protocol kernel",
            f"{ip} rule delete priority 1 lookup local protocol {OURS}",
        ]

    def undo_commands(self) -> list[str]:
        """What undoes it: nothing, in good order."""
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedLink:
    """Per-link name resolution in systemd-resolved; a domain that starts with `~` routes, any other also searches."""

    interface: str
    index: int
    servers: tuple[IPAddress, ...]
    domains: tuple[str, ...]
    default_route: bool

    @property
    def key(self) -> Key:
        """Two steps with the same key replace each other."""
        return ("resolved", self.index)

    def arguments(self) -> list[list[str]]:
        """The argument lists for `resolvectl`, in order."""
        return [
            ["dns", self.interface, *map(str, self.servers)],
            ["domain", self.interface, *(self.domains or ("",))],
            ["default-route", self.interface, "yes" if self.default_route else "no"],
        ]

    def commands(self) -> list[str]:
        """What does it."""
        return [shlex.join(["resolvectl", *arguments]) for arguments in self.arguments()]

    def undo_commands(self) -> list[str]:
        """What undoes it."""
        return [f"resolvectl revert {self.interface}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvconfRecord:
    """A record `tun0.INTERFACE.ikeclient` in resolvconf, a name that Debian's and openresolv both rank first.

    `exclusive`: no record but this one is used (openresolv only).
    """

    interface: str
    text: str
    exclusive: bool

    @property
    def key(self) -> Key:
        """Two steps with the same key replace each other."""
        return ("resolvconf", self.interface)

    def arguments(self) -> list[str]:
        """The argument list that adds the record."""
        return [*(["-x"] if self.exclusive else []), "-a", f"tun0.{self.interface}.ikeclient"]

    def undo_arguments(self) -> list[str]:
        """The argument list that deletes the record, which need not exist."""
        return ["-d", f"tun0.{self.interface}.ikeclient", "-f"]

    def commands(self) -> list[str]:
        """What does it."""
        return [f"{_printf(self.text)} | {shlex.join(['resolvconf', *self.arguments()])}"]

    def undo_commands(self) -> list[str]:
        """What undoes it."""
        return [shlex.join(["resolvconf", *self.undo_arguments()])]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvConfFile:
    """The resolver's configuration file holding `text`, and what stood there before.

    That was a file of these bytes (None: no file), reached through `link` unless that is None.
    """

    text: str
    link: str | None
    content: bytes | None
    mode: int
    uid: int
    gid: int

    @property
    def key(self) -> Key:
        """Two steps with the same key replace each other."""
        return ("resolv.conf",)

    def commands(self) -> list[str]:
        """What does it."""
        return [f"{_printf(self.text)} > /etc/resolv.conf"]

    def undo_commands(self) -> list[str]:
        """What undoes it."""
        if self.link is not None:
            return [f"ln -sfn {shlex.quote(self.link)} /etc/resolv.conf"]
        if self.content is None:
            return ["rm /etc/resolv.conf"]
        return [f"{_printf(self.content.decode(errors='replace'))} > /etc/resolv.conf"]


DnsStep = ResolvedLink | ResolvconfRecord | ResolvConfFile
NetlinkStep = Link | Address | Route | Rule | LocalRuleLast
Step = NetlinkStep | DnsStep
