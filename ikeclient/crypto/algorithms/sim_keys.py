"""The keys of EAP-SIM, EAP-AKA and EAP-AKA' (RFC 4186 section 7, RFC 4187 section 7, RFC 9048 section 3.3).

SIM and AKA draw them from the generator of FIPS 186-2, which is made of SHA-1's compression function alone; AKA' from
HMAC-SHA-256. One set of keys protects a full authentication and the fast ones that follow from it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ikeclient.lazy_dataclass import dataclass

MAC_LENGTH = 16
_MSK = 64
_WORD = 0xFFFFFFFF
_SHA1_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimKeys:
    """The keys of one full authentication. `modern` tells those of AKA', `root` makes the keys of fast ones."""

    modern: bool
    encryption: bytes = field(repr=False)
    authentication: bytes = field(repr=False)
    root: bytes = field(repr=False)
    msk: bytes = field(repr=False)

    def mac(self, data: bytes) -> bytes:
        """The value of AT_MAC over `data`."""
        return hmac.digest(self.authentication, data, "sha256" if self.modern else "sha1")[:MAC_LENGTH]

    def encrypt(self, iv: bytes, data: bytes) -> bytes:
        """The value of AT_ENCR_DATA for `data`, whose length is a multiple of 16."""
        return Cipher(algorithms.AES(self.encryption), modes.CBC(iv)).encryptor().update(data)

    def decrypt(self, iv: bytes, data: bytes) -> bytes:
        """The reverse of `encrypt`."""
        return Cipher(algorithms.AES(self.encryption), modes.CBC(iv)).decryptor().update(data)

    def fast_msk(self, identity: bytes, counter: int, nonce: bytes) -> bytes:
        """The MSK of a fast re-authentication."""
        number = counter.to_bytes(2, "big")
        if self.modern:
            return prf(self.root, b"EAP-AKA' re-auth" + identity + number + nonce, _MSK)
        return fips186(hashlib.sha1(identity + number + nonce + self.root, usedforsecurity=False).digest(), _MSK)


def sim_keys(identity: bytes, kcs: bytes, nonce: bytes, versions: bytes, selected: bytes) -> SimKeys:
    """The keys of EAP-SIM from the Kc of all triplets, one after the other."""
    return _classic(hashlib.sha1(identity + kcs + nonce + versions + selected, usedforsecurity=False).digest())


def aka_keys(identity: bytes, ik: bytes, ck: bytes) -> SimKeys:
    """The keys of EAP-AKA."""
    return _classic(hashlib.sha1(identity + ik + ck, usedforsecurity=False).digest())


def aka_prime_keys(identity: bytes, ik: bytes, ck: bytes, network: bytes, autn: bytes) -> SimKeys:
    """The keys of EAP-AKA', bound to the name of the network (with TS 33.402 annex A.2)."""
    ck_prime, ik_prime = network_keys(ik, ck, network, autn)
    found = prf(ik_prime + ck_prime, b"EAP-AKA'" + identity, 16 + 32 + 32 + _MSK)
    return SimKeys(
        modern=True, encryption=found[:16], authentication=found[16:48], root=found[48:80], msk=found[80 : 80 + _MSK]
    )


def network_keys(ik: bytes, ck: bytes, network: bytes, autn: bytes) -> tuple[bytes, bytes]:
    """CK' and IK'; the first six bytes of AUTN are the hidden sequence number."""
    hidden = autn[:6]
    text = b"\x20" + network + len(network).to_bytes(2, "big") + hidden + len(hidden).to_bytes(2, "big")
    found = hmac.digest(ck + ik, text, "sha256")
    return found[:16], found[16:]


def prf(key: bytes, seed: bytes, length: int) -> bytes:
    """PRF' of RFC 9048 section 3.4.1."""
    found, last, number = b"", b"", 1
    while len(found) < length:
        last = hmac.digest(key, last + seed + bytes([number]), "sha256")
        found += last
        number += 1
    return found[:length]


def _classic(master: bytes) -> SimKeys:
    found = fips186(master, 16 + 16 + _MSK)
    return SimKeys(modern=False, encryption=found[:16], authentication=found[16:32], root=master, msk=found[32:])


def fips186(seed: bytes, length: int) -> bytes:
    """Random numbers from a seed of 20 bytes (FIPS 186-2 change notice 1; RFC 4186 appendix B)."""
    key, found = int.from_bytes(seed, "big"), b""
    while len(found) < length:
        word = _compress(key.to_bytes(20, "big") + bytes(44))
        key = (1 + key + int.from_bytes(word, "big")) % (1 << 160)
        found += word
    return found[:length]


def _compress(block: bytes) -> bytes:
    """SHA-1 of one block without its padding: the function G."""
    words = [int.from_bytes(block[at : at + 4], "big") for at in range(0, 64, 4)]
    for at in range(16, 80):
        words.append(_left(words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16], 1))
    a, b, c, d, e = _SHA1_START
    for at, word in enumerate(words):
        match at // 20:
            case 0:
                mixed, constant = (b & c) | (~b & d), 0x5A827999
            case 2:
                mixed, constant = (b & c) | (b & d) | (c & d), 0x8F1BBCDC
            case quarter:
                mixed, constant = b ^ c ^ d, 0x6ED9EBA1 if quarter == 1 else 0xCA62C1D6
        a, b, c, d, e = (_left(a, 5) + (mixed & _WORD) + e + constant + word) & _WORD, a, _left(b, 30), c, d
    return b"".join(
        ((one + other) & _WORD).to_bytes(4, "big") for one, other in zip(_SHA1_START, (a, b, c, d, e), strict=True)
    )


def _left(word: int, count: int) -> int:
    return ((word << count) | (word >> (32 - count))) & _WORD
