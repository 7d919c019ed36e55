"""Traffic selector narrowing, as the side that asked sees it (RFC 7296 section 2.9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

from ikeclient.errors import ProtocolError
from ikeclient.wire.selector import TrafficSelector

MAX_SELECTORS = 255  # their number travels in one byte
MAX_WORK = 4096  # selectors that are taken away from others, and pieces that this leaves, for one answer
OPAQUE = (65535, 0)  # ports that cannot be seen
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

    If the offer is so fragmented that a payload cannot hold all of it, the rest is left out: that is narrowing too.
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


def covers(selectors: Sequence[TrafficSelector], needed: Iterable[TrafficSelector]) -> bool:
    """Whether `selectors`, all together, select everything that `needed` does (RFC 7296 section 2.9.2).

    They may be split differently. A list too fragmented to be judged with bounded work counts as not covering.
    """
    ranges = [(one.version, int(one.start), int(one.end), one) for one in selectors]
    ranges.sort(key=lambda each: each[:3])  # so that selectors which do not overlap leave one piece each
    work = 0
    for wanted in needed:
        version, start, end = wanted.version, int(wanted.start), int(wanted.end)
        missing = [wanted]
        for selector in [one for of, low, high, one in ranges if low <= end and start <= high and of == version]:
            work += len(missing)
            if not missing or work > MAX_WORK:
                break
            missing = [rest for each in missing for rest in _without(each, selector)]
        if missing:
            return False
    return True


def _without(one: TrafficSelector, other: TrafficSelector) -> tuple[TrafficSelector, ...]:
    """What `one` selects and `other` does not; all of `one` if a selector cannot say what is left."""
    if other.contains(one):
        return ()
    common = _common(one, other)
    if common is None or common.protocol != one.protocol or OPAQUE in (_ports(one), _ports(other)):
        return (one,)
    family = type(one.start)
    pieces = []
    if one.start < common.start:  # type: ignore[operator]
        pieces.append(replace(one, end=family(int(common.start) - 1)))
    if common.end < one.end:  # type: ignore[operator]
        pieces.append(replace(one, start=family(int(common.end) + 1)))
    if one.start_port < common.start_port:
        pieces.append(replace(common, start_port=one.start_port, end_port=common.start_port - 1))
    if common.end_port < one.end_port:
        pieces.append(replace(common, start_port=common.end_port + 1, end_port=one.end_port))
    return tuple(pieces)


def _ports(selector: TrafficSelector) -> tuple[int, int]:
    return selector.start_port, selector.end_port


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
