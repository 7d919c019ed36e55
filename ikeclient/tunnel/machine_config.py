"""From what the gateway granted to how the machine shall look: pure decisions, applied by `net`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

from ikeclient.ike.events import Configuration, IPAddress, Path
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.model import (
    ANYWHERE,
    MARK,
    DnsConfig,
    IPInterface,
    IPNetwork,
    MachineConfig,
)
from ikeclient.net.syscalls import can_mark
from ikeclient.profile.compiled import NetworkSettings
from ikeclient.tunnel.routes import (
    blocked_families,
    narrowed,
    of_the_link,
    require_routes,
    routes_into,
    some,
    split_by_gateway,
)
from ikeclient.wire.selector import TrafficSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class Underlay:
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


def inner_addresses(
    configuration: Configuration, local: Sequence[TrafficSelector]
) -> tuple[tuple[IPInterface, ...], tuple[IPAddress, ...]]:
    """The addresses to put on the device, and those of this machine's own that serve instead where none was assigned.

    `local` are the installed local selectors: then they are this machine's outer address (RFC 7296 section 2.19).
    """
    if configuration.addresses:
        return configuration.addresses, ()
    return (), tuple(dict.fromkeys(selector.start for selector in local if selector.start == selector.end))


def dns_config(
    network: NetworkSettings,
    configuration: Configuration,
    routes: Sequence[IPNetwork],
    carried: Sequence[IPNetwork] = (),
) -> tuple[DnsConfig | None, tuple[str, ...]]:
    """How names are resolved while the tunnel is up, and a warning for each server that the tunnel does not reach.

    `carried` are networks that the tunnel would take, too: a server there gets a route of its own. Servers and domains
    of the profile are used instead of the gateway's.
    """
    servers = network.dns_servers or configuration.dns_servers
    domains = network.dns_domains or configuration.dns_domains
    if network.dns == "none" or not servers:
        return None, ()
    reached = tuple(s for s in servers if any(s in route for route in (*routes, *carried)))
    missed = [server for server in servers if server not in reached]
    warnings = tuple(f"DNS server {server} is not used: the tunnel does not lead to it" for server in missed)
    mode: Literal["split", "all"] = "all" if network.dns == "all" else "split"
    if network.dns == "auto":
        full = any(route in ANYWHERE.values() for route in routes)
        mode = "all" if full or not domains else "split"
    if not reached or (mode == "split" and not domains):
        return None, warnings
    return DnsConfig(servers=reached, domains=domains, mode=mode), warnings


def _outside(configuration: Configuration) -> str:
    """What the gateway excludes, in words."""
    networks = [str(network) for network in configuration.excluded[:8]]
    more = len(configuration.excluded) - len(networks)
    lan = ["the networks this machine is on"] if configuration.exclude_lan else []
    return ", ".join([*networks, *([f"{more} more"] if more else []), *lan])


def _limited(selectors: Sequence[TrafficSelector]) -> list[str]:
    """The selectors that carry single protocols or ports, of networks that no other one carries whole."""
    whole = [selector for selector in selectors if not selector.is_limited]
    return [str(each) for each in selectors if each.is_limited and not any(one.contains(each) for one in whole)]


def machine_config(
    network: NetworkSettings,
    configuration: Configuration,
    local: Sequence[TrafficSelector],
    remote: Sequence[TrafficSelector],
    underlay: Underlay,
) -> tuple[MachineConfig, tuple[str, ...]]:
    """The desired state of the machine, and warnings about what the gateway granted but cannot be used.

    `local` and `remote` are the selectors in use. Raises NegotiationRefused if they make no route, or so many that they
    would flood the routing table.
    """
    addresses, own = inner_addresses(configuration, local)
    families = {address.version for address in (*addresses, *own)}
    carried = routes_into(remote, families)
    routes, split = split_by_gateway(network, configuration, carried)
    by_gateway = network.routes == "gateway"
    refused = [each for each in routes if by_gateway and of_the_link(each)]
    routes = tuple(each for each in routes if each not in refused)
    require_routes(routes, remote)
    dns, warnings = dns_config(network, configuration, routes, carried)
    if limited := [*_limited(remote), *_limited(local)]:
        what = "the gateway lets single protocols or ports through, and drops what else is sent there"
        warnings += (f"{what}: {some(limited, 4)}",)
    if refused:
        warnings += (f"not routed, since it is of the link alone: {', '.join(map(str, refused[:8]))}",)
    if less := narrowed(network, routes):
        warnings += (less,)
    if by_gateway and (outside := _outside(configuration)):
        warnings += (f"stays outside the tunnel, as the gateway wants: {outside}",)
    config = MachineConfig(
        interface=underlay.interface,
        mtu=underlay.mtu,
        addresses=addresses,
        own=own,
        routes=routes,
        exclude=(*network.exclude, *(configuration.excluded if by_gateway else ())),
        exclude_lan=network.exclude_lan or (by_gateway and configuration.exclude_lan),
        blocked=blocked_families(network, routes, split),
        gateway=underlay.gateways,
        ports=(underlay.path.local_port,),
        mark=MARK,
        table=underlay.table,
        dns=dns,
    )
    return config, warnings
