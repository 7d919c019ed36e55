"""Somebody on the path who answers IKE_SA_INIT in a gateway's name, run as a program in a machine that sees requests.

    python init_flood.py good|plain|refuse ADDRESS SOURCE COUNT

For each request to ADDRESS it sends COUNT answers from SOURCE: `good` ones are acceptable and have a key share, `plain`
ones lack NAT detection, as from a gateway that knows no UDP encapsulation, and `refuse` says NO_PROPOSAL_CHOSEN.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import replace
from ipaddress import ip_address

from ikeclient.crypto.algorithms.key_exchange import generate
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF, AlgorithmProposal
from ikeclient.errors import ParseError
from ikeclient.ike.events import Path
from ikeclient.ike.v2.rules.nat import detection_notifies
from ikeclient.ike.v2.rules.negotiate import choose_ike, offer_ike
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Message, Payload
from ikeclient.wire.registry import ExchangeType, NotifyType
from ikeclient.wire.sa import SaPayload

MARKER = bytes(4)
ALL_PROTOCOLS, OUTGOING = 3, 4
AEAD = tuple(algorithm for algorithm in ENCRYPTION.values() if algorithm.aead)
BLOCK = tuple(algorithm for algorithm in ENCRYPTION.values() if not algorithm.aead)


def answers(request: Message, path: Path, what: str, count: int) -> list[bytes]:
    """The answers to one request; `path` is the forger's view."""
    header = replace(request.header, initiator=False, response=True)
    if what == "refuse":
        payloads: tuple[Payload, ...] = (NotifyPayload(type=NotifyType.NO_PROPOSAL_CHOSEN),)
        return [Message(header=header, payloads=payloads).emit()] * count
    asked = next(p for p in request.payloads if isinstance(p, KePayload))
    offer = next(p for p in request.payloads if isinstance(p, SaPayload))
    groups = tuple(group for group in KEY_EXCHANGE.values() if group.id == asked.method)
    common = {"prf": tuple(PRF.values()), "key_exchange": groups}
    ours = (
        AlgorithmProposal(encryption=AEAD, integrity=(), **common),
        AlgorithmProposal(encryption=BLOCK, integrity=tuple(INTEGRITY.values()), **common),
    )
    chosen = choose_ike(offer_ike(ours), offer, b"")
    assert chosen is not None
    share = generate(chosen[1].key_exchange, os.urandom)
    found = []
    for _ in range(count):
        spi = os.urandom(8)
        nat = () if what == "plain" else detection_notifies(request.header.spi_i, spi, path, encapsulate=False)
        key = KePayload(method=share.method.id, data=share.public)
        payloads = (chosen[0], key, NoncePayload(nonce=os.urandom(32)), *nat)
        found.append(Message(header=replace(header, spi_r=spi), payloads=payloads).emit())
    return found


def packet(source: str, destination: str, source_port: int, port: int, data: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram without checksum; the kernel fills in the header's."""
    addresses = ip_address(source).packed + ip_address(destination).packed
    length = 28 + len(data)
    header = struct.pack(">BBHHHBBH", 0x45, 0, length, 0, 0, 64, 17, 0) + addresses
    return header + struct.pack(">HHHH", source_port, port, 8 + len(data), 0) + data


def main(what: str, address: str, source: str, count: int) -> None:
    """Answer until killed."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL_PROTOCOLS)) as tap,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender,
    ):
        print("ready", flush=True)
        while True:
            seen, origin = tap.recvfrom(65535)
            if origin[2] == OUTGOING or len(seen) < 60 or seen[9] != 17 or seen[16:20] != ip_address(address).packed:
                continue
            client = str(ip_address(seen[12:16]))
            client_port, port = struct.unpack_from(">HH", seen, 20)
            if what == "plain" and port != 500:
                continue
            data = seen[28:].removeprefix(MARKER) if port == 4500 else seen[28:]
            try:
                request = Message.parse(data)
            except ParseError:
                continue
            if request.header.exchange != ExchangeType.IKE_SA_INIT or request.header.response:
                continue
            path = Path(ip_address(source), port, ip_address(client), client_port)
            for answer in answers(request, path, what, count):
                marked = MARKER + answer if port == 4500 else answer
                sender.sendto(packet(source, client, port, client_port, marked), (client, 0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
