"""Protection of the Encrypted payload (RFC 7296 section 3.14, RFC 5282, RFC 7634).

Two constructions with one face: an AEAD, whose nonce is a salt from the key material followed by the explicit IV, and
AES-CBC with an HMAC over everything before the integrity check value. Padding is the caller's: plaintext arrives with
its pad bytes and pad length, and leaves with them.
"""

from __future__ import annotations

import hmac
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from ikeclient.crypto.algorithms.transforms import Encryption, Integrity
from ikeclient.errors import IntegrityError
from ikeclient.wire.registry import EncryptionId


class PayloadCipher(Protocol):
    """Seals and opens the body of one Encrypted payload. All lengths are in bytes."""

    @property
    def iv_length(self) -> int:
        """Length of the IV in front of the ciphertext."""

    @property
    def icv_length(self) -> int:
        """Length of the integrity check value behind the ciphertext."""

    @property
    def block_length(self) -> int:
        """The padded plaintext is a positive multiple of this."""

    def seal(self, iv: bytes, plaintext: bytes, associated: bytes) -> bytes:
        """Return ciphertext and integrity check value; the caller puts `iv` in front.

        `plaintext` is already padded to `block_length`. `associated` is every byte of the message before the IV.
        """

    def open(self, body: bytes, associated: bytes) -> bytes:
        """Return the padded plaintext of `body` (IV, ciphertext, integrity check value).

        Raises IntegrityError where `body` cannot have been made by `seal` with these keys.
        """


def payload_cipher(
    encryption: Encryption, integrity: Integrity | None, encryption_key: bytes, integrity_key: bytes
) -> PayloadCipher:
    """The cipher of one direction of an IKE SA.

    `encryption_key` ends in the salt where the cipher has one; `integrity_key` is empty with an AEAD. Raises
    ValueError where the keys do not fit the transforms, which is a fault of the caller.
    """
    if len(encryption_key) != encryption.key_length + encryption.salt_length:
        raise ValueError(f"{encryption.keyword} does not take {len(encryption_key)} bytes of key")
    if len(integrity_key) != (integrity.key_length if integrity else 0) or encryption.aead == bool(integrity):
        raise ValueError("an AEAD takes no integrity transform, every other cipher needs one and its key")
    if integrity is None:
        return _Aead(encryption, encryption_key)
    return _CbcHmac(encryption, integrity, encryption_key, integrity_key)


class _Aead:
    __slots__ = ("_aead", "_salt", "block_length", "icv_length", "iv_length")

    def __init__(self, encryption: Encryption, key_and_salt: bytes) -> None:
        key, self._salt = key_and_salt[: encryption.key_length], key_and_salt[encryption.key_length :]
        self._aead: AESGCM | AESCCM | ChaCha20Poly1305
        match encryption.id:
            case EncryptionId.AES_GCM_16:
                self._aead = AESGCM(key)
            case EncryptionId.AES_CCM_16:
                self._aead = AESCCM(key, tag_length=encryption.icv_length)
            case EncryptionId.CHACHA20_POLY1305:
                self._aead = ChaCha20Poly1305(key)
            case _:
                raise ValueError(f"{encryption.keyword} is not an AEAD we run")
        self.iv_length = encryption.iv_length
        self.icv_length = encryption.icv_length
        self.block_length = encryption.block_length

    def seal(self, iv: bytes, plaintext: bytes, associated: bytes) -> bytes:
        return self._aead.encrypt(self._salt + iv, plaintext, associated)

    def open(self, body: bytes, associated: bytes) -> bytes:
        _require_whole_blocks(self, body)
        try:
            return self._aead.decrypt(self._salt + body[: self.iv_length], body[self.iv_length :], associated)
        except InvalidTag:
            raise IntegrityError("the integrity check value is wrong") from None


class _CbcHmac:
    __slots__ = ("_hash_name", "_integrity_key", "_key", "block_length", "icv_length", "iv_length")

    def __init__(self, encryption: Encryption, integrity: Integrity, key: bytes, integrity_key: bytes) -> None:
        if encryption.id != EncryptionId.AES_CBC:
            raise ValueError(f"{encryption.keyword} is not a cipher we run")
        self._key = AES(key)
        self._integrity_key = integrity_key
        self._hash_name = integrity.hash_name
        self.iv_length = encryption.iv_length
        self.icv_length = integrity.icv_length
        self.block_length = encryption.block_length

    def seal(self, iv: bytes, plaintext: bytes, associated: bytes) -> bytes:
        encryptor = Cipher(self._key, CBC(iv)).encryptor()
        ciphertext = encryptor.update(plaintext) + encryptor.finalize()
        return ciphertext + self._icv(associated + iv + ciphertext)

    def open(self, body: bytes, associated: bytes) -> bytes:
        _require_whole_blocks(self, body)
        covered, icv = body[: -self.icv_length], body[-self.icv_length :]
        if not hmac.compare_digest(self._icv(associated + covered), icv):
            raise IntegrityError("the integrity check value is wrong")
        decryptor = Cipher(self._key, CBC(covered[: self.iv_length])).decryptor()
        return decryptor.update(covered[self.iv_length :]) + decryptor.finalize()

    def _icv(self, data: bytes) -> bytes:
        return hmac.digest(self._integrity_key, data, self._hash_name)[: self.icv_length]


def _require_whole_blocks(cipher: PayloadCipher, body: bytes) -> None:
    # At least one block: the pad length byte is never absent, so an empty plaintext is nobody's message.
    ciphertext = len(body) - cipher.iv_length - cipher.icv_length
    if ciphertext < cipher.block_length or ciphertext % cipher.block_length:
        raise IntegrityError(f"{len(body)} bytes cannot be a protected payload of this cipher")
