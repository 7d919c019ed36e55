"""Which inner packets belong into a Child SA (RFC 4301 sections 5.1 and 5.2, RFC 7296 section 2.9).

A tunnel lets an authenticated gateway put any packet in front of our kernel, so what comes out of it is held against
the negotiated selectors, and so is what goes in. Address ranges are compiled into one sorted list of boundaries per
role and family; an address is inside when an odd number of boundaries lies at or below it. Addresses that no packet
on a wire can come from are cut out of the ranges beforehand, so that the usual packet costs two searches and nothing
else. The compiled module judges plain packets of TCP and UDP and pings, and leaves all others to what stands here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import TYPE_CHECKING

from ikeclient.esp.codec.choice import compiled_filter
from ikeclient.esp.packet.inner import locate_transport, of_a_neighbour
from ikeclient.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from ikeclient.esp.codec._offload import Filter

MALFORMED = 0
OUTSIDE = -1

_ipv4 = Struct(">BxHxxxxxBxxII").unpack_from
_ipv6 = Struct(">xxxxHBxQQQQ").unpack_from
_numbers = Struct(">BBHH").pack

_ICMP_TYPES = frozenset((1, 58))  # type and code stand in for a port (RFC 4301 section 4.4.1.1)
_WITH_PORTS = frozenset((6, 17, 33, 132, 136))

_Range = tuple[int, int]

# RFC 1122 section 3.2.1.3, RFC 3927 section 2.7, RFC 4291 sections 2.5.2, 2.5.3, 2.5.5.2, 2.5.6 and 2.7
_MULTICAST: dict[int, tuple[_Range, ...]] = {
    4: ((0xE0000000, 0xEFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF)),  # and broadcast
    6: ((0xFF << 120, (1 << 128) - 1),),
}
_LINK_LOCAL: dict[int, tuple[_Range, ...]] = {
    4: ((0xA9FE0000, 0xA9FEFFFF),),
    6: ((0xFE80 << 112, (0xFEC0 << 112) - 1),),
}
_NEVER_DESTINATION: dict[int, tuple[_Range, ...]] = {
    4: ((0, 0x00FFFFFF), (0x7F000000, 0x7FFFFFFF)),
    6: ((0, 1), (0xFFFF << 32, (0xFFFF << 32) + 0xFFFFFFFF)),
}
_NEVER_SOURCE = {v: (*_NEVER_DESTINATION[v], *_MULTICAST[v]) for v in (4, 6)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """One traffic selector. `version` is 4 or 6, addresses are numbers, both ends are included, `protocol` 0 is any.

    Ports 65535 to 0 are OPAQUE: they select exactly the packets whose ports cannot be seen (RFC 4301 section 4.4.1.1).
    """

    version: int
    start: int
    end: int
    protocol: int = 0
    start_port: int = 0
    end_port: int = 65535

    @property
    def any_traffic(self) -> bool:
        """Whether only the address decides."""
        return self.protocol == 0 and self.start_port == 0 and self.end_port == 65535

    @property
    def single(self) -> bool:
        """Whether this selects one address."""
        return self.start == self.end

    def selects(self, version: int, address: int, protocol: int, port: int) -> bool:
        """Whether one end of a packet is selected; `port` is -1 where the packet does not show one."""
        if self.version != version or not self.start <= address <= self.end or self.protocol not in (0, protocol):
            return False
        if self.start_port == 0 and self.end_port == 65535:
            return True
        opaque = self.start_port > self.end_port
        return port < 0 if opaque else self.start_port <= port <= self.end_port


class PacketFilter:
    """The packets of one direction of a Child SA.

    `sources` and `destinations` are the selectors of the end that sends and of the end that receives. `own` are
    addresses (version, number) that a packet of this direction cannot come from: inbound, those of this machine.

    `inbound` also keeps out what makes sense between neighbours on a link alone, which the gateway is not: link-local
    addresses, multicast and broadcast, router and neighbour discovery, redirects, and source routes. Kernels believe
    those of anybody who is close enough to send them.

    `quick` is what the compiled module has of this; None without it.
    """

    __slots__ = (
        "_destinations4",
        "_destinations6",
        "_inbound",
        "_receiving",
        "_sending",
        "_simple",
        "_sources4",
        "_sources6",
        "quick",
    )

    def __init__(
        self,
        *,
        sources: Sequence[Selector],
        destinations: Sequence[Selector],
        own: Iterable[tuple[int, int]] = (),
        inbound: bool = False,
    ) -> None:
        own = tuple(own)
        never = {v: [*_NEVER_SOURCE[v], *((address, address) for w, address in own if w == v)] for v in (4, 6)}
        nowhere = {v: list(_NEVER_DESTINATION[v]) for v in (4, 6)}
        if inbound:
            for v in (4, 6):
                never[v] += _LINK_LOCAL[v]
                nowhere[v] += (*_LINK_LOCAL[v], *_MULTICAST[v])
        self._inbound = inbound
        self._sources4 = _boundaries(sources, 4, never[4])
        self._sources6 = _boundaries(sources, 6, never[6])
        self._destinations4 = _boundaries(destinations, 4, nowhere[4])
        self._destinations6 = _boundaries(destinations, 6, nowhere[6])
        self._sending, self._receiving = tuple(sources), tuple(destinations)
        self._simple = all(s.any_traffic for s in (*sources, *destinations))
        self.quick: Filter | None = compiled_filter(
            *(_octets(edges, 4) for edges in (self._sources4, self._destinations4)),
            *(_octets(edges, 16) for edges in (self._sources6, self._destinations6)),
            *(b"" if self._simple else b"".join(map(_packed, selectors)) for selectors in (sources, destinations)),
        )

    @property
    def by_address(self) -> bool:
        """Whether nothing but a packet's addresses decides."""
        return self._simple

    def measure(self, packet: bytes | bytearray | memoryview, available: int) -> int:
        """The length of the IP packet in the first `available` bytes, or MALFORMED, or OUTSIDE the selectors.

        What follows the IP packet is traffic flow confidentiality padding and nobody's concern (RFC 4303 section 2.7).
        """
        length: int
        if self.quick is not None and (length := self.quick.measure(packet, available)):
            return length
        if available < 20:
            return MALFORMED
        first = packet[0]
        if 0x45 <= first <= 0x4F:
            first, length, protocol, source4, destination4 = _ipv4(packet)
            if not (first & 15) << 2 <= length <= available:
                return MALFORMED
            if not (bisect_right(self._sources4, source4) & bisect_right(self._destinations4, destination4) & 1):
                return OUTSIDE
            if self._inbound and (protocol not in (6, 17) or first != 0x45) and of_a_neighbour(packet[:length]):
                return OUTSIDE
            if self._simple or self._ports_match(packet[:length], 4, source4, destination4):
                return length
            return OUTSIDE
        if first >> 4 != 6 or available < 40:
            return MALFORMED
        length, protocol, high, low, high2, low2 = _ipv6(packet)
        length += 40
        if length > available or (length == 40 and protocol == 0):  # the latter: a jumbogram, RFC 2675
            return MALFORMED
        source, destination = high << 64 | low, high2 << 64 | low2
        if not (bisect_right(self._sources6, source) & bisect_right(self._destinations6, destination) & 1):
            return OUTSIDE
        if self._inbound and protocol not in (6, 17) and of_a_neighbour(packet[:length]):
            return OUTSIDE
        if self._simple or self._ports_match(packet[:length], 6, source, destination):
            return length
        return OUTSIDE

    def _ports_match(self, packet: bytes | bytearray | memoryview, version: int, source: int, destination: int) -> bool:
        protocol, offset = locate_transport(packet)
        source_port = destination_port = -1
        if 0 <= offset <= len(packet) - 4:
            if protocol in _WITH_PORTS:
                source_port = int.from_bytes(packet[offset : offset + 2], "big")
                destination_port = int.from_bytes(packet[offset + 2 : offset + 4], "big")
            elif protocol in _ICMP_TYPES:
                source_port = destination_port = int.from_bytes(packet[offset : offset + 2], "big")
        return any(s.selects(version, source, protocol, source_port) for s in self._sending) and any(
            s.selects(version, destination, protocol, destination_port) for s in self._receiving
        )


def _boundaries(selectors: Sequence[Selector], version: int, holes: Iterable[_Range]) -> list[int]:
    """Where the union of the selectors' ranges without `holes` begins and ends, in order: start, end + 1, start ..."""
    ranges = [(s.start, s.end) for s in selectors if s.version == version]
    for low, high in holes:
        ranges = [part for start, end in ranges for part in _without(start, end, low, high)]
    merged: list[list[int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end + 1)
        else:
            merged.append([start, end + 1])
    return [edge for pair in merged for edge in pair]


def _octets(boundaries: Iterable[int], width: int) -> bytes:
    """Boundaries as they are on a wire, but for the end of all addresses, which none lies behind."""
    return b"".join(edge.to_bytes(width, "big") for edge in boundaries if edge < 1 << 8 * width)


def _packed(selector: Selector) -> bytes:
    """A selector as the compiled module has it: numbers and addresses as on a wire, in places of 16 octets."""
    width = 4 if selector.version == 4 else 16
    numbers = _numbers(selector.version, selector.protocol, selector.start_port, selector.end_port)
    return numbers + b"".join(
        address.to_bytes(width, "big").ljust(16, b"\0") for address in (selector.start, selector.end)
    )


def _without(start: int, end: int, low: int, high: int) -> list[_Range]:
    if high < start or end < low:
        return [(start, end)]
    parts = []
    if start < low:
        parts.append((start, low - 1))
    if high < end:
        parts.append((high + 1, end))
    return parts
