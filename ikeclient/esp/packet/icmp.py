"""The answer to a packet that is too long for the tunnel (RFC 792, RFC 1191, RFC 4443, RFC 4459 section 3.1).

The tunnel is a router one hop away that has no address of its own, so the answer comes from the address the packet
was going to: the kernel finds the connection by the packet quoted inside, and takes the answer as one that the
tunnel's routes allow.
"""

from __future__ import annotations

from struct import pack

from ikeclient.esp.packet.inner import ICMP, ICMPV6, IPV4_HEADER, IPV6_HEADER, internet_checksum, locate_transport

_MAX_IPV4_ERROR = 576  # RFC 1812 section 4.3.2.3
_MAX_IPV6_ERROR = 1280  # RFC 4443 section 2.4 (c)
_IPV4_INFORMATIONAL = frozenset((0, 8, 13, 14, 15, 16, 17, 18))
_HOP_LIMIT = 64


def too_big(packet: bytes | bytearray | memoryview, mtu: int) -> bytes | None:
    """The ICMP message that tells the sender of `packet` to send at most `mtu` bytes.

    None where the standards forbid one, or where it would say nothing: IPv4 without "don't fragment", later
    fragments, ICMP errors, multicast, unusable source addresses, and packets that are no whole IP header.
    """
    if len(packet) >= IPV4_HEADER and 0x45 <= packet[0] <= 0x4F:
        return _fragmentation_needed(bytes(packet[:_MAX_IPV4_ERROR]), mtu)
    if len(packet) >= IPV6_HEADER and packet[0] >> 4 == 6:
        return _packet_too_big(bytes(packet[:_MAX_IPV6_ERROR]), mtu)
    return None


def _fragmentation_needed(packet: bytes, mtu: int) -> bytes | None:
    source, destination = packet[12:16], packet[16:20]
    may_fragment, offset = not packet[6] & 0x40, int.from_bytes(packet[6:8], "big") & 0x1FFF
    if may_fragment or offset or source[0] in (0, 127) or source[0] >= 224 or destination[0] >= 224:
        return None
    protocol, transport = locate_transport(packet)
    if protocol == ICMP and (transport < 0 or len(packet) <= transport or packet[transport] not in _IPV4_INFORMATIONAL):
        return None
    quoted = packet[: _MAX_IPV4_ERROR - IPV4_HEADER - 8]
    message = bytearray(pack(">BBHHH", 3, 4, 0, 0, min(mtu, 0xFFFF)) + quoted)
    message[2:4] = internet_checksum(message).to_bytes(2, "big")
    header = bytearray(
        pack(">BBHHHBBH4s4s", 0x45, 0xC0, IPV4_HEADER + len(message), 0, 0, _HOP_LIMIT, ICMP, 0, destination, source)
    )
    header[10:12] = internet_checksum(header).to_bytes(2, "big")
    return bytes(header + message)


def _packet_too_big(packet: bytes, mtu: int) -> bytes | None:
    # A multicast destination does not forbid this one message (RFC 4443 section 2.4 (e.3)), but it cannot be its
    # source.
    source, destination = packet[8:24], packet[24:40]
    if source[0] == 0xFF or destination[0] == 0xFF or int.from_bytes(source, "big") <= 1:
        return None
    protocol, transport = locate_transport(packet)
    if protocol == ICMPV6 and (transport < 0 or len(packet) <= transport or packet[transport] < 128):
        return None
    quoted = packet[: _MAX_IPV6_ERROR - IPV6_HEADER - 8]
    message = bytearray(pack(">BBHI", 2, 0, 0, mtu) + quoted)
    pseudo_header = destination + source + pack(">II", len(message), ICMPV6)
    message[2:4] = internet_checksum(pseudo_header + message).to_bytes(2, "big")
    header = pack(">IHBB", 0x60000000, len(message), ICMPV6, _HOP_LIMIT) + destination + source
    return header + bytes(message)
