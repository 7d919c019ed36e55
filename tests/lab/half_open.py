"""One IKE_SA_INIT request that nobody follows up, to make charon count a half-open SA.

charon asks for cookies only while such SAs exist (`cookie_threshold` counts them), so a test that wants to see a cookie
needs one in advance. Run as a program in the gateway's machine: `half_open.py` sends it to 127.0.0.1 from 127.0.0.1,
where the gateway has a connection with just the algorithms offered here, and prints the answer's size.
"""

from __future__ import annotations

import os
import socket
import struct

PROPOSAL = "aes128-sha256-modp2048"  # what the request offers, in the words of swanctl.conf
ADDRESS = "127.0.0.1"


def request() -> bytes:
    """The datagram (RFC 7296 sections 3.1 to 3.4, 3.9) with a fresh SPI, nonce and public value."""
    transforms = [(1, 12, struct.pack(">HH", 0x800E, 128)), (2, 5, b""), (3, 12, b""), (4, 14, b"")]
    encoded = [
        struct.pack(">BxHBxH", 3 if number < 3 else 0, 8 + len(attribute), kind, identifier) + attribute
        for number, (kind, identifier, attribute) in enumerate(transforms)
    ]
    body = b"".join(encoded)
    proposal = struct.pack(">BxHBBBB", 0, 8 + len(body), 1, 1, 0, len(encoded)) + body
    key_exchange = struct.pack(">Hxx", 14) + b"\x01" + os.urandom(255)
    payloads = [(34, proposal), (40, key_exchange), (0, os.urandom(32))]  # next payload, this payload's content
    message = b"".join(struct.pack(">BxH", following, 4 + len(content)) + content for following, content in payloads)
    return os.urandom(8) + bytes(8) + struct.pack(">BBBBII", 33, 0x20, 34, 0x08, 0, 28 + len(message)) + message


if __name__ == "__main__":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(5)
        sender.connect((ADDRESS, 500))
        sender.send(request())
        print(len(sender.recv(65535)))
