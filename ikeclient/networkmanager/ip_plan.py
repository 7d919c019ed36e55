"""What NetworkManager is told of a tunnel's addresses, routes and name servers, and how that looks on D-Bus.

NetworkManager knows one kind of route for a tunnel, into it. So networks that stay outside are cut out of those inside,
and a family that shall be unreachable is led into the tunnel, which refuses it; the address it takes for that is one
that leads nowhere (RFC 7600, RFC 4291 section 2.5.6). Networks that an interface of the machine is on stay outside by
themselves, since their routes are longer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network
from typing import Any, Literal

from ikeclient.errors import PlatformError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.model import ANYWHERE, VERSIONS, IPAddress, IPInterface, IPNetwork, MachineConfig, Version

MOST_ROUTES = 2000
_NOWHERE: dict[Version, IPInterface] = {4: IPv4Interface("192.0.0.8/32"), 6: IPv6Interface("fe80::1ce/128")}
_EVERY_NAME = "~."  # the domain that means all of them

# Values with their signatures, by their names: a{sv}.
Table = dict[str, tuple[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyPlan:
    """One IP version: our address, the networks inside, or `everything`, and who resolves which names."""

    address: IPv4Interface | IPv6Interface
    routes: tuple[IPNetwork, ...] = ()
    everything: bool = False
    servers: tuple[IPAddress, ...] = ()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IpPlan:
    """How the machine shall look: `interface` is ours, `gateway` the gateway's outer address, `mtu` is in bytes."""

    interface: str
    mtu: int
    gateway: IPAddress
    ip4: FamilyPlan | None
    ip6: FamilyPlan | None


def plan(config: MachineConfig) -> IpPlan:
    """What NetworkManager is told for `config`. Raises PlatformError if it has no way to do that."""
    if not config.addresses:
        raise PlatformError(
            "the gateway assigned no address, without which NetworkManager configures nothing",
            hint='add "ipv4" to network.request, or use `ikeclient connect`',
        )
    families = {version: _family(config, version) for version in VERSIONS}
    return IpPlan(
        interface=config.interface, mtu=config.mtu, gateway=config.gateway[0], ip4=families[4], ip6=families[6]
    )


def _family(config: MachineConfig, version: Version) -> FamilyPlan | None:
    blocked = version in config.blocked
    address = next(
        (ours for ours in config.addresses if ours.version == version), _NOWHERE[version] if blocked else None
    )
    if address is None:
        return None
    outside = [network for network in config.exclude if network.version == version]
    inside = [network for network in config.routes if network.version == version]
    inside = [ANYWHERE[version]] if blocked else inside
    routes = cut(inside, outside)
    if len(routes) > MOST_ROUTES:
        raise PlatformError(
            f"{len(routes)} routes are too many", reason="so many parts remain without what network.exclude names"
        )
    everything = ANYWHERE[version] in routes
    servers: tuple[IPAddress, ...] = ()
    domains: tuple[str, ...] = ()
    if config.dns is not None:
        servers = tuple(server for server in config.dns.servers if server.version == version)
    if config.dns is not None and servers:
        domains = config.dns.domains
        if config.dns.mode == "all" and not everything:
            domains = (*domains, _EVERY_NAME)
    own = tuple(ip_network(server) for server in servers if not any(server in route for route in routes))
    return FamilyPlan(
        address=address,
        routes=(*(route for route in routes if route != ANYWHERE[version]), *own),
        everything=everything,
        servers=servers,
        domains=domains,
    )


def cut(inside: Iterable[IPNetwork], outside: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """The networks `inside` without those `outside`."""
    parts: list[Any] = list(dict.fromkeys(inside))
    for hole in outside:
        parts = [piece for part in parts for piece in _without(part, hole)]
    return tuple(parts)


def _without(part: Any, hole: Any) -> list[Any]:
    if not part.overlaps(hole):
        return [part]
    return [] if part.subnet_of(hole) else sorted(part.address_exclude(hole))


def config_table(wanted: IpPlan) -> Table:
    """The signal Config."""
    return {
        "tundev": ("s", wanted.interface),
        "mtu": ("u", wanted.mtu),
        "gateway": _address(wanted.gateway),
        "has-ip4": ("b", wanted.ip4 is not None),
        "has-ip6": ("b", wanted.ip6 is not None),
        "can-persist": ("b", True),
    }


def family_table(wanted: FamilyPlan) -> Table:
    """The signal Ip4Config or Ip6Config."""
    four = wanted.address.version == 4
    routes = [
        [_number(route.network_address), route.prefixlen, 0, 0]
        if four
        else [route.network_address.packed, route.prefixlen, bytes(16), 0]
        for route in wanted.routes
    ]
    servers = [_number(server) if four else server.packed for server in wanted.servers]
    table: Table = {
        "address": _address(wanted.address.ip),
        "prefix": ("u", wanted.address.network.prefixlen),
        "never-default": ("b", not wanted.everything),
        "routes": ("aau" if four else "a(ayuayu)", routes),
        "dns": ("au" if four else "aay", servers),
        "domains": ("as", list(wanted.domains)),
    }
    return table


def _address(address: IPAddress) -> tuple[Literal["u", "ay"], int | bytes]:
    return ("u", _number(address)) if address.version == 4 else ("ay", address.packed)


def _number(address: IPAddress) -> int:
    """An IPv4 address as NetworkManager has it: the bytes of the network as a number of this machine."""
    return int.from_bytes(ip_address(address).packed, sys.byteorder)
