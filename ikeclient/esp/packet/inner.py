"""Where the transport header of an inner packet begins, and the Internet checksum.

Everything here is fed by the gateway or by programs on this machine, so every length is checked before it is believed,
and the walk along IPv6 extension headers is bounded.
"""

from __future__ import annotations

import sys
from array import array

IPV4_HEADER = 20
IPV6_HEADER = 40

ICMP = 1
IGMP = 2
TCP = 6
ICMPV6 = 58

_EXTENSIONS = frozenset((0, 43, 44, 51, 60))  # hop-by-hop, routing, fragment, AH, destination options
_MAX_EXTENSIONS = 8
_NEIGHBOURS_ICMP = frozenset((5, 9, 10))  # redirect, router advertisement and solicitation
_NEIGHBOURS_ICMPV6 = frozenset((133, 134, 135, 136, 137, 141, 142))  # RFC 4861, inverse discovery (RFC 3122)
_SOURCE_ROUTES = frozenset((131, 137))  # loose and strict


def locate_transport(packet: bytes | bytearray | memoryview) -> tuple[int, int]:
    """The protocol of the transport header and its offset.

    The offset is -1 where there is no such header to look at: in later fragments and in packets that make no sense. The
    protocol is then the best that can be said.
    """
    if len(packet) < IPV4_HEADER:
        return 0, -1
    match packet[0] >> 4:
        case 4:
            offset = (packet[0] & 15) * 4
            first = not ((packet[6] & 0x1F) or packet[7])
            return packet[9], offset if first and IPV4_HEADER <= offset <= len(packet) else -1
        case 6 if len(packet) >= IPV6_HEADER:
            return _walk_extensions(packet)
        case _:
            return 0, -1


def _walk_extensions(packet: bytes | bytearray | memoryview) -> tuple[int, int]:
    header, offset = packet[6], IPV6_HEADER
    for _ in range(_MAX_EXTENSIONS):
        if header not in _EXTENSIONS:
            return header, offset if offset <= len(packet) else -1
        if offset + 8 > len(packet):
            return header, -1
        following, length = packet[offset], packet[offset + 1]
        match header:
            case 44:  # the fragment header
                if packet[offset + 2] or packet[offset + 3] & 0xF8:
                    return following, -1
                offset += 8
            case 51:  # AH counts words, less two
                offset += (length + 2) * 4
            case _:
                offset += (length + 1) * 8
        header = following
    return header, -1


def of_a_neighbour(packet: bytes | bytearray | memoryview) -> bool:
    """Whether only a neighbour on the same link may send this, or the sender says which way it shall go.

    Those are router and neighbour discovery, redirects, IGMP, and source routes over IPv4 (RFC 792, RFC 1256, RFC 3376,
    RFC 4861, RFC 7126 section 4.3). So is a chain of IPv6 extension headers that does not end where it can be followed.
    """
    protocol, offset = locate_transport(packet)
    if packet[0] >> 4 == 4:
        if protocol == IGMP or (packet[0] > 0x45 and _source_route(packet)):
            return True
        return protocol == ICMP and 0 <= offset < len(packet) and packet[offset] in _NEIGHBOURS_ICMP
    if protocol == ICMPV6:
        return 0 <= offset < len(packet) and packet[offset] in _NEIGHBOURS_ICMPV6
    return protocol in _EXTENSIONS


def _source_route(packet: bytes | bytearray | memoryview) -> bool:
    at, end = IPV4_HEADER, min((packet[0] & 15) * 4, len(packet))
    while at < end and packet[at]:
        if packet[at] in _SOURCE_ROUTES:
            return True
        if packet[at] == 1:
            at += 1
        elif at + 1 < end and packet[at + 1] >= 2:
            at += packet[at + 1]
        else:
            return False
    return False


def internet_checksum(data: bytes | bytearray | memoryview) -> int:
    """The checksum of RFC 1071 as the number that goes into the packet, most significant byte first.

    Sums in the machine's byte order and swaps the folded result, which the ones' complement sum allows.
    """
    words = array("H", bytes(data) + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int.from_bytes((total ^ 0xFFFF).to_bytes(2, sys.byteorder), "big")
