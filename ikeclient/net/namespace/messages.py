"""What the init of a namespace of our own and the tunnel outside say to each other; `ipc.typed` writes and reads it.

The init begins, with Ready and four descriptors (the TUN device; the user, network and mount namespace), or with the
`NamespaceRefusal` of the kernel. Then it answers one `MachineConfig` at a time.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

from ikeclient.ipc.failure import Failure
from ikeclient.ipc.typed import Codec
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.model import IPAddress, MachineConfig
from ikeclient.net.namespace.rootless import NamespaceRefusal

CODEC = Codec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The namespace is made; `vnet` is whether the device has virtio headers."""

    interface: str
    vnet: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The inside looks like the configuration; `servers` are the name servers in use."""

    warnings: tuple[str, ...]
    servers: tuple[IPAddress, ...]


First = Ready | NamespaceRefusal
Answer = Applied | Failure


def inside(config: MachineConfig) -> MachineConfig:
    """Return what is left of a configuration where there is no other network.

    Addresses of ours that are not there are put there, and name servers are asked for every name: there are no others.
    """
    return replace(
        config,
        addresses=(*config.addresses, *(ip_interface(address) for address in config.own)),
        own=(),
        exclude_lan=False,
        gateway=(),
        ports=(),
        dns=config.dns and replace(config.dns, mode="all"),
    )
