"""Inner packets and frames for the tests of segmentation and coalescing, built and taken apart independently of it."""

from __future__ import annotations

from ipaddress import ip_address
from struct import pack, unpack

V4 = ("10.88.0.1", "10.99.0.7")
V6 = ("fd88::1", "fd99::7")
NEEDS_CSUM, TCPV4, TCPV6, UDP_L4, ECN = 1, 1, 4, 5, 0x80


def checksum(data: bytes) -> int:
    """RFC 1071, the slow and obvious way."""
    data += b"\0" * (len(data) % 2)
    total = 0
    for at in range(0, len(data), 2):
        total += data[at] << 8 | data[at + 1]
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo(source: str, destination: str, protocol: int, length: int) -> bytes:
    a, b = ip_address(source), ip_address(destination)
    return (
        a.packed + b.packed + (pack(">BBH", 0, protocol, length) if a.version == 4 else pack(">II", length, protocol))
    )


def ip(transport: bytes, protocol: int, addresses: tuple[str, str] = V4, **options: int | bytes) -> bytes:
    """An IP packet; `extra` are IPv4 options or IPv6 extension headers, whose first header has the number `chain`."""
    source, destination = map(ip_address, addresses)
    extra = options.get("extra", b"")
    assert isinstance(extra, bytes)
    tos, ttl = options.get("tos", 0), options.get("ttl", 64)
    if source.version == 6:
        following = options.get("chain", protocol)
        word = 6 << 28 | int(tos) << 20 | int(options.get("label", 0))
        length = len(extra) + len(transport)
        return pack(">IHBB", word, length, following, ttl) + source.packed + destination.packed + extra + transport
    ihl = 5 + len(extra) // 4
    length = ihl * 4 + len(transport)
    flags = options.get("fragment", 0x4000)
    head = pack(">BBHHHBBH", 0x40 | ihl, tos, length, options.get("id", 100), flags, ttl, protocol, 0)
    head += source.packed + destination.packed + extra
    return head[:10] + pack(">H", checksum(head)) + head[12:] + transport


def tcp(
    payload: bytes = b"",
    *,
    sequence: int = 1000,
    flags: int = 0x10,
    acknowledgement: int = 77,
    window: int = 500,
    urgent: int = 0,
    options: bytes = b"",
    ports: tuple[int, int] = (40000, 443),
    addresses: tuple[str, str] = V4,
    partial: bool = False,
) -> bytes:
    """A TCP segment; `partial` leaves the checksum as the kernel does for an offloading device."""
    doff = 5 + len(options) // 4
    head = pack(">HHIIBBHHH", *ports, sequence, acknowledgement, doff << 4, flags, window, 0, urgent) + options
    front = pseudo(*addresses, 6, len(head) + len(payload))
    check = checksum(front) ^ 0xFFFF if partial else checksum(front + head + payload)
    return head[:16] + pack(">H", check) + head[18:] + payload


def udp(
    payload: bytes = b"",
    *,
    ports: tuple[int, int] = (40000, 443),
    addresses: tuple[str, str] = V4,
    partial: bool = False,
) -> bytes:
    head = pack(">HHHH", *ports, 8 + len(payload), 0)
    front = pseudo(*addresses, 17, 8 + len(payload))
    check = checksum(front) ^ 0xFFFF if partial else checksum(front + head + payload) or 0xFFFF
    return head[:6] + pack(">H", check) + payload


def frame(packet: bytes, *, kind: int = 0, size: int = 0, start: int = 0, offset: int = 0, flags: int = 0) -> bytes:
    """struct virtio_net_hdr and the packet; naming a `start` sets NEEDS_CSUM."""
    flags |= NEEDS_CSUM if start else 0
    return pack("<BBHHHH", flags, kind, 0, size, start, offset) + packet


def transport_is_right(packet: bytes) -> bool:
    """Whether lengths and checksums of a plain TCP or UDP packet are right."""
    if packet[0] >> 4 == 4:
        l4 = (packet[0] & 15) * 4
        if checksum(packet[:l4]) or unpack(">H", packet[2:4])[0] != len(packet):
            return False
        protocol, addresses = packet[9], packet[12:20]
    else:
        l4, protocol, addresses = 40, packet[6], packet[8:40]
        if unpack(">H", packet[4:6])[0] != len(packet) - 40:
            return False
        while protocol in (0, 43, 60):
            protocol, l4 = packet[l4], l4 + (packet[l4 + 1] + 1) * 8
    length = len(packet) - l4
    if protocol == 17 and unpack(">H", packet[l4 + 4 : l4 + 6])[0] != length:
        return False
    return checksum(addresses + pack(">II", length, protocol) + packet[l4:]) == 0
