"""IPv4 and IPv6 headers (RFC 791, RFC 8200).

Addresses are packed: 4 bytes or 16. A packet that is wrong in any way is dropped, as a host does: what claims to be
from ourselves, from nowhere or from many, a wrong header checksum, a source route, and an IPv6 option that says so.
"""

from __future__ import annotations

from ipaddress import ip_address
from struct import Struct

from ikeclient.esp.codec.sums import fold, ones_sum
from ikeclient.esp.packet.inner import IPV4_HEADER, IPV6_HEADER

TCP, UDP, ICMP, ICMPV6, FRAGMENT = 6, 17, 1, 58, 44
HOPS = 64
DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000
LONGEST = 65535

_HOP_BY_HOP, _ROUTING, _DESTINATION_OPTIONS, _NOTHING = 0, 43, 60, 59
_MOST_EXTENSIONS = 8
_SOURCE_ROUTES = frozenset((131, 137))
_pack4 = Struct(">BBHHHBBH4s4s").pack
_pack6 = Struct(">IHBB16s16s").pack
_words = Struct(">10H").unpack_from

Packet = bytes | bytearray | memoryview


def packed(address: str) -> bytes:
    """The bytes of an address. Raises ValueError for anything else."""
    return ip_address(address).packed


def presentation(address: bytes) -> str:
    """The text of packed bytes."""
    return str(ip_address(address))


def header(
    source: bytes,
    destination: bytes,
    protocol: int,
    length: int,
    *,
    tos: int = 0,
    identification: int = 0,
    flags: int = DONT_FRAGMENT,
) -> bytes:
    """The header of a packet with `length` bytes behind it; `identification` and `flags` are those of IPv4."""
    if len(source) == 16:
        return _pack6(0x60000000 | tos << 20, length, protocol, HOPS, source, destination)
    whole = IPV4_HEADER + length
    total = 0x4500 + tos + whole + identification + flags + (HOPS << 8 | protocol)
    check = fold(total + ones_sum(source) + ones_sum(destination)) ^ 0xFFFF
    return _pack4(0x45, tos, whole, identification, flags, HOPS, protocol, check, source, destination)


def pseudo_sum(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """The sum of the pseudo header, not folded (RFC 9293 section 3.1, RFC 8200 section 8.1)."""
    return ones_sum(source) + ones_sum(destination) + protocol + length


def transport_checksum(source: bytes, destination: bytes, protocol: int, message: Packet) -> int:
    """The checksum of a message whose own field is zero; of one with its checksum: 0 if that is right."""
    return fold(pseudo_sum(source, destination, protocol, len(message)) + ones_sum(message)) ^ 0xFFFF


class Parsed:
    """What a packet's header says; one such object is filled again and again.

    `offset` is where the transport header begins, `end` where the packet ends. `fragment` is None for a whole packet;
    else the part's place among the bytes behind the header, whether more follow, and the identification.
    """

    __slots__ = ("destination", "end", "fragment", "offset", "protocol", "source", "tos")

    def __init__(self) -> None:
        self.source = self.destination = b""
        self.protocol = self.offset = self.end = self.tos = 0
        self.fragment: tuple[int, bool, bytes] | None = None

    def read(self, packet: memoryview) -> bool:
        """Take what the packet says; false if it must be dropped."""
        length = len(packet)
        if length < IPV4_HEADER:
            return False
        version = packet[0] >> 4
        if version == 4:
            return self._read4(packet, length)
        return version == 6 and length >= IPV6_HEADER and self._read6(packet, length)

    def _read4(self, packet: memoryview, length: int) -> bool:
        size, end = (packet[0] & 15) * 4, packet[2] << 8 | packet[3]
        if not IPV4_HEADER <= size <= end <= length:
            return False
        if size == IPV4_HEADER:
            if sum(_words(packet)) % 0xFFFF:
                return False
        elif ones_sum(packet[:size]) != 0xFFFF or _source_route(packet[IPV4_HEADER:size]):
            return False
        self.tos, self.protocol, self.offset, self.end = packet[1], packet[9], size, end
        self.source, self.destination = bytes(packet[12:16]), bytes(packet[16:20])
        place = packet[6] << 8 | packet[7]
        self.fragment = None
        if place & ~DONT_FRAGMENT & 0xFFFF:
            self.fragment = (place & 0x1FFF) * 8, bool(place & MORE_FRAGMENTS), bytes(packet[4:6])
        first = self.source[0]
        return first not in (0, 127) and first < 224 and self.source != self.destination

    def _read6(self, packet: memoryview, length: int) -> bool:
        end = IPV6_HEADER + (packet[4] << 8 | packet[5])
        if end > length:
            return False
        self.tos, self.offset, self.end, self.fragment = (packet[0] & 15) << 4 | packet[1] >> 4, IPV6_HEADER, end, None
        self.source, self.destination = bytes(packet[8:24]), bytes(packet[24:40])
        self.protocol = following = packet[6]
        if following not in (TCP, UDP, ICMPV6) and not self._skip_extensions(packet, following):
            return False
        return self.source[0] != 0xFF and self.source[:15] != bytes(15) and self.source != self.destination

    def _skip_extensions(self, packet: memoryview, following: int) -> bool:
        """Go behind extension headers, as far as a fragment's (RFC 8200 section 4)."""
        offset, end = self.offset, self.end
        for _ in range(_MOST_EXTENSIONS):
            if following not in (_HOP_BY_HOP, _ROUTING, FRAGMENT, _DESTINATION_OPTIONS):
                self.protocol, self.offset = following, offset
                return following != _NOTHING
            if offset + 8 > end:
                return False
            kind, following = following, packet[offset]
            size = 8 if kind == FRAGMENT else (packet[offset + 1] + 1) * 8
            if offset + size > end:
                return False
            if kind == FRAGMENT:
                place = packet[offset + 2] << 8 | packet[offset + 3]
                if place & 0xFFF9:
                    name = bytes(packet[offset + 4 : offset + 8])
                    self.fragment = place & 0xFFF8, bool(place & 1), name
                    self.protocol, self.offset = following, offset + size
                    return True
                # One that is the whole packet is none (RFC 6946).
            elif kind == _ROUTING:
                if packet[offset + 3]:  # somebody else is to be visited, which is a router's work
                    return False
            elif not _options_pass(packet[offset + 2 : offset + size]):
                return False
            offset += size
        return False


def _source_route(options: memoryview) -> bool:
    at = 0
    while at < len(options) and options[at]:
        if options[at] in _SOURCE_ROUTES:
            return True
        if options[at] == 1:
            at += 1
        elif at + 1 < len(options) and options[at + 1] >= 2:
            at += options[at + 1]
        else:
            return True  # it cannot be told
    return False


def _options_pass(options: memoryview) -> bool:
    """Whether a packet with these options may be taken: the two highest bits of an unknown one decide."""
    at = 0
    while at < len(options):
        kind = options[at]
        if not kind:
            at += 1
            continue
        if at + 1 == len(options) or at + 2 + options[at + 1] > len(options) or kind & 0xC0:
            return False
        at += 2 + options[at + 1]
    return True
