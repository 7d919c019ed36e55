"""Packets of ours that are longer than the path carries, in fragments (RFC 791 section 3.2, RFC 8200 section 4.5)."""

from __future__ import annotations

from struct import pack

from ikeclient.esp.packet.inner import IPV4_HEADER, IPV6_HEADER
from ikeclient.stack.ip.header import FRAGMENT, MORE_FRAGMENTS, header

_FRAGMENT_HEADER = 8


def fragments(packet: bytes, mtu: int, identification: int) -> list[bytes]:
    """The packet in parts of at most `mtu` bytes; `identification` has 32 bits, of which IPv4 uses 16.

    It has a plain header, and over IPv4 it may be fragmented.
    """
    if len(packet) <= mtu:
        return [packet]
    if packet[0] >> 4 == 4:
        source, destination, protocol, tos = packet[12:16], packet[16:20], packet[9], packet[1]
        data, room = packet[IPV4_HEADER:], mtu - IPV4_HEADER & ~7
    else:
        source, destination, protocol = packet[8:24], packet[24:40], packet[6]
        tos = (packet[0] & 15) << 4 | packet[1] >> 4
        data, room = packet[IPV6_HEADER:], mtu - IPV6_HEADER - _FRAGMENT_HEADER & ~7
    found = []
    for at in range(0, len(data), room):
        part, more = data[at : at + room], at + room < len(data)
        if len(source) == 4:
            flags = at >> 3 | (MORE_FRAGMENTS if more else 0)
            number = identification & 0xFFFF
            head = header(source, destination, protocol, len(part), tos=tos, identification=number, flags=flags)
        else:
            head = header(source, destination, FRAGMENT, _FRAGMENT_HEADER + len(part), tos=tos)
            head += pack(">BBHI", protocol, 0, at | more, identification)
        found.append(head + part)
    return found
