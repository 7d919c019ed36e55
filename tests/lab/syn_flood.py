"""Floods of TCP segments from inside a tunnel, run as a program in a machine of the lab behind the gateway.

syn_flood HOST PORT SYNS STRAYS

It opens a connection to an echo server, sends so many SYNs from addresses that do not exist, and opens a second
connection in their midst. Then it sends so many segments to the first one that lie outside of its window: with RST, SYN
and plain acknowledgements. Both connections have to answer all along; "ok" is the last word.
"""

from __future__ import annotations

import random
import socket
import sys
from struct import pack

from ikeclient.stack.ip.header import TCP, header, packed, transport_checksum
from ikeclient.stack.tcp.segment import ACK, RST, SYN

SPOOFED = "10.99.0.0/24"  # whence the gateway leads into the tunnel


def _packet(source: tuple[str, int], destination: tuple[str, int], flags: int) -> bytes:
    numbers = random.getrandbits(32), 0 if flags == SYN else random.getrandbits(32)
    head = pack(">HHIIBBHHH", source[1], destination[1], *numbers, 0x50, flags, 65535, 0, 0)
    addresses = packed(source[0]), packed(destination[0])
    check = transport_checksum(*addresses, TCP, head)
    return header(*addresses, TCP, len(head)) + head[:16] + pack(">H", check) + head[18:]


def _says(connection: socket.socket, word: bytes) -> None:
    connection.sendall(word)
    if connection.recv(100) != word:
        sys.exit(f"no echo of {word!r}")


def main(host: str, port: int, syns: int, strays: int) -> None:
    there = host, port
    with socket.create_connection(there, 10) as first, socket.socket(socket.AF_INET, socket.SOCK_RAW, 255) as raw:
        _says(first, b"before")
        for number in range(syns):
            source = f"{SPOOFED.rpartition('.')[0]}.{100 + number % 50}", 1024 + number // 50
            raw.sendto(_packet(source, there, SYN), there)
            if number == syns // 2:
                with socket.create_connection(there, 10) as second:
                    _says(second, b"in the midst")
        _says(first, b"after the first flood")
        for number in range(strays):
            raw.sendto(_packet(first.getsockname(), there, (RST, SYN, ACK)[number % 3]), there)
        _says(first, b"after the second flood")
        with socket.create_connection(there, 10) as third:
            _says(third, b"after all")
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
