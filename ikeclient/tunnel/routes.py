"""Which networks go through the tunnel, which stay outside, and which must not leave past it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, collapse_addresses
from itertools import chain, islice

from ikeclient.errors import NegotiationRefused
from ikeclient.ike.events import Configuration
from ikeclient.net.model import ANYWHERE, VERSIONS, IPNetwork, Version
from ikeclient.profile.compiled import NetworkSettings
from ikeclient.wire.selector import TrafficSelector

MAX_ROUTES = 256
_BROADCAST = IPv4Address("255.255.255.255")
_NAMED = 8  # networks in a warning
MAX_PARTS = 2048  # networks that the selectors' ranges consist of, before neighbours are joined


def routes_into(selectors: Sequence[TrafficSelector], families: Collection[int]) -> tuple[IPNetwork, ...]:
    """The networks that the negotiated selectors let through, for the families we have an inner address of.

    Raises NegotiationRefused for ranges that consist of so many that the event loop would stand still.
    """
    parts = chain.from_iterable(selector.networks() for selector in selectors if selector.version in families)
    networks = list(islice(parts, MAX_PARTS + 1))
    if len(networks) > MAX_PARTS:
        raise _too_many(f"more than {MAX_PARTS}")
    return _collapsed(network for network in networks if not network.is_loopback)


def require_routes(routes: Sequence[IPNetwork], remote: Sequence[TrafficSelector]) -> None:
    """Raise NegotiationRefused if there is no route, or so many that they would flood the routing table.

    `remote` are the selectors that they were made of.
    """
    if not routes:
        raise NegotiationRefused(
            "nothing would go through the tunnel",
            reason=f"the gateway lets only {', '.join(map(str, remote[:4]))} through, for which there is no address",
            hint="this is for the gateway's administrator: addresses and traffic selectors are of different families",
        )
    if len(routes) > MAX_ROUTES:
        raise _too_many(str(len(routes)))


def narrowed(network: NetworkSettings, routes: Sequence[IPNetwork]) -> str | None:
    """What to say if the gateway carries less than the profile asks for (RFC 7296 section 2.9), None if it does not.

    A family that it does not carry at all is one that it gave no address of.
    """
    if network.routes == "gateway":
        return None
    if network.routes == "all":
        short = [route for route in routes if ANYWHERE[route.version] not in routes]
        return f"the gateway carries only {some(short)}, not everything: the rest is unreachable" if short else None
    carried = set(routes)
    missing = [each for each in network.routes if carried.isdisjoint((each, *_around(each)))]
    return f"the gateway does not carry all of {some(missing)}: the rest stays outside the tunnel" if missing else None


def _around(network: IPNetwork) -> Iterator[IPNetwork]:
    return (network.supernet(new_prefix=length) for length in range(network.prefixlen))


def some(values: Sequence[object], most: int = _NAMED) -> str:
    """The first of the values for a warning, and how many there are besides."""
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more


def _too_many(count: str) -> NegotiationRefused:
    return NegotiationRefused(
        f"the gateway's traffic selectors make {count} routes",
        reason=f"at most {MAX_ROUTES} are accepted",
        hint="list the networks you need in [network] routes",
    )


def _collapsed(networks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    networks = list(networks)
    v4 = collapse_addresses(n for n in networks if isinstance(n, IPv4Network))
    v6 = collapse_addresses(n for n in networks if isinstance(n, IPv6Network))
    return (*v4, *v6)


def split_by_gateway(
    network: NetworkSettings, configuration: Configuration, routes: Sequence[IPNetwork]
) -> tuple[tuple[IPNetwork, ...], frozenset[Version]]:
    """The routes with the gateway's list of subnets in place of "everything", and the families of which that is so.

    A gateway whose selectors let everything through and which names its subnets wants those in the tunnel and does not
    mind the rest outside (RFC 7296 section 3.15.2). What the profile says counts more.
    """
    if network.routes != "gateway":
        return tuple(routes), frozenset()
    kept: list[IPNetwork] = []
    split: set[Version] = set()
    for route in routes:
        listed = [subnet for subnet in configuration.subnets if subnet.version == route.version]
        if route in ANYWHERE.values() and listed and route not in listed:
            kept += listed
            split.add(route.version)
        else:
            kept.append(route)
    return _collapsed(kept), frozenset(split)


def of_the_link(network: IPNetwork) -> bool:
    """Whether it is inside of what is never routed: link-local networks, multicast and the broadcast address.

    Clouds answer below 169.254.0.0/16 with credentials of the machine, and a gateway has no business there.
    """
    end = network.network_address, network.broadcast_address
    return all(each.is_link_local or each.is_multicast or each == _BROADCAST for each in end)


def blocked_families(
    network: NetworkSettings, routes: Sequence[IPNetwork], split: Collection[Version] = ()
) -> frozenset[Version]:
    """The families that must not leave the machine past a full tunnel because the tunnel does not carry them.

    Those in `split` the gateway wants outside but for the subnets that it named.
    """
    carried = {version for version in VERSIONS if ANYWHERE[version] in routes}
    if network.routes == "all" or carried:
        return frozenset(version for version in VERSIONS if version not in carried and version not in split)
    return frozenset()
