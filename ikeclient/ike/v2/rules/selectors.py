"""Traffic selector narrowing, as the side that asked sees it (RFC 7296 section 2.9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network

from ikeclient.errors import ProtocolError
from ikeclient.wire.selector import TrafficSelector

MAX_SELECTORS = 255  # their number travels in one byte
_ANY_PORT = (0, 65535)

ANY_IPV4 = TrafficSelector.from_network(ip_network("0.0.0.0/0"))
ANY_IPV6 = TrafficSelector.from_network(ip_network("::/0"))


def hosts(addresses: Iterable[IPv4Address | IPv6Address]) -> tuple[TrafficSelector, ...]:
    """The selectors of single addresses."""
    return tuple(TrafficSelector.from_network(ip_network(address)) for address in addresses)


def narrowed(
    name: str, asked: Sequence[TrafficSelector], answer: Sequence[TrafficSelector]
) -> tuple[TrafficSelector, ...]:
    """The part of an answer that was asked for.

    A gateway may answer with its whole policy; more than was asked for is not taken. Raises `ProtocolError` if nothing
    is left.
    """
    if len(answer) > MAX_SELECTORS:
        raise ProtocolError(f"{len(answer)} selectors in {name}")
    common = intersect(asked, answer)
    if not common:
        more = f" and {len(answer) - 1} more" if len(answer) > 1 else ""
        raise ProtocolError(f"{name} {answer[0]}{more} has nothing of what was asked for")
    return common


def intersect(ours: Sequence[TrafficSelector], theirs: Sequence[TrafficSelector]) -> tuple[TrafficSelector, ...]:
    """What both sides select, as a responder narrows an offer; empty when nothing is in common.

    Where the offer is so fragmented that a payload cannot hold all of it, the rest is left out: that is narrowing too.
    """
    result: dict[TrafficSelector, None] = {}
    ranges = [(one.version, int(one.start), int(one.end), one) for one in ours]
    for one_of_theirs in theirs:
        # Both lists may be long, and few pairs have an address in common: the others must cost next to nothing.
        version, start, end = one_of_theirs.version, int(one_of_theirs.start), int(one_of_theirs.end)
        near = [one for of, low, high, one in ranges if low <= end and start <= high and of == version]
        for one_of_ours in near:
            common = _common(one_of_ours, one_of_theirs)
            if common is not None:
                result[common] = None
            if len(result) == MAX_SELECTORS:
                return tuple(result)
    return tuple(result)


def _common(a: TrafficSelector, b: TrafficSelector) -> TrafficSelector | None:
    if a.version != b.version or (a.protocol and b.protocol and a.protocol != b.protocol):
        return None
    start, end = max(int(a.start), int(b.start)), min(int(a.end), int(b.end))
    ports = _common_ports((a.start_port, a.end_port), (b.start_port, b.end_port))
    if start > end or ports is None:
        return None
    family = type(a.start)
    return TrafficSelector(
        start=family(start),
        end=family(end),
        protocol=a.protocol or b.protocol,
        start_port=ports[0],
        end_port=ports[1],
    )


def _common_ports(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int] | None:
    """OPAQUE, which is a range backwards, has something in common with itself and with every port."""
    if a in (_ANY_PORT, b):
        return b
    if b == _ANY_PORT:
        return a
    start, end = max(a[0], b[0]), min(a[1], b[1])
    return (start, end) if start <= end else None
