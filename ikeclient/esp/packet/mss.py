"""Lowering the maximum segment size that TCP ends announce to each other (RFC 9293 section 3.7.1, RFC 4459).

Path MTU discovery through a tunnel dies wherever ICMP is filtered; connections then open and hang. The MSS option of
a SYN is the one place where both ends can be told in time. A packet that is not plainly a TCP SYN with an MSS option
above the limit goes through unchanged: to judge malformed packets is the business of those they are addressed to.
"""

from __future__ import annotations

from typing import TypeAlias

from ikeclient.esp.packet.inner import TCP, locate_transport

Packet: TypeAlias = bytes | bytearray | memoryview

_SYN = 0x02
_END, _NO_OPERATION, _MSS = 0, 1, 2


def clamp_batch(packets: list[Packet], limit4: int, limit6: int) -> None:
    """Lower the MSS in every TCP SYN of `packets` to `limit4` or `limit6`; replaces the changed ones in the list.

    The packets are whole IP packets: at least as long as their IP header says.
    """
    for index, packet in enumerate(packets):
        if (clamped := clamp_one(packet, limit4, limit6)) is not packet:
            packets[index] = clamped


def clamp_one(packet: Packet, limit4: int, limit6: int) -> Packet:
    """As `clamp_batch`, for one packet: itself, or the one to use instead."""
    first = packet[0]
    if first == 0x45:
        if packet[9] == TCP and len(packet) >= 44 and packet[33] & _SYN:
            return clamp(packet, limit4)
    elif first >> 4 == 6:
        # anything but a plain transport header gets the long look, because extension headers may lead to TCP
        if (next_header := packet[6]) == TCP:
            if len(packet) >= 64 and packet[53] & _SYN:
                return clamp(packet, limit6)
        elif next_header not in (17, 58):
            return clamp(packet, limit6)
    elif packet[9] == TCP:
        return clamp(packet, limit4)
    return packet


def clamp(packet: Packet, limit: int) -> Packet:
    """The packet with its MSS option lowered to `limit` and the checksum corrected, or the same object unchanged."""
    protocol, tcp = locate_transport(packet)
    if protocol != TCP or tcp < 0 or len(packet) < tcp + 20 or not packet[tcp + 13] & _SYN:
        return packet
    end = tcp + (packet[tcp + 12] >> 4) * 4
    if end > len(packet):
        return packet
    at = find_option(packet, _MSS, tcp + 20, end)
    return _lowered(packet, at, tcp, limit) if 0 <= at <= end - 4 and packet[at + 1] == 4 else packet


def find_option(packet: Packet, kind: int, at: int, end: int) -> int:
    """Where the first TCP option of a kind begins, among those from `at` to `end`; -1 where there is none."""
    while at < end and (found := packet[at]) != _END:
        if found == kind:
            return at
        if found == _NO_OPERATION:
            at += 1
        elif at + 1 == end or packet[at + 1] < 2:
            return -1
        else:
            at += packet[at + 1]
    return -1


def _lowered(packet: Packet, at: int, tcp: int, limit: int) -> Packet:
    old = packet[at + 2] << 8 | packet[at + 3]
    if old <= limit:
        return packet
    changed = bytearray(packet)
    changed[at + 2 : at + 4] = limit.to_bytes(2, "big")
    # RFC 1624 equation 3. Behind an odd number of one-byte options the value straddles two words of the sum, which is
    # the same as adding it with its bytes swapped.
    new = limit
    if (at - tcp) % 2:
        old, new = _swapped(old), _swapped(new)
    checksum = packet[tcp + 16] << 8 | packet[tcp + 17]
    total = (checksum ^ 0xFFFF) + (old ^ 0xFFFF) + new
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    changed[tcp + 16 : tcp + 18] = (total ^ 0xFFFF).to_bytes(2, "big")
    return changed


def _swapped(word: int) -> int:
    return (word & 0xFF) << 8 | word >> 8
