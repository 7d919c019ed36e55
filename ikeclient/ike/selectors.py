"""Traffic selector narrowing, as the side that asked sees it (RFC 7296 section 2.9)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_network

from ikeclient.errors import ProtocolError
from ikeclient.wire.selector import TrafficSelector

MAX_SELECTORS = 255  # their number travels in one byte

ANY_IPV4 = TrafficSelector.from_network(ip_network("0.0.0.0/0"))
ANY_IPV6 = TrafficSelector.from_network(ip_network("::/0"))


def check_narrowed(name: str, asked: Sequence[TrafficSelector], answer: Sequence[TrafficSelector]) -> None:
    """Raise `ProtocolError` unless each selector in the answer lies inside one that was asked for."""
    if len(answer) > MAX_SELECTORS:
        raise ProtocolError(f"{len(answer)} selectors in {name}")
    for selector in answer:
        if not any(wanted.contains(selector) for wanted in asked):
            raise ProtocolError(f"{name} {selector} is wider than what was asked for")


def check_covers(
    answer: Sequence[TrafficSelector],
    addresses: Sequence[IPv4Interface | IPv6Interface | IPv4Address | IPv6Address],
) -> None:
    """Raise `ProtocolError` if addresses were assigned and none of them lies inside TSi.

    One of several is enough: a gateway may assign an IPv6 address and let only IPv4 through.
    """
    plain = [a.ip if isinstance(a, IPv4Interface | IPv6Interface) else a for a in addresses]
    covered = (s.version == a.version and int(s.start) <= int(a) <= int(s.end) for a in plain for s in answer)
    if plain and not any(covered):
        raise ProtocolError(f"TSi does not contain the assigned address {plain[0]}")


def intersect(ours: Sequence[TrafficSelector], theirs: Sequence[TrafficSelector]) -> tuple[TrafficSelector, ...]:
    """What both sides select, as a responder narrows an offer; empty when nothing is in common.

    Where the offer is so fragmented that a payload cannot hold all of it, the rest is left out: that is narrowing too.
    """
    result: dict[TrafficSelector, None] = {}
    for one_of_theirs in theirs:
        for one_of_ours in ours:
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
    start_port, end_port = max(a.start_port, b.start_port), min(a.end_port, b.end_port)
    if start > end or start_port > end_port:
        return None
    family = type(a.start)
    return TrafficSelector(
        start=family(start),
        end=family(end),
        protocol=a.protocol or b.protocol,
        start_port=start_port,
        end_port=end_port,
    )
