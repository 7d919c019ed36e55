"""A server of EAP-AKA and AKA' for these tests, which says what it is told to; the honest ones are in the lab."""

from __future__ import annotations

from collections.abc import Sequence

from ikeclient.crypto.algorithms.milenage import Milenage
from ikeclient.crypto.algorithms.sim_keys import SimKeys, aka_keys, aka_prime_keys
from ikeclient.eap.credentials import CardKeys
from ikeclient.eap.sim_attributes import At, Attributes, counted, fixed, message, numbered, padded, parse
from ikeclient.wire.registry import EapType

K, OPC = bytes(range(16)), bytes(range(16, 32))
CARD = CardKeys(k=K, opc=OPC)
RAND = bytes(range(32, 48))
NETWORK = b"WLAN"


def hidden(keys: SimKeys, *attributes: bytes) -> bytes:
    """AT_IV and AT_ENCR_DATA."""
    iv = bytes(range(16))
    return fixed(At.IV, iv) + fixed(At.ENCR_DATA, keys.encrypt(iv, padded(*attributes)))


class AkaServer:
    """One conversation: each call makes a request, `read` the attributes of an answer to it."""

    def __init__(self, type_: EapType, identity: bytes, *, sequence: int = 33, k: bytes = K) -> None:
        self.type = type_
        self.identity = identity
        self.number = 0
        prime = type_ == EapType.AKA_PRIME
        card, at = Milenage(k, OPC), sequence.to_bytes(6, "big")
        vector = card.f2345(RAND)
        amf = b"\x80\x00" if prime else b"\x00\x00"
        self.autn = bytes(a ^ b for a, b in zip(at, vector.ak, strict=True)) + amf + card.f1(RAND, at, amf)[0]
        self.res = vector.res
        self.keys = (
            aka_prime_keys(identity, vector.ik, vector.ck, NETWORK, self.autn)
            if prime
            else aka_keys(identity, vector.ik, vector.ck)
        )

    def request(self, subtype: int, *attributes: bytes) -> bytes:
        """A request without AT_MAC."""
        self.number += 1
        data = message(subtype, *attributes)
        return bytes([1, self.number]) + (5 + len(data)).to_bytes(2, "big") + bytes([self.type]) + data

    def sealed(self, subtype: int, *attributes: bytes) -> bytes:
        """A request with AT_MAC at its end."""
        plain = self.request(subtype, *attributes, fixed(At.MAC, bytes(16)))
        return plain[:-16] + self.keys.mac(plain)

    def challenge(self, *attributes: bytes, kdfs: Sequence[int] = (1,), network: bytes = NETWORK) -> bytes:
        """The challenge, with `attributes` beside it."""
        prime = (counted(At.KDF_INPUT, network), *(numbered(At.KDF, kdf) for kdf in kdfs))
        extra = prime if self.type == EapType.AKA_PRIME else ()
        return self.sealed(1, fixed(At.RAND, RAND), fixed(At.AUTN, self.autn), *extra, *attributes)

    def read(self, answer: object) -> tuple[int, Attributes]:
        """The subtype and attributes of an answer, whose AT_MAC has to be right if there is one."""
        assert isinstance(answer, bytes)
        assert answer[:2] == bytes([2, self.number])
        found = parse(answer[8:])
        if found.mac_at is not None:
            at = 8 + found.mac_at
            assert answer[at : at + 16] == self.keys.mac(answer[:at] + bytes(16) + answer[at + 16 :])
        return answer[5], found
