"""What of the machine's network matters to the outer path of a tunnel, as a value, and what changed between two.

Notifications from the kernel come in any order, in floods, and get lost. Two snapshots are complete whatever happened
in between, so only their difference is believed. Link-local and loopback addresses, routes that are neither a default
route nor asked for, counters, lifetimes and the order of things are left out, because a change in them moves no tunnel.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Network

from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.model import VERSIONS, IPAddress, Version

# Kernel names of virtual links that carry other tunnels. PPP and 6in4 are missing: they can be the way out, and so can
# a modem, which has no link-layer address either but no kind of this list.
TUNNEL_KINDS = frozenset({"tun", "wireguard", "ovpn", "xfrm", "vti", "vti6", "gre", "ip6gre"})

_UNIQUE_LOCAL = IPv6Network("fc00::/7")
_NO_ROUTE = 1 << 32  # more than any metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface other than the loopback.

    `kind` is the kernel's name of a virtual link's type ("tun", "bridge"), "" for hardware; a TAP device, which is what
    containers without root have for a network card, is of the kind "tap". `working` is up with a carrier. `mtu` in
    bytes. `carriers` counts how often the carrier came.
    """

    index: int
    name: str
    kind: str = ""
    working: bool = True
    mtu: int = 1500
    carriers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterAddress:
    """An address of a working interface that can be spoken from: of global scope and past duplicate detection.

    `index` is that of the interface. A `deprecated` address still works but shall not be started from (RFC 4862 5.5.4).
    """

    index: int
    interface: str
    address: IPAddress
    deprecated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultRoute:
    """A way out in the main routing table. Lower metrics win. `gateway` is None where the link itself leads on."""

    version: Version
    index: int
    interface: str
    gateway: IPAddress | None
    metric: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTo:
    """What the kernel decides for packets to `remote`: the interface, our address and the next hop, if any."""

    remote: IPAddress
    index: int
    interface: str
    source: IPAddress
    gateway: IPAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The network at one moment. `routes` answers for the remote addresses that were asked about and have a route."""

    interfaces: tuple[Interface, ...] = ()
    addresses: tuple[OuterAddress, ...] = ()
    defaults: tuple[DefaultRoute, ...] = ()
    routes: tuple[RouteTo, ...] = ()

    def has(self, address: IPAddress) -> bool:
        """Whether `address` can be spoken from, deprecated or not."""
        return any(ours.address == address for ours in self.addresses)

    def route_to(self, remote: IPAddress) -> RouteTo | None:
        """The route to a remote address that was asked about; None where there is none."""
        return next((route for route in self.routes if route.remote == remote), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happened between two looks at the network. A reason to think again, not an instruction.

    - `gained`: addresses that can be started from now; `deprecated`: those that cannot any more but still work; `lost`:
      those that are gone, or whose interface does not work any more.
    - `up`, `down`: names of interfaces with an address that began or ceased to work; `bounced`: that lost the carrier
      and got it back, perhaps in another network that gave the same address; `resized`: that have another MTU.
    - `defaults`: IP versions whose default routes are not the same any more.
    - `rerouted`: remote addresses asked about that are reached otherwise, no longer, or again.
    - `resumed`: the machine slept, for `slept` seconds. `stalled`: seconds during which it was awake and this process
      did not run. Either way nobody has watched the peers meanwhile.
    """

    gained: tuple[OuterAddress, ...] = ()
    lost: tuple[OuterAddress, ...] = ()
    deprecated: tuple[OuterAddress, ...] = ()
    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    bounced: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    defaults: tuple[Version, ...] = ()
    rerouted: tuple[IPAddress, ...] = ()
    resumed: bool = False
    slept: float = 0.0
    stalled: float = 0.0


def difference(old: Snapshot, new: Snapshot) -> Change | None:
    """What changed from `old` to `new`; None where nothing did that could matter."""
    before, after = ({(a.index, a.address): a for a in snapshot.addresses} for snapshot in (old, new))
    fresh = {key for key, address in before.items() if not address.deprecated}
    carrying = {address.index for snapshot in (old, new) for address in snapshot.addresses}
    was, now = ({i.index: i for i in s.interfaces if i.index in carrying} for s in (old, new))
    pairs = [(was[index], interface) for index, interface in now.items() if index in was]
    change = Change(
        gained=tuple(a for key, a in after.items() if key not in fresh and not a.deprecated),
        lost=tuple(a for key, a in before.items() if key not in after),
        deprecated=tuple(a for key, a in after.items() if key in fresh and a.deprecated),
        up=tuple(i.name for i in now.values() if i.working and not _works(was.get(i.index))),
        down=tuple(i.name for i in was.values() if i.working and not _works(now.get(i.index))),
        bounced=tuple(b.name for a, b in pairs if a.working and b.working and a.carriers != b.carriers),
        resized=tuple(b.name for a, b in pairs if a.mtu != b.mtu),
        defaults=tuple(v for v in VERSIONS if _defaults(old, v) != _defaults(new, v)),
        rerouted=tuple(
            dict.fromkeys(r.remote for r in (*old.routes, *new.routes) if (r in old.routes) != (r in new.routes))
        ),
    )
    return None if change == Change() else change


def _works(interface: Interface | None) -> bool:
    return interface is not None and interface.working


def _defaults(snapshot: Snapshot, version: Version) -> set[DefaultRoute]:
    return {route for route in snapshot.defaults if route.version == version}


def is_tunnel(interface: Interface) -> bool:
    """Whether the interface leads into somebody's tunnel, our own included."""
    return interface.kind in TUNNEL_KINDS


def candidates(
    snapshot: Snapshot, version: Version, *, exclude: Callable[[Interface], bool] = is_tunnel
) -> tuple[OuterAddress, ...]:
    """The addresses of one IP version to try, the best first.

    Deprecated ones come last of all. Otherwise those of the interface whose default route has the lowest metric come
    first and those of interfaces without a default route last; global IPv6 addresses before unique local ones; then
    the kernel's order. Interfaces that `exclude` accepts are left out.

    Where the routing table prefers another interface, packets from such an address leave by that one all the same,
    and no network passes them on; ask `NetworkMonitor.route_to` with the address as source.
    """
    interfaces = {interface.index: interface for interface in snapshot.interfaces}
    metrics: dict[int, int] = {}
    for route in sorted(_defaults(snapshot, version), key=lambda route: -route.metric):
        metrics[route.index] = route.metric

    def rank(candidate: OuterAddress) -> tuple[bool, bool, int]:
        metric = metrics.get(candidate.index, _NO_ROUTE)
        return candidate.deprecated, candidate.address in _UNIQUE_LOCAL, metric

    eligible = (
        address
        for address in snapshot.addresses
        if address.address.version == version
        and not (address.index in interfaces and exclude(interfaces[address.index]))
    )
    return tuple(sorted(eligible, key=rank))
