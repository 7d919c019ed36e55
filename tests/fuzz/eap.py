"""Odd input for EAP: attributes, fragments, what is inside of TTLS and PEAP, and whole conversations.

The random bytes of TLS are OpenSSL's own, so a seed leads back to the same damage of other bytes.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from random import Random

from aka_server import CARD, AkaServer, hidden
from eap_gateway import challenge, mschap_request
from eap_gateway import request as eap_request
from OpenSSL import SSL
from tls_server import NOW, Server, credentials

from fuzz.damage import damaged, framed, packets_in, packetwise
from ikeclient.eap.credentials import SimCredentials
from ikeclient.eap.fragments import Fragments
from ikeclient.eap.methods import avp
from ikeclient.eap.methods.avp import Avp
from ikeclient.eap.methods.peap import CRYPTO_BINDING, FAILURE, RESULT, SUCCESS, parse_tlvs, tlv
from ikeclient.eap.peer import EapPeer
from ikeclient.eap.sim_attributes import At, Malformed, counted, fixed, message, parse
from ikeclient.errors import IkeclientError, NegotiationRefused
from ikeclient.wire.registry import EapType

_STEPS = 24
_FLAGS = (0x00, 0x40, 0x80, 0xC0, 0x20, 0xA0, 0xFF)


def fragments(random: Random) -> None:
    """Fragments of every kind, until one is refused."""
    taken = Fragments()
    with suppress(NegotiationRefused):
        for _ in range(200):
            length = random.choice((0, 1, 5, 900, 65536, 65537, (1 << 32) - 1)).to_bytes(4, "big")
            body = random.randbytes(random.choice((0, 1, 4, 900)))
            whole = taken.take(bytes([random.choice(_FLAGS)]) + random.choice((length, b"")) + body)
            assert whole is None or len(whole) <= 65536


def inside_tls() -> list[bytes]:
    """What servers say inside of TTLS and PEAP."""
    result = tlv(RESULT, SUCCESS)
    return [
        Avp(code=avp.EAP_MESSAGE, value=bytes([1, 7, 0, 5, 1])).emit(),
        Avp(code=avp.MS_CHAP2_SUCCESS, vendor=avp.MICROSOFT, value=b"\1S=" + b"0" * 40).emit() * 2,
        result + tlv(CRYPTO_BINDING, bytes(56)),
        result + tlv(99, b"x", mandatory=False),
    ]


def read_avps(data: bytes) -> object:
    """AVPs of TTLS are within what was sent (E11, CVE-2026-25075)."""
    found = list(avp.parse(data))
    assert sum(len(each.value) for each in found) <= len(data)
    return min(len(found), 4)


def read_tlvs(data: bytes) -> object:
    """TLVs of PEAP are within what was sent (E11)."""
    found = parse_tlvs(data)
    assert sum(len(value) for _, value in found.values()) <= len(data)
    return min(len(found), 4)


@functools.cache
def card_messages() -> tuple[bytes, ...]:
    """The attributes of challenges of SIM and AKA."""
    found = []
    for type_ in (EapType.AKA, EapType.AKA_PRIME):
        server = AkaServer(type_, b"0232010000000000")
        packet = server.challenge(hidden(server.keys, counted(At.NEXT_PSEUDONYM, b"pseudonym")), fixed(At.CHECKCODE))
        found.append(packet[8:])
    return (*found, fixed(At.NOTIFICATION) + fixed(At.MAC, bytes(16)), counted(At.VERSION_LIST, b"\0\1"))


def read_attributes(data: bytes) -> object:
    """Attributes of SIM and AKA (E10, CVE-2026-35330)."""
    found = parse(data)
    for kind in found.values:
        for read in (found.fixed, found.counted, found.number):
            with suppress(Malformed):
                read(kind)
    return tuple(sorted(found.values))[:3]


METHODS = (
    EapType.MSCHAPV2,
    EapType.GTC,
    EapType.MD5_CHALLENGE,
    EapType.SIM,
    EapType.AKA,
    EapType.AKA_PRIME,
)


@functools.cache
def conversations() -> tuple[bytes, ...]:
    """What servers say from the identity request on, for each method that needs no TLS; the first byte chooses it."""
    identity, success = eap_request(EapType.IDENTITY), bytes((3, 9, 0, 4))
    expired = b"E=648 R=1 C=" + b"0" * 32 + b" V=3 M=expired"
    said: dict[EapType, list[list[bytes]]] = {
        EapType.MSCHAPV2: [
            [identity, challenge(), mschap_request(3, b"S=" + b"A" * 40 + b" M=hello"), success],
            [identity, challenge(), mschap_request(4, b"E=691 R=1 C=" + b"0" * 32 + b" V=3 M=no")],
            [identity, challenge(), mschap_request(4, expired), mschap_request(3, b"S=" + b"A" * 40)],
        ],
        EapType.GTC: [[identity, eap_request(EapType.GTC, b"Password:"), success]],
        EapType.MD5_CHALLENGE: [[identity, eap_request(EapType.MD5_CHALLENGE, b"\x10" + bytes(16) + b"gw"), success]],
        EapType.SIM: [[identity, eap_request(EapType.SIM, message(10, counted(At.VERSION_LIST, b"\0\1")))]],
    }
    for type_ in (EapType.AKA, EapType.AKA_PRIME):
        server = AkaServer(type_, b"0232010000000000")
        names = hidden(server.keys, counted(At.NEXT_REAUTH_ID, b"again"), fixed(At.COUNTER))
        said[type_] = [[identity, server.challenge(names, fixed(At.CHECKCODE)), success]]
    return tuple(bytes((METHODS.index(type_),)) + framed(packets) for type_, each in said.items() for packets in each)


_conversation = packetwise(damaged)


def damaged_conversation(random: Random, data: bytes) -> bytes:
    """A conversation with damage to one packet, or to their order; EAP's own length fits, most of the time."""
    changed = _conversation(random, data[1:])
    packets = [
        packet[:2] + len(packet).to_bytes(2, "big") + packet[4:]
        if len(packet) >= 4 and random.random() < 0.9
        else packet
        for packet in packets_in(changed)
    ]
    return data[:1] + framed(packets)


def converse(data: bytes) -> object:
    """A login with a method that needs no TLS ends, and without a key unless the server said Success (E1 to E10)."""
    method = METHODS[data[0] % len(METHODS)] if data else EapType.GTC
    sim = SimCredentials(keys=CARD) if method in METHODS[3:] else None
    name = "0232010000000000" if sim else "alice"
    eap = EapPeer(name, (method,), None if sim else "wonderland", Random(1).randbytes, sim=sim)
    said: list[object] = []
    try:
        for packet in packets_in(data[1:]):
            answer = eap.respond(packet)
            said.append(type(answer))
            if not isinstance(answer, bytes):
                break
    finally:
        assert eap.finished or eap.msk is None
        assert all(notice.isprintable() for notice in eap.notices)
    return (method, len(said), eap.finished)


def tunnel(random: Random) -> None:
    """A conversation with a server that goes wrong once: in a packet of TLS, or inside of it."""
    method = random.choice((EapType.TLS, EapType.TTLS, EapType.PEAP))
    inner = random.choice(("mschapv2", "gtc", "md5"))
    server = Server(method, tls13=random.random() < 0.5)
    tls = credentials(certificate=method == EapType.TLS, inner=inner)
    eap = EapPeer("alice", (method,), "password", random.randbytes, tls=tls, now=lambda: NOW)
    wrong = random.randint(0, _STEPS)
    request = server.start()
    with suppress(IkeclientError):
        for step in range(_STEPS):
            if server.silent and server.tls.get_peer_finished():
                request = server.send(damaged(random, _inside(random)) or b"\0")
            response = eap.respond(damaged(random, request) if step == wrong else request)
            if not isinstance(response, bytes):
                break
            try:
                request = server.take(response)
            except SSL.Error:  # what we made of the damage is no TLS to the server either
                break
        eap.respond(bytes([3, 99, 0, 4]))
    assert eap.finished or eap.msk is None


def card_attributes(random: Random) -> None:
    """Attributes of EAP-SIM and AKA, and whole challenges (hardening E10, CVE-2026-35330)."""
    type_ = random.choice((EapType.AKA, EapType.AKA_PRIME))
    sim = SimCredentials(keys=CARD)
    eap = EapPeer("0232010000000000", (type_,), None, random.randbytes, sim=sim)
    eap.respond(bytes([1, 0, 0, 5, 1]))
    server = AkaServer(type_, b"0232010000000000")
    names = counted(At.NEXT_PSEUDONYM, random.randbytes(random.choice((0, 1, 9))))
    packet = server.challenge(hidden(server.keys, names), fixed(At.CHECKCODE))
    data = damaged(random, packet[5:])
    with suppress(IkeclientError):
        eap.respond(packet[:2] + (5 + len(data)).to_bytes(2, "big") + packet[4:5] + data)
        eap.respond(bytes([3, 99, 0, 4]))
    assert eap.finished or (eap.msk is None and sim.memory.name(type_) is None)
    with suppress(Malformed):
        parse(data)


def _inside(random: Random) -> bytes:
    """What a server may say inside of TLS."""
    result = tlv(RESULT, random.choice((SUCCESS, FAILURE, b"", b"\0")))
    values = random.choice((result, result + tlv(CRYPTO_BINDING, random.randbytes(56)), tlv(99, b"x"), b""))
    return random.choice(
        (
            Avp(code=avp.EAP_MESSAGE, value=bytes([1, 7, 0, 5, 1])).emit(),
            Avp(code=avp.MS_CHAP2_SUCCESS, vendor=avp.MICROSOFT, value=b"\1S=" + b"0" * 40).emit(),
            Avp(code=avp.MS_CHAP_ERROR, vendor=avp.MICROSOFT, value=b"\1E=691 R=1 C=" + b"0" * 32).emit(),
            bytes([1, 3]) + (5 + len(values)).to_bytes(2, "big") + b"\x21" + values,
            b"\x01",
            b"\x06Password:",
            b"\x1a\x01\x05\x00\x17\x10" + bytes(16) + b"gw",
            b"\x00",
        )
    )
