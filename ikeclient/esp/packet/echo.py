"""ICMP echo requests as inner packets (RFC 792, RFC 4443): they ask somebody behind a tunnel for a packet back."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import pack

from ikeclient.esp.packet.inner import ICMP, ICMPV6, IPV4_HEADER, internet_checksum

_TEXT = bytes(8)


def echo_request(
    source: IPv4Address | IPv6Address,
    destination: IPv4Address | IPv6Address,
    *,
    identifier: int,
    sequence: int,
    hops: int = 64,
) -> bytes:
    """An echo request that lives for `hops` hops; both addresses are of one version."""
    if source.version == 4:
        message = bytearray(pack(">BBHHH", 8, 0, 0, identifier, sequence) + _TEXT)
        message[2:4] = internet_checksum(message).to_bytes(2, "big")
        length, addresses = IPV4_HEADER + len(message), source.packed + destination.packed
        header = bytearray(pack(">BBHHHBBH", 0x45, 0, length, 0, 0, hops, ICMP, 0) + addresses)
        header[10:12] = internet_checksum(header).to_bytes(2, "big")
        return bytes(header + message)
    message = bytearray(pack(">BBHHH", 128, 0, 0, identifier, sequence) + _TEXT)
    addresses = source.packed + destination.packed
    message[2:4] = internet_checksum(addresses + pack(">II", len(message), ICMPV6) + message).to_bytes(2, "big")
    return pack(">IHBB", 0x60000000, len(message), ICMPV6, hops) + addresses + bytes(message)
