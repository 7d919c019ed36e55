"""From what the gateway granted to how the machine shall look: pure decisions, applied by `net`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Literal

from ikeclient.errors import NegotiationRefused
from ikeclient.ike.events import Configuration, IPAddress, Path
from ikeclient.net.interfaces import ANYWHERE, VERSIONS, DnsConfig, IPNetwork, MachineConfig, Version
from ikeclient.net.linux import can_mark
from ikeclient.profile.compile import NetworkSettings
from ikeclient.wire.selector import TrafficSelector

MARK = 0x1CE  # of our outer sockets
MAX_ROUTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What the tunnel runs over: the device, its MTU in bytes, and the outer path."""

    interface: str
    mtu: int
    path: Path
    gateways: tuple[IPAddress, ...]
    table: int


@cache
def outer_mark() -> int:
    """`MARK` where this process may put it on its sockets; else 0, so that routes are looked up as they are used."""
    return MARK if can_mark(MARK) else 0


def routes_into(selectors: Sequence[TrafficSelector], configuration: Configuration) -> tuple[IPNetwork, ...]:
    """The networks that the negotiated selectors let through, for the families we have an inner address of."""
    families = {address.version for address in configuration.addresses}
    networks = [network for selector in selectors if selector.version in families for network in selector.networks()]
    v4 = collapse_addresses(n for n in networks if isinstance(n, IPv4Network))
    v6 = collapse_addresses(n for n in networks if isinstance(n, IPv6Network))
    return (*v4, *v6)


def blocked_families(network: NetworkSettings, routes: Sequence[IPNetwork]) -> frozenset[Version]:
    """The families that must not leave the machine past a full tunnel because the tunnel does not carry them."""
    carried = {version for version in VERSIONS if ANYWHERE[version] in routes}
    if network.routes == "all" or carried:
        return frozenset(version for version in VERSIONS if version not in carried)
    return frozenset()


def dns_config(
    network: NetworkSettings, configuration: Configuration, routes: Sequence[IPNetwork]
) -> tuple[DnsConfig | None, tuple[str, ...]]:
    """How names are resolved while the tunnel is up, and a warning for each server that the tunnel does not reach."""
    if network.dns == "none" or not configuration.dns_servers:
        return None, ()
    reached = tuple(s for s in configuration.dns_servers if any(s in route for route in routes))
    warnings = tuple(
        f"DNS server {server} is not used: the tunnel does not lead to it"
        for server in configuration.dns_servers
        if server not in reached
    )
    mode: Literal["split", "all"] = "all" if network.dns == "all" else "split"
    if network.dns == "auto":
        full = any(route in ANYWHERE.values() for route in routes)
        mode = "all" if full or not configuration.dns_domains else "split"
    if not reached or (mode == "split" and not configuration.dns_domains):
        return None, warnings
    return DnsConfig(servers=reached, domains=configuration.dns_domains, mode=mode), warnings


def machine_config(
    network: NetworkSettings, configuration: Configuration, selectors: Sequence[TrafficSelector], link: Link
) -> tuple[MachineConfig, tuple[str, ...]]:
    """The desired state of the machine, and warnings about what the gateway granted but cannot be used.

    Raises NegotiationRefused for selectors that would flood the routing table.
    """
    routes = routes_into(selectors, configuration)
    dns, warnings = dns_config(network, configuration, routes)
    if len(routes) > MAX_ROUTES:
        raise NegotiationRefused(
            f"the gateway's traffic selectors make {len(routes)} routes",
            reason=f"at most {MAX_ROUTES} are accepted",
            hint="list the networks you need in [network] routes",
        )
    config = MachineConfig(
        interface=link.interface,
        mtu=link.mtu,
        addresses=configuration.addresses,
        routes=routes,
        exclude=network.exclude,
        exclude_lan=network.exclude_lan,
        blocked=blocked_families(network, routes),
        gateway=link.gateways,
        ports=(link.path.local_port,),
        mark=MARK,
        table=link.table,
        dns=dns,
    )
    return config, warnings
