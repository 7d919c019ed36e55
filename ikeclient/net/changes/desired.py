"""From a tunnel's configuration to the steps that make the machine look like it, as a pure function; and the theory.

Routes of the tunnel live in a table of its own, which a policy rule puts before the main table for everything that does
not carry the mark of our outer sockets. So a more specific route in the main table, be it from DHCP option 121 or from
a LAN that claims public addresses (TunnelCrack), pulls nothing out of the tunnel, and our own packets never loop into
it. One default route stands for a full tunnel. The rule comes last, when its table is complete.

What stays outside is a `throw` route in that table: the lookup goes on with the next rule, exactly as if there were no
tunnel. The alternative, one rule per network before ours, would be compared with every packet of the machine; routes
cost nothing, and go with the table. A family a full tunnel lacks gets an `unreachable` default instead of leaking.

Routes into the device go with it, with its addresses and with its up flag, and whoever flushes a table takes all of it.
So a second table stands behind the first one, reached by a rule of its own: it holds for every route of the first an
`unreachable` one, and the same `throw` routes. It is looked at only when the first one has nothing to say. Whatever
happens to the device or to one of the tables, nothing leaves past the tunnel, also when its process has been killed.

An inner address would answer on every interface, because Linux owns addresses as a machine (CVE-2019-14899). Rules that
come before the lookup of local addresses let it be reached from the tunnel and from this machine only, and drop what
arrives elsewhere; ARP uses the same lookup. Two properties make it safe to stand before the kernel's rule of priority
0: rules of priority 0 are spared by `ip rule flush`, and once ours are gone the kernel's rule is as it was.

Where the gateway assigned no inner address, packets in the tunnel are from the machine's own outer one. It stays on its
interface and is not guarded: the LAN goes on reaching it.

Routes of IPv4 have the scope of a route by way of a router, although there is none. The kernel resolves the next hop of
a route that names no interface by our rule as well, and only skips what is not on-link; else `ip route replace default
via ROUTER` would lead into the tunnel.

Reverse path filtering looks up the source of an incoming packet without our mark, finds the tunnel (or `unreachable`)
for the gateway's own packets, and drops them. net.ipv4.conf.all.src_valid_mark cures that only together with a firewall
that marks incoming packets. A rule does it alone: UDP to the gateway from a port that our socket holds uses the main
table. Nobody else can send from that port, so nothing else leaves by it. Only where a filter is on: port selectors make
the kernel dissect every packet it looks up. Fragments carry no ports; behind a strict filter they are dropped unless
connection tracking reassembles them first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import chain

from ikeclient.errors import NegotiationRefused
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.changes.steps import (
    LOCAL,
    MAIN,
    OURS,
    Address,
    Link,
    LocalRuleLast,
    NetlinkStep,
    Route,
    RouteKind,
    Rule,
    backstop_table,
)
from ikeclient.net.model import ANYWHERE, VERSIONS, IPAddress, IPNetwork, MachineConfig, Version

RETURN_PATH = 19990  # priorities of our rules: well before main (32766), after what administrators usually add
SPLIT = 20000  # the tunnel of a few networks comes before
FULL = 20010  # the one that takes everything; each is followed by the rule for its second table

PRIVATE: tuple[IPNetwork, ...] = (
    *map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")),  # RFC 1918, RFC 3927
    IPv6Network("fc00::/7"),  # RFC 4193
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the plan depends on: the interface as found, and the machine around it.

    `index` 0: the interface does not exist yet. `ipv6`: the kernel speaks IPv6 at all; `interface_ipv6`: it may be used
    on the interface. `lan` holds the networks other interfaces are on, `taken` the addresses they have.
    Of the networks in `lan`, `inside` holds those of containers and virtual machines: of bridges without a default
    route. `routers` are the next hops of default routes.
    `reverse_path` holds the kinds of reverse path filter in use on any of them: 1 strict, 2 loose.
    """

    index: int = 0
    mtu: int = 1500
    up: bool = False
    ipv6: bool = True
    interface_ipv6: bool = True
    lan: tuple[IPNetwork, ...] = ()
    taken: frozenset[IPAddress] = frozenset()
    inside: frozenset[IPNetwork] = frozenset()
    routers: frozenset[IPAddress] = frozenset()
    reverse_path: frozenset[int] = frozenset()


def contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    """Whether `inner` lies in `outer`; networks of two families never do."""
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)


def host(address: IPAddress) -> IPNetwork:
    """The network of just this address."""
    return ip_network(address)


def desired(
    config: MachineConfig, facts: Facts, servers: tuple[IPAddress, ...] = ()
) -> tuple[list[NetlinkStep], list[str]]:
    """The steps in the order to take them, and what a person should know. `servers` must be reached by the tunnel.

    Raises NegotiationRefused for an inner address that would cut the machine off from itself or from its neighbours.
    """
    for address in config.addresses:
        _check_inner(address.ip, facts)
    usable: set[Version] = {4, 6} if facts.interface_ipv6 and config.mtu >= 1280 else {4}  # RFC 8200 section 5
    warnings: list[str] = []
    if 6 not in usable and any(item.version == 6 for item in (*config.addresses, *config.own, *config.routes)):
        why = "the MTU is below 1280" if facts.interface_ipv6 else "IPv6 is disabled on this machine"
        warnings.append(f"no IPv6 through the tunnel: {why}")
    addresses = [address for address in config.addresses if address.version in usable]
    routes = _routes(config, facts, usable)
    to_servers = _server_routes(config, servers, routes, usable, warnings)
    routes = [route for route in routes if route[0] not in dict(to_servers)] + to_servers
    steps: list[NetlinkStep] = [
        Link(interface=config.interface, index=facts.index, mtu=config.mtu, old_mtu=facts.mtu, was_up=facts.up)
    ]
    for version in VERSIONS:
        guards = [guard for address in addresses if address.version == version for guard in _guards(config, address.ip)]
        steps += [*guards, LocalRuleLast(version=version)] if guards else []
    steps += [Address(interface=config.interface, index=facts.index, address=address) for address in addresses]
    behind = backstop_table(config.table)
    steps += [
        Route(destination=destination, table=behind, kind="throw" if kind == "throw" else "unreachable")
        for destination, kind in routes
    ]
    steps += [_step(config, facts, destination, kind) for destination, kind in routes]
    steps += _return_path(config, facts, routes, warnings)
    full = {destination.version for destination, kind in routes if destination.prefixlen == 0}
    for version in VERSIONS:
        if any(destination.version == version for destination, _ in routes):
            priority = FULL if full else SPLIT
            steps.append(Rule(version=version, priority=priority + 1, table=behind, mark=config.mark))
            steps.append(Rule(version=version, priority=priority, table=config.table, mark=config.mark))
    return steps, warnings


def _check_inner(inner: IPAddress, facts: Facts) -> None:
    """Refuse an address of the machine or its LAN: our rules drop what comes to it from there.

    A container or virtual machine may lose one, since its networks are chosen without regard to anybody's pools.
    """
    lan = next((network for network in facts.lan if inner in network and network not in facts.inside), None)
    if inner in facts.taken:
        why = "this machine has it already"
    elif inner.is_loopback or inner.is_unspecified or inner.is_multicast:
        why = "it is no address of a host"
    elif inner in facts.routers:
        why = "it is this machine's default router"
    elif lan is not None:
        why = f"it belongs to {lan}, a network that this machine is on"
    else:
        return
    raise NegotiationRefused(
        f"the inner address {inner} cannot be used",
        reason=why,
        hint="the gateway's address pool is wrong, or this network uses the same numbers: ask the administrators",
    )


def usable_servers(
    config: MachineConfig, facts: Facts, servers: tuple[IPAddress, ...]
) -> tuple[tuple[IPAddress, ...], list[str]]:
    """The name servers that are asked through the tunnel, and a warning for each that cannot be.

    A gateway could else name this machine, or a neighbour that the tunnel does not lead to.
    """
    usable, warnings = [], []
    local = {*facts.taken, *config.sources}
    local |= {end for network in facts.lan for end in (network.network_address, network.broadcast_address)}
    routes = _routes(config, facts, {4, 6})
    for server in servers:
        best = max(((net.prefixlen, kind) for net, kind in routes if contains(net, host(server))), default=(0, "throw"))
        lan = next((network for network in facts.lan if server in network), None)
        if server in local:
            warnings.append(f"the name server {server} is not used: it is an address of this machine or its network")
        elif best[1] != "unicast" and (lan is not None or server in facts.routers):
            where = f"in {lan}, a network that this machine is on" if lan is not None else "this machine's router"
            warnings.append(f"the name server {server} is not used: it is {where}, and outside the tunnel")
        else:
            usable.append(server)
    return tuple(usable), warnings


_Routes = list[tuple[IPNetwork, RouteKind]]


def _routes(config: MachineConfig, facts: Facts, usable: set[Version]) -> _Routes:
    tunnel = [
        route for route in dict.fromkeys(config.routes) if not any(contains(out, route) for out in config.exclude)
    ]
    blocked = [ANYWHERE[version] for version in VERSIONS if version in config.blocked]
    covered = [*tunnel, *blocked]
    lan = [network for network in _private(facts.lan) if config.exclude_lan and network not in tunnel]
    outside = [
        network
        for network in dict.fromkeys((*config.exclude, *lan))
        if any(contains(route, network) for route in covered)
    ]
    found: dict[IPNetwork, RouteKind] = dict.fromkeys(outside, "throw")
    for route in tunnel:
        found.setdefault(route, "unicast" if route.version in usable else "unreachable")
    for route in blocked:
        found.setdefault(route, "unreachable")
    return [(route, kind) for route, kind in found.items() if route.version == 4 or facts.ipv6]


def _private(networks: tuple[IPNetwork, ...]) -> list[IPNetwork]:
    return [network for network in networks if any(contains(private, network) for private in PRIVATE)]


def _server_routes(
    config: MachineConfig,
    servers: tuple[IPAddress, ...],
    routes: _Routes,
    usable: set[Version],
    warnings: list[str],
) -> _Routes:
    """Host routes for name servers that no route of the tunnel leads to: their traffic must not leave in the clear."""
    found: _Routes = []
    inner = {address.version for address in config.sources if address.version in usable}
    for server in servers:
        best = max(((net.prefixlen, kind) for net, kind in routes if contains(net, host(server))), default=(0, "throw"))
        if best[1] != "unicast" and server.version in inner:
            found.append((host(server), "unicast"))
            warnings.append(
                f"the name server {server} is not in a network of the tunnel; it is asked through it all the same"
            )
    return found


def _step(config: MachineConfig, facts: Facts, destination: IPNetwork, kind: RouteKind) -> Route:
    if kind != "unicast":
        return Route(destination=destination, table=config.table, kind=kind)
    source = next((address for address in config.sources if address.version == destination.version), None)
    return Route(
        destination=destination,
        table=config.table,
        kind="unicast",
        interface=config.interface,
        index=facts.index,
        source=source,
    )


def _guards(config: MachineConfig, address: IPAddress) -> Iterator[Rule]:
    for interface, table in ((config.interface, LOCAL), ("lo", LOCAL), (None, 0)):
        yield Rule(
            version=address.version,
            priority=0,
            table=table,
            protocol=OURS,
            destination=host(address),
            input_interface=interface,
        )


def _return_path(config: MachineConfig, facts: Facts, routes: _Routes, warnings: list[str]) -> list[NetlinkStep]:
    found: list[NetlinkStep] = []
    for gateway in config.gateway:
        ways = [(net.prefixlen, kind) for net, kind in routes if contains(net, host(gateway))]
        kind = max(ways)[1] if ways else "throw"
        filtered = 1 in facts.reverse_path or (2 in facts.reverse_path and kind == "unreachable")
        if gateway.version == 6 or kind == "throw" or not filtered:
            continue  # IPv6 has no such filter
        if not config.ports:
            warnings.append("reverse path filtering may drop what the gateway sends")
        found += [
            Rule(version=4, priority=RETURN_PATH, table=MAIN, destination=host(gateway), source_port=port)
            for port in config.ports
        ]
    return found


_WELL_SPREAD = tuple(map(ip_address, ("100.64.0.1", "198.18.0.1", "4000::1", "a000::1")))
_ASKED = 16  # networks


def samples(config: MachineConfig, steps: Sequence[NetlinkStep]) -> dict[Version, Iterator[IPAddress]]:
    """Addresses that the tunnel should lead to, to ask the kernel about, for each family with a route into it."""
    routes = {step.destination: step.kind for step in steps if isinstance(step, Route) and step.table == config.table}

    def enters(address: IPAddress) -> bool:
        best = max((net for net in routes if address in net), key=lambda net: net.prefixlen)
        return routes[best] == "unicast" and address not in config.sources

    found: dict[Version, Iterator[IPAddress]] = {}
    for version in VERSIONS:
        inside = [net for net, kind in routes.items() if kind == "unicast" and net.version == version]
        if inside:
            found[version] = filter(enters, chain.from_iterable(map(_somewhere_in, inside[:_ASKED])))
    return found


def _somewhere_in(network: IPNetwork) -> Iterator[IPAddress]:
    yield from (address for address in _WELL_SPREAD if address in network)
    if network.prefixlen >= 8:
        size = network.num_addresses
        yield from dict.fromkeys(network[at] for at in (min(1, size - 1), size // 2, max(size - 2, 0)))
