"""Protection of ESP packets (RFC 4303 with RFC 4106, 4309, 7634 and RFC 3602, 4868), one object per SA and direction.

An AEAD's nonce is the salt and the explicit IV; its IV is the sequence number, which a key never sees twice. The low
half of the sequence number travels, the high half of an extended one is only authenticated: inside the associated
data of an AEAD, behind the ciphertext for an HMAC.

AES-CBC runs as one endless chain per SA: a context of `cryptography` costs five times what a packet costs. The sealer
encrypts a random block in front of each packet, whose ciphertext is then an unpredictable IV, as RFC 3602 section 3
asks; the opener decrypts IV and ciphertext together and throws the first block away, the only one that depends on the
past.

`seal` and `open` handle a packet as `bytes` and not in place: in interpreted code two more copies of 1,400 bytes cost
less than the four memoryview slices that `encrypt_into` needs. `BatchCipher` is for those who have prepared these
slices, once for many batches: it goes through the interpreter once per batch.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from operator import length_hint
from struct import Struct
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hmac import HMAC

from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import Encryption, EspSuite, Integrity
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import EncryptionId

HEADER_LENGTH = 8  # SPI and the low half of the sequence number
TRAILER_LENGTH = 2  # pad length and next header

_SHORTEST_AEAD = HEADER_LENGTH + 8 + 16
_BLOCK = 16
_POOL = 256 * _BLOCK
_pack64 = Struct(">Q").pack

_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


class BatchCipher:
    """An AEAD for packets that lie in slots of one buffer, sealed and opened where they are.

    A nonce is `salt` and the IV. All sequences are views, one per packet: `texts` of the plaintext with its trailer,
    `sealed` of the same place with the ICV behind it, `associated` of what is only authenticated.
    """

    __slots__ = ("_decrypt", "_encrypt", "salt")

    def __init__(self, aead: AESGCM | AESCCM | ChaCha20Poly1305, salt: bytes) -> None:
        self._encrypt, self._decrypt = aead.encrypt_into, aead.decrypt_into
        self.salt = salt

    def seal(
        self,
        nonces: Iterable[memoryview],
        texts: Iterable[memoryview],
        associated: Iterable[memoryview],
        sealed: Iterable[memoryview],
    ) -> None:
        """Encrypt and authenticate each packet; as many as the shortest sequence has."""
        deque(map(self._encrypt, nonces, texts, associated, sealed), maxlen=0)

    def open(
        self,
        nonces: Sequence[memoryview],
        sealed: Sequence[memoryview],
        associated: Sequence[memoryview],
        texts: Sequence[memoryview],
    ) -> list[int]:
        """Verify and decrypt each packet of `nonces`; the indexes of those that are not genuine, whose texts are void.

        A forged packet ends the loop, which then goes on behind it: `nonces` knows how far it came.
        """
        forged: list[int] = []
        rest = iter(nonces)
        work = map(self._decrypt, rest, iter(sealed), iter(associated), iter(texts))
        while True:
            try:
                deque(work, maxlen=0)
            except InvalidTag:
                forged.append(len(nonces) - length_hint(rest) - 1)
            else:
                return forged


class EspCipher(Protocol):
    """Seals or opens the packets of one direction of one Child SA.

    `batch` does the same in place, where the cipher can.
    """

    batch: BatchCipher | None

    def seal(self, sequence: int, plaintext: bytes | memoryview) -> bytes:
        """Return the whole ESP packet, from SPI to integrity check value.

        `sequence` is the full sequence number and must never repeat; `plaintext` is the inner packet with padding, pad
        length and next header, a multiple of the layout's alignment.
        """

    def open(self, sequence: int, packet: bytes | memoryview) -> bytes | None:
        """Return the plaintext with its trailer, or None where this key and sequence number did not make the packet.

        A failure is a value because a flood of forged packets must not cost an exception each on its way up.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class EspLayout:
    """How the bytes of a suite's ESP packets are laid out. Lengths are in bytes (RFC 4303 sections 2 and 2.4)."""

    iv_length: int
    icv_length: int
    alignment: int  # of the plaintext with its trailer

    @property
    def minimum_length(self) -> int:
        """The shortest packet that can carry a trailer."""
        return HEADER_LENGTH + self.iv_length + self.alignment + self.icv_length

    def sealed_length(self, inner: int) -> int:
        """Length of the ESP packet around an inner packet of `inner` bytes, with the least padding."""
        return HEADER_LENGTH + self.iv_length + self.text_length(inner) + self.icv_length

    def text_length(self, inner: int) -> int:
        """Length of an inner packet of `inner` bytes with the least padding and the trailer."""
        plaintext = inner + TRAILER_LENGTH
        return plaintext + -plaintext % self.alignment

    def room(self, sealed: int) -> int:
        """The longest inner packet whose ESP packet is not longer than `sealed`; negative where none fits."""
        plaintext = sealed - HEADER_LENGTH - self.iv_length - self.icv_length
        return plaintext - plaintext % self.alignment - TRAILER_LENGTH


def esp_layout(suite: EspSuite) -> EspLayout:
    """The layout of a negotiated suite."""
    encryption = suite.encryption
    return EspLayout(
        iv_length=encryption.iv_length,
        icv_length=suite.integrity.icv_length if suite.integrity else encryption.icv_length,
        alignment=max(4, encryption.block_length),
    )


def esp_cipher(suite: EspSuite, keys: DirectionKeys, spi: int, entropy: Callable[[int], bytes]) -> EspCipher:
    """The cipher of one direction of a Child SA; `entropy` feeds the IVs of AES-CBC and is not used by an AEAD.

    Raises ValueError where the keys do not fit the suite, which is a fault of the caller.
    """
    encryption, integrity = suite.encryption, suite.integrity
    if len(keys.encryption) != encryption.key_length + encryption.salt_length:
        raise ValueError(f"{encryption.keyword} does not take {len(keys.encryption)} bytes of key")
    if len(keys.integrity) != (integrity.key_length if integrity else 0) or encryption.aead == bool(integrity):
        raise ValueError("an AEAD takes no integrity transform, every other cipher needs one and its key")
    if integrity is None:
        return _Aead(encryption, keys.encryption, spi, esn=suite.esn)
    return _CbcHmac(encryption, integrity, keys, spi, entropy, esn=suite.esn)


class _Aead:
    """RFC 4106, RFC 4309, RFC 7634. All of them have an explicit IV of 8 bytes, so its offsets are literals here."""

    __slots__ = ("_decrypt", "_encrypt", "_esn", "_salt", "_spi", "batch")

    def __init__(self, encryption: Encryption, key_and_salt: bytes, spi: int, *, esn: bool) -> None:
        key, self._salt = key_and_salt[: encryption.key_length], key_and_salt[encryption.key_length :]
        aead: AESGCM | AESCCM | ChaCha20Poly1305
        match encryption.id:
            case EncryptionId.AES_GCM_16:
                aead = AESGCM(key)
            case EncryptionId.AES_CCM_16:
                aead = AESCCM(key, tag_length=encryption.icv_length)
            case EncryptionId.CHACHA20_POLY1305:
                aead = ChaCha20Poly1305(key)
            case _:
                raise ValueError(f"{encryption.keyword} is not an AEAD we run")
        self._encrypt, self._decrypt = aead.encrypt, aead.decrypt
        self.batch = BatchCipher(aead, self._salt) if hasattr(aead, "encrypt_into") else None
        self._spi = spi.to_bytes(4, "big")
        self._esn = esn

    def seal(self, sequence: int, plaintext: bytes | memoryview, iv: bytes = b"") -> bytes:
        """As in EspCipher. `iv` is for the published vectors only; left out, it is the sequence number."""
        number = _pack64(sequence)
        iv = iv or number
        header = self._spi + number[4:]
        associated = self._spi + number if self._esn else header
        return b"".join((header, iv, self._encrypt(self._salt + iv, plaintext, associated)))

    def open(self, sequence: int, packet: bytes | memoryview) -> bytes | None:
        if len(packet) < _SHORTEST_AEAD:
            return None
        associated = self._spi + _pack64(sequence) if self._esn else packet[:8]
        try:
            return self._decrypt(self._salt + packet[8:16], packet[16:], associated)
        except InvalidTag:
            return None


class _CbcHmac:
    """RFC 3602 with RFC 4868 or RFC 2404; verified before anything is decrypted."""

    __slots__ = ("_decrypt", "_encrypt", "_entropy", "_esn", "_icv_length", "_mac", "_pool", "_spi", "_used", "batch")

    def __init__(
        self,
        encryption: Encryption,
        integrity: Integrity,
        keys: DirectionKeys,
        spi: int,
        entropy: Callable[[int], bytes],
        *,
        esn: bool,
    ) -> None:
        if encryption.id != EncryptionId.AES_CBC:
            raise ValueError(f"{encryption.keyword} is not a cipher we run")
        chain = Cipher(AES(keys.encryption), CBC(bytes(_BLOCK)))
        self._encrypt, self._decrypt = chain.encryptor().update, chain.decryptor().update
        self._mac = HMAC(keys.integrity, _HASHES[integrity.hash_name]())
        self._icv_length = integrity.icv_length
        self._spi = spi.to_bytes(4, "big")
        self._esn = esn
        self._entropy = entropy
        self._pool = b""
        self._used = 0
        self.batch: BatchCipher | None = None

    def seal(self, sequence: int, plaintext: bytes | memoryview) -> bytes:
        if len(plaintext) % _BLOCK:
            raise ValueError("AES-CBC encrypts whole blocks")
        if self._used == len(self._pool):
            self._pool, self._used = self._entropy(_POOL), 0
        start, self._used = self._used, self._used + _BLOCK
        number = _pack64(sequence)
        covered = b"".join(
            (self._spi, number[4:], self._encrypt(b"".join((self._pool[start : self._used], plaintext))))
        )
        return covered + self._icv(covered, number)

    def open(self, sequence: int, packet: bytes | memoryview) -> bytes | None:
        end = len(packet) - self._icv_length
        if end < HEADER_LENGTH + 2 * _BLOCK or (end - HEADER_LENGTH) % _BLOCK:
            return None
        if not hmac.compare_digest(self._icv(packet[:end], _pack64(sequence)), packet[end:]):
            return None
        return self._decrypt(packet[HEADER_LENGTH:end])[_BLOCK:]

    def _icv(self, covered: bytes | memoryview, number: bytes) -> bytes:
        mac = self._mac.copy()
        mac.update(covered)
        if self._esn:
            mac.update(number[:4])
        return mac.finalize()[: self._icv_length]
