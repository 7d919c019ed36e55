"""Inner packets for the ESP tests, made without any code of the package, checksums included."""

from __future__ import annotations

from ipaddress import ip_address
from struct import pack

VIP4, HOST4 = "10.88.0.1", "10.99.0.7"
VIP6, HOST6 = "fd88::1", "fd99::7"


def number(address: str) -> int:
    return int(ip_address(address))


def ones_complement_sum(data: bytes) -> int:
    """The sum of RFC 1071 word by word, as slow and as plain as it gets; a correct packet sums to 0xffff."""
    total = 0
    for i in range(0, len(data), 2):
        total += (data[i] << 8) | (data[i + 1] if i + 1 < len(data) else 0)
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ipv4(
    payload: bytes,
    *,
    source: str = HOST4,
    destination: str = VIP4,
    protocol: int = 17,
    flags_offset: int = 0x4000,
    options: bytes = b"",
    ttl: int = 64,
) -> bytes:
    words = 5 + len(options) // 4
    header = bytearray(
        pack(">BBHHHBBH", 0x40 | words, 0, words * 4 + len(payload), 7, flags_offset, ttl, protocol, 0)
        + ip_address(source).packed
        + ip_address(destination).packed
        + options
    )
    header[10:12] = (0xFFFF - ones_complement_sum(header)).to_bytes(2, "big")
    return bytes(header) + payload


def ipv6(
    payload: bytes, *, source: str = HOST6, destination: str = VIP6, next_header: int = 17, hop_limit: int = 64
) -> bytes:
    header = pack(">IHBB", 6 << 28, len(payload), next_header, hop_limit)
    return header + ip_address(source).packed + ip_address(destination).packed + payload


def udp(payload: bytes = b"payload", source_port: int = 53, destination_port: int = 5353) -> bytes:
    return pack(">HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def pseudo_header(source: str, destination: str, protocol: int, length: int) -> bytes:
    return ip_address(source).packed + ip_address(destination).packed + pack(">II", length, protocol)


def tcp(
    options: bytes = b"",
    *,
    flags: int = 0x02,
    source: str = HOST4,
    destination: str = VIP4,
    source_port: int = 443,
    destination_port: int = 40000,
    payload: bytes = b"",
) -> bytes:
    assert len(options) % 4 == 0
    header = pack(">HHIIBBHHH", source_port, destination_port, 1, 2, (5 + len(options) // 4) << 4, flags, 64240, 0, 0)
    segment = bytearray(header + options + payload)
    checksum = 0xFFFF - ones_complement_sum(pseudo_header(source, destination, 6, len(segment)) + segment)
    segment[16:18] = checksum.to_bytes(2, "big")
    return bytes(segment)


def tcp_checksum_holds(packet: bytes, offset: int, source: str, destination: str) -> bool:
    segment = packet[offset:]
    return ones_complement_sum(pseudo_header(source, destination, 6, len(segment)) + segment) == 0xFFFF
