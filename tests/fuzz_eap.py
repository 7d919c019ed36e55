"""Odd input for EAP over TLS: fragments, what is inside of TTLS and PEAP, and whole conversations.

The random bytes of TLS are OpenSSL's own, so a seed leads back to the same damage of other bytes.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random

from aka_server import CARD, AkaServer, hidden
from fuzz_damage import damaged
from OpenSSL import SSL
from tls_server import NOW, Server, credentials

from ikeclient.eap.credentials import SimCredentials
from ikeclient.eap.fragments import Fragments
from ikeclient.eap.methods import avp
from ikeclient.eap.methods.avp import Avp
from ikeclient.eap.methods.peap import CRYPTO_BINDING, FAILURE, RESULT, SUCCESS, parse_tlvs, tlv
from ikeclient.eap.peer import EapPeer
from ikeclient.eap.sim_attributes import At, Malformed, counted, fixed, parse
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
            message = taken.take(bytes([random.choice(_FLAGS)]) + random.choice((length, b"")) + body)
            assert message is None or len(message) <= 65536


def attributes(random: Random) -> None:
    """Attributes of TTLS and TLVs of PEAP."""
    data = damaged(random, _inside(random))
    for read in (lambda: list(avp.parse(data)), lambda: parse_tlvs(data)):
        with suppress(NegotiationRefused):
            read()


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
