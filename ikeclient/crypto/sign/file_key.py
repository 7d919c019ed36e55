"""Private keys in files: PEM (PKCS#8, traditional, OpenSSH) and DER."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ikeclient.crypto.pki.names import clause
from ikeclient.crypto.sign.schemes import Family, Scheme
from ikeclient.crypto.sign.signature import HASHES, PublicKey, pss_padding
from ikeclient.errors import ProfileError, SignatureError

_Private: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey


class PassphraseNeeded(ProfileError):
    """A private key, or a container of one, that was opened without a password and wants one."""


class FileKey:
    """A private key in our memory, from a file."""

    __slots__ = ("_key", "public_key")

    def __init__(self, key: object) -> None:
        """Wrap a key of `cryptography`; raises ProfileError for a kind we do not use or a weak key."""
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey):
            raise ProfileError("the private key is neither RSA, ECDSA, Ed25519 nor Ed448")
        try:
            self.public_key = PublicKey(key.public_key())
        except SignatureError as error:
            raise ProfileError("the private key cannot be used", reason=error.message) from None
        if self.public_key.weakness:
            raise ProfileError("the private key cannot be used", reason=self.public_key.weakness)
        self._key: _Private = key

    @property
    def families(self) -> tuple[Family, ...]:
        """The kinds of signature that it can make, the best first."""
        return self.public_key.families

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileKey) and self.public_key == other.public_key

    def __hash__(self) -> int:
        return hash(self.public_key)

    @classmethod
    def load(cls, data: bytes, password: bytes | None) -> FileKey:
        """A key from PEM (PKCS#8, traditional or OpenSSH) or DER; raises ProfileError with what is wrong.

        It is PassphraseNeeded where the key is encrypted and there is no `password`. A password for a key that has none
        is ignored.
        """
        try:
            return cls(_load_private(data, password))
        except TypeError:
            # This is how `cryptography` says that a password is missing or not needed.
            if password:
                return cls.load(data, None)
            raise PassphraseNeeded("the private key is encrypted", reason="no password was given") from None
        except UnsupportedAlgorithm as error:
            hint = "convert it to PKCS#8, for example with `openssl pkey` or `ssh-keygen -p -m PKCS8`"
            raise ProfileError(
                "the private key is stored in an unsupported way",
                reason=f"the cryptographic library says: {clause(error)}",
                hint=hint,
            ) from None
        except ValueError:
            if password and (b"ENCRYPTED" in data or not data.lstrip().startswith(b"-----BEGIN")):
                raise ProfileError("the private key's password is wrong, or the file is damaged") from None
            raise ProfileError("there is no private key that can be read in that file") from None

    def __repr__(self) -> str:
        return f"<PrivateKey {self.public_key.kind}>"

    def pkcs8(self) -> bytes:
        """The key itself in DER, for another process of ours; `load` reads it."""
        form = serialization.PrivateFormat.PKCS8
        return self._key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())

    def sign(self, octets: bytes, schemes: Sequence[Scheme]) -> tuple[Scheme, bytes]:
        """See `PrivateKey.sign`."""
        scheme = next((scheme for scheme in schemes if scheme.family in self.public_key.families), None)
        if scheme is None:
            raise SignatureError(f"our {self.public_key.kind} key makes none of the signatures that are accepted")
        return scheme, self._make(scheme, octets)

    def _make(self, scheme: Scheme, octets: bytes) -> bytes:
        match self._key:
            case rsa.RSAPrivateKey() as key if scheme.family == Family.RSA_PSS:
                return key.sign(octets, pss_padding(scheme), HASHES[scheme.hash])
            case rsa.RSAPrivateKey() as key:
                return key.sign(octets, padding.PKCS1v15(), HASHES[scheme.hash])
            case ec.EllipticCurvePrivateKey() as key:
                return key.sign(octets, ec.ECDSA(HASHES[scheme.hash]))
            case Ed25519PrivateKey() | Ed448PrivateKey() as key:
                return key.sign(octets)


def _load_private(data: bytes, password: bytes | None) -> object:
    password = password or None
    if b"-----BEGIN OPENSSH PRIVATE KEY-----" in data:
        return serialization.load_ssh_private_key(data[data.index(b"-----BEGIN OPENSSH") :], password)
    if b"-----BEGIN " in data:
        return serialization.load_pem_private_key(data, password)
    return serialization.load_der_private_key(data, password)
