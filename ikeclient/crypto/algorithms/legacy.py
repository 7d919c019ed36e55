"""The broken primitives that MS-CHAPv2, EAP-MD5 and PEAP are made of: MD4, MD5, SHA-1, single DES and RC4.

None of them protects anything here by itself: EAP runs inside an IKE SA whose gateway has already proved itself with
a certificate. They are kept in one module, away from the algorithms of IKE and ESP, so that nothing else uses them.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

_MASK = 0xFFFFFFFF


def _choose(x: int, y: int, z: int) -> int:
    return (x & y) | (~x & z)


def _majority(x: int, y: int, z: int) -> int:
    return (x & y) | (x & z) | (y & z)


def _parity(x: int, y: int, z: int) -> int:
    return x ^ y ^ z


_Round = tuple[Callable[[int, int, int], int], int, tuple[int, ...], tuple[int, ...]]

# The mixing function, the added constant, the order of the message words and the four rotations of each round.
_MD4_ROUNDS: tuple[_Round, ...] = (
    (_choose, 0, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), (3, 7, 11, 19)),
    (_majority, 0x5A827999, (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), (3, 5, 9, 13)),
    (_parity, 0x6ED9EBA1, (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15), (3, 9, 11, 15)),
)
_MD4_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)


def md4(data: bytes) -> bytes:
    """The 16-byte MD4 digest (RFC 1320), which OpenSSL 3 no longer offers by default."""
    padding = b"\x80" + bytes(-(len(data) + 9) % 64)
    message = data + padding + struct.pack("<Q", len(data) * 8 & 0xFFFFFFFFFFFFFFFF)
    state: tuple[int, ...] = _MD4_START
    for words in struct.iter_unpack("<16I", message):
        a, b, c, d = state
        for mix, constant, order, rotations in _MD4_ROUNDS:
            for step, index in enumerate(order):
                total = (a + mix(b, c, d) + words[index] + constant) & _MASK
                rotation = rotations[step % 4]
                rotated = (total << rotation | total >> (32 - rotation)) & _MASK
                a, b, c, d = d, rotated, b, c
        state = tuple((old + new) & _MASK for old, new in zip(state, (a, b, c, d), strict=True))
    return struct.pack("<4I", *state)


def md5(data: bytes) -> bytes:
    """The 16-byte MD5 digest, also where the platform forbids it for security."""
    return hashlib.md5(data, usedforsecurity=False).digest()


def sha1(data: bytes) -> bytes:
    """The 20-byte SHA-1 digest, also where the platform forbids it for security."""
    return hashlib.sha1(data, usedforsecurity=False).digest()


def sha1_hmac(key: bytes, data: bytes) -> bytes:
    """The 20-byte HMAC-SHA-1 (RFC 2104)."""
    return hmac.digest(key, data, "sha1")


def rc4(key: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt with RC4 (RFC 6229 has vectors), which OpenSSL no longer offers by default."""
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) & 0xFF
        state[i], state[j] = state[j], state[i]
    found, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) & 0xFF
        j = (j + state[i]) & 0xFF
        state[i], state[j] = state[j], state[i]
        found.append(byte ^ state[(state[i] + state[j]) & 0xFF])
    return bytes(found)


def des_key(key: bytes) -> bytes:
    """A 7-byte key as the 8 bytes that DES takes, each with odd parity (RFC 2759 section 9.3)."""
    if len(key) != 7:
        raise ValueError(f"a DES key without parity has 7 bytes, not {len(key)}")
    bits = int.from_bytes(key, "big")
    sevens = [bits >> shift & 0x7F for shift in range(49, -1, -7)]
    return bytes(seven << 1 | (seven.bit_count() + 1) % 2 for seven in sevens)


def des_encrypt_block(key: bytes, block: bytes) -> bytes:
    """One 8-byte block encrypted with single DES; `key` has 7 bytes, or 8 with parity (which is ignored)."""
    if len(key) == 7:
        key = des_key(key)
    if len(key) != 8 or len(block) != 8:
        raise ValueError("DES takes a key of 7 or 8 bytes and a block of 8")
    # Triple DES with one key three times is single DES: the middle step undoes the first.
    encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()  # noqa: S305 one block has nothing to chain
    return encryptor.update(block) + encryptor.finalize()
