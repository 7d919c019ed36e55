"""Milenage, the functions f1 to f5* of a USIM (3GPP TS 35.206), on AES-128.

An operator may have others; these are what test cards and test servers use. OPc is the operator's constant as one card
has it, made from its key.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ikeclient.lazy_dataclass import dataclass

KEY_LENGTH = 16
_BLOCK = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """What a USIM makes of a RAND. `ak` hides the sequence number in AUTN, `ak_resync` the one in AUTS."""

    res: bytes
    ck: bytes
    ik: bytes
    ak: bytes
    ak_resync: bytes


class Milenage:
    """The functions with the key `k` and `opc`, 16 bytes each."""

    def __init__(self, k: bytes, opc: bytes) -> None:
        if len(k) != KEY_LENGTH or len(opc) != KEY_LENGTH:
            raise ValueError(f"K and OPc have {KEY_LENGTH} bytes")
        self._cipher = Cipher(algorithms.AES(k), modes.ECB())  # noqa: S305  single blocks, as the standard says
        self._opc = opc

    def f1(self, rand: bytes, sequence: bytes, amf: bytes) -> tuple[bytes, bytes]:
        """MAC-A and MAC-S for a sequence number of 6 bytes and the authentication management field of 2."""
        given = (sequence + amf) * 2
        mixed = _xor(self._first(rand), _rotated(_xor(given, self._opc), 8))
        found = _xor(self._encrypt(mixed), self._opc)
        return found[:8], found[8:]

    def f2345(self, rand: bytes) -> Vector:
        """RES, CK, IK and the two anonymity keys."""
        first = self._first(rand)
        f2, f3, f4, f5 = (self._output(first, at, constant) for at, constant in ((0, 1), (4, 2), (8, 4), (12, 8)))
        return Vector(res=f2[8:], ck=f3, ik=f4, ak=f2[:6], ak_resync=f5[:6])

    def _first(self, rand: bytes) -> bytes:
        return self._encrypt(_xor(rand, self._opc))

    def _output(self, first: bytes, rotation: int, constant: int) -> bytes:
        turned = _rotated(_xor(first, self._opc), rotation)
        return _xor(self._encrypt(_xor(turned, constant.to_bytes(_BLOCK, "big"))), self._opc)

    def _encrypt(self, block: bytes) -> bytes:
        return self._cipher.encryptor().update(block)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _rotated(block: bytes, count: int) -> bytes:
    return block[count:] + block[:count]
