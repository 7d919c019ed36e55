"""ESP packets in the gateway's name, made with the keys that `--insecure-keylog` discloses (RFC 4303, RFC 4106).

A real gateway sends only what its own policies allow. This one sends anything, so that it can be seen what the client
does about it. The cipher comes straight from the library: none of our code seals what our code shall open.
"""

from __future__ import annotations

import csv
import struct
import sys
from collections.abc import Sequence
from ipaddress import ip_address

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from lab.network import CLIENT_IPV4, GATEWAY_IPV4
from lab.world import Lab

SENDER = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
    for line in sys.stdin:
        sender.sendto(bytes.fromhex(line), ("10.1.0.2", 0))
"""


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    return ~(total % 0xFFFF) & 0xFFFF


def _ipv4(source: str, destination: str, protocol: int, content: bytes) -> bytes:
    addresses = ip_address(source).packed + ip_address(destination).packed
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(content), 1, 0, 64, protocol, 0) + addresses
    return header[:10] + _checksum(header).to_bytes(2, "big") + header[12:] + content


def echo_request(source: str, destination: str) -> bytes:
    """An inner packet: a ping with the identifier 1."""
    content = struct.pack(">BBHHH", 8, 0, 0, 1, 1)
    return _ipv4(source, destination, 1, content[:2] + _checksum(content).to_bytes(2, "big") + content[4:])


def redirect(source: str, destination: str, gateway: str, about: str) -> bytes:
    """An inner packet: the host `source` says that `about` is reached through `gateway` (RFC 792)."""
    content = struct.pack(">BBH", 5, 1, 0) + ip_address(gateway).packed
    content += _ipv4(destination, about, 1, struct.pack(">BBHHH", 8, 0, 0, 1, 1))
    return _ipv4(source, destination, 1, content[:2] + _checksum(content).to_bytes(2, "big") + content[4:])


def icmpv6(source: str, destination: str, content: bytes) -> bytes:
    """An inner packet of ICMPv6 with hop limit 255, as neighbours demand it; `content` has a checksum of zero."""
    addresses = ip_address(source).packed + ip_address(destination).packed
    pseudo = addresses + struct.pack(">II", len(content), 58)
    filled = content[:2] + _checksum(pseudo + content).to_bytes(2, "big") + content[4:]
    return struct.pack(">IHBB", 6 << 28, len(content), 58, 255) + addresses + filled


def router_advertisement(source: str, destination: str, prefix: str) -> bytes:
    """An inner packet: a default router with a prefix for addresses (RFC 4861 sections 4.2 and 4.6.2)."""
    option = struct.pack(">BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + ip_address(prefix).packed
    return icmpv6(source, destination, struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + option)


class Forger:
    """Has the keys of the tunnel that is up, from the directory `keys` of the client."""

    def __init__(self, lab: Lab) -> None:
        entries = csv.reader((lab.client.directory / "keys" / "esp_sa").read_text().splitlines())
        _, _, _, spi, algorithm, key, *_ = next(entry for entry in entries if entry[1] == GATEWAY_IPV4)
        assert algorithm == "AES-GCM with 16 octet ICV [RFC4106]"
        status = lab.client.status()
        assert status is not None
        self._machine, self._port = lab.network.gateway, status["local"]["port"]
        self._spi, self._key = int(spi, 16), bytes.fromhex(key[2:])
        self._sequence = 1000

    def seal(self, inner: bytes, *, next_header: int = 4) -> bytes:
        """A genuine ESP packet with this content."""
        self._sequence += 1
        header, vector = struct.pack(">II", self._spi, self._sequence), self._sequence.to_bytes(8, "big")
        padding = -(len(inner) + 2) % 4
        plaintext = inner + bytes(range(1, padding + 1)) + bytes((padding, next_header))
        return header + vector + AESGCM(self._key[:-4]).encrypt(self._key[-4:] + vector, plaintext, header)

    def send(self, payloads: Sequence[bytes]) -> None:
        """Send ESP packets from the gateway's address and port."""
        datagrams = [struct.pack(">HHHH", 4500, self._port, 8 + len(data), 0) + data for data in payloads]
        packets = [_ipv4(GATEWAY_IPV4, CLIENT_IPV4, 17, datagram) for datagram in datagrams]
        self._machine.run(sys.executable, "-c", SENDER, stdin="".join(f"{packet.hex()}\n" for packet in packets))
