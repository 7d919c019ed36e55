"""Signatures over the AUTH octets and how they are checked (RFC 7296 section 2.15, RFC 4754, RFC 7427, RFC 8420).

There are two worlds. Where the peer sent SIGNATURE_HASH_ALGORITHMS, both ends use method 14, which names its algorithm.
Where it did not, the method number is the algorithm: 1 for RSA, which in practice means SHA-1, and 9 to 11 for ECDSA,
with the signature as the bare r||s instead of DER.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey, Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ikeclient.crypto.library import contained
from ikeclient.crypto.pki.budget import SIGNATURE
from ikeclient.crypto.sign.schemes import (
    Family,
    Scheme,
    parse_algorithm_identifier,
    parse_pss_identifier,
)
from ikeclient.errors import SignatureError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import AuthMethod, HashAlgorithm

_Public: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
_Private: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey

_MIN_RSA_BITS = 2048
_MAX_RSA_BITS = 16384  # larger keys only serve to keep us busy
_MAX_EXPONENT_BITS = 64  # likewise
_CURVES: dict[str, str] = {
    "secp256r1": "P-256",
    "secp384r1": "P-384",
    "secp521r1": "P-521",
    "brainpoolP256r1": "brainpoolP256r1",
    "brainpoolP384r1": "brainpoolP384r1",
    "brainpoolP512r1": "brainpoolP512r1",
}
HASHES: dict[HashAlgorithm, hashes.HashAlgorithm] = {
    HashAlgorithm.SHA1: hashes.SHA1(),  # noqa: S303 - only used where the profile allows SHA-1
    HashAlgorithm.SHA2_256: hashes.SHA256(),
    HashAlgorithm.SHA2_384: hashes.SHA384(),
    HashAlgorithm.SHA2_512: hashes.SHA512(),
}
SHA2 = (HashAlgorithm.SHA2_256, HashAlgorithm.SHA2_384, HashAlgorithm.SHA2_512)
ECDSA_METHODS: dict[AuthMethod, tuple[str, HashAlgorithm]] = {  # RFC 4754 section 3
    AuthMethod.ECDSA_SHA256_P256: ("P-256", HashAlgorithm.SHA2_256),
    AuthMethod.ECDSA_SHA384_P384: ("P-384", HashAlgorithm.SHA2_384),
    AuthMethod.ECDSA_SHA512_P521: ("P-521", HashAlgorithm.SHA2_512),
}


class PublicKey:
    """A public key that can verify signatures; equal to another with the same SubjectPublicKeyInfo."""

    __slots__ = ("_key", "kind", "spki")

    def __init__(self, key: object) -> None:
        """Wrap a key of `cryptography`; raises SignatureError for a kind or curve we do not use."""
        match key:
            case rsa.RSAPublicKey():
                self.kind = f"RSA {key.key_size}"
            case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
                self.kind = f"ECDSA {_CURVES[key.curve.name]}"
            case Ed25519PublicKey():
                self.kind = "Ed25519"
            case Ed448PublicKey():
                self.kind = "Ed448"
            case _:
                raise SignatureError("the key is neither RSA, ECDSA on a curve we know, Ed25519 nor Ed448")
        self._key: _Public = key
        self.spki = self._key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    @classmethod
    def from_spki(cls, data: bytes) -> PublicKey:
        """Read a SubjectPublicKeyInfo; raises SignatureError."""
        with contained(SignatureError, "the public key cannot be read"):
            return cls(serialization.load_der_public_key(data))

    @property
    def bits(self) -> int:
        """The size of the key, that of the modulus or of the curve; 0 if its kind has one size only."""
        match self._key:
            case ec.EllipticCurvePublicKey() | rsa.RSAPublicKey() as key:
                return key.key_size
            case _:
                return 0

    @property
    def families(self) -> tuple[Family, ...]:
        """The kinds of signature that the private half can make, the best first."""
        match self._key:
            case Ed25519PublicKey():
                return (Family.ED25519,)
            case Ed448PublicKey():
                return (Family.ED448,)
            case ec.EllipticCurvePublicKey():
                return (Family.ECDSA,)
            case rsa.RSAPublicKey():
                return (Family.RSA_PSS, Family.RSA_PKCS1)

    @property
    def strength(self) -> int:
        """How many bits of a hash are as strong as the key (RFC 7427 section 6); 0 if the scheme has its own hash."""
        match self._key:
            case ec.EllipticCurvePublicKey() as key:
                return key.key_size
            case rsa.RSAPublicKey() as key:
                return key.key_size // 12
            case _:
                return 0

    @property
    def weakness(self) -> str | None:
        """Why this key is not to be trusted whatever it signs, or None."""
        if not isinstance(self._key, rsa.RSAPublicKey):
            return None
        numbers = self._key.public_numbers()
        bits = numbers.n.bit_length()
        if bits < _MIN_RSA_BITS:
            return f"an RSA key of {bits} bits is too short, {_MIN_RSA_BITS} are needed"
        if numbers.e < 3 or not numbers.e & 1 or not numbers.n & 1:
            return "the RSA key's exponent or modulus cannot be right"
        return self.absurdity

    @property
    def absurdity(self) -> str | None:
        """Why a signature of this key is too much work to verify, or None."""
        if not isinstance(self._key, rsa.RSAPublicKey):
            return None
        numbers = self._key.public_numbers()
        if (bits := numbers.n.bit_length()) > _MAX_RSA_BITS:
            return f"an RSA key of {bits} bits is absurd"
        if (bits := numbers.e.bit_length()) > _MAX_EXPONENT_BITS:
            return f"an RSA exponent of {bits} bits is absurd"
        return None

    @property
    def cost(self) -> int:
        """What verifying a signature costs, in units of `budget`."""
        bits = self._key.key_size if isinstance(self._key, rsa.RSAPublicKey) else 0
        return SIGNATURE * (1 + (bits // 4096) ** 2)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.spki == other.spki

    def __hash__(self) -> int:
        return hash(self.spki)

    def __repr__(self) -> str:
        return f"<PublicKey {self.kind} {hashlib.sha256(self.spki).hexdigest()[:16]}>"

    def check(self, scheme: Scheme, signature: bytes, octets: bytes) -> None:
        """Raise SignatureError unless `signature` over `octets` is right; ECDSA signatures are in DER."""
        if self.weakness:
            raise SignatureError(self.weakness)
        with contained(SignatureError, f"the {scheme} signature cannot be checked"):
            try:
                match self._key, scheme.family:
                    case rsa.RSAPublicKey() as key, Family.RSA_PKCS1:
                        key.verify(signature, octets, padding.PKCS1v15(), HASHES[scheme.hash])
                    case rsa.RSAPublicKey() as key, Family.RSA_PSS:
                        key.verify(signature, octets, pss_padding(scheme), HASHES[scheme.hash])
                    case ec.EllipticCurvePublicKey() as key, Family.ECDSA:
                        key.verify(signature, octets, ec.ECDSA(HASHES[scheme.hash]))
                    case Ed25519PublicKey() as key, Family.ED25519:
                        key.verify(signature, octets)
                    case Ed448PublicKey() as key, Family.ED448:
                        key.verify(signature, octets)
                    case _:
                        raise SignatureError(f"the signature is {scheme}, but the key is {self.kind}")
            except InvalidSignature:
                raise SignatureError(f"the {scheme} signature does not verify") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSignature:
    """The signature in a certificate: `how` (None for Ed25519 and Ed448) and with which hash, over which bytes."""

    how: padding.PSS | padding.PKCS1v15 | ec.ECDSA | None
    hash: hashes.HashAlgorithm | None
    signed: bytes
    signature: bytes

    @property
    def hash_name(self) -> str | None:
        """The hash as the library calls it, None if the scheme has none."""
        return self.hash.name if self.hash else None

    def verify(self, issuer: PublicKey) -> None:
        """Raise SignatureError unless the signature was made with the private half of `issuer`."""
        if issuer.absurdity:
            raise SignatureError(issuer.absurdity)
        with contained(SignatureError, "a certificate's signature does not verify"):
            match issuer._key, self.how:
                case rsa.RSAPublicKey() as key, padding.PSS() | padding.PKCS1v15() as how if self.hash:
                    key.verify(self.signature, self.signed, how, self.hash)
                case ec.EllipticCurvePublicKey() as key, ec.ECDSA() as how:
                    key.verify(self.signature, self.signed, how)
                case Ed25519PublicKey() | Ed448PublicKey() as key, None:
                    key.verify(self.signature, self.signed)
                case _:
                    raise SignatureError(f"a certificate's signature is not of a kind that the {issuer.kind} key makes")


def pss_signature(identifier: bytes, signed: bytes, signature: bytes) -> CertificateSignature:
    """A certificate's RSASSA-PSS signature, whose parameters must be there (RFC 4055 section 3.1).

    Raises ParseError if they are malformed, SignatureError if they are not acceptable.
    """
    scheme = parse_pss_identifier(identifier)
    how, digest = pss_padding(scheme), HASHES[scheme.hash]
    return CertificateSignature(how=how, hash=digest, signed=signed, signature=signature)


def verify(key: PublicKey, method: AuthMethod, data: bytes, octets: bytes, *, allow_sha1: bool = False) -> str:
    """Check the authentication data of an AUTH payload over `octets`; returns the scheme's printable name.

    Raises SignatureError saying what is wrong: the method, the algorithm, its parameters, the key or the signature.
    """
    if method == AuthMethod.DIGITAL_SIGNATURE:
        length = data[0] if data else 0
        if not length or len(data) <= 1 + length:
            raise SignatureError("the digital signature has no room for its AlgorithmIdentifier")
        scheme = parse_algorithm_identifier(data[1 : 1 + length])
        return _check(key, scheme, data[1 + length :], octets, allow_sha1)
    if method == AuthMethod.RSA_SIGNATURE:
        return _check_rsa_classic(key, data, octets, allow_sha1)
    if method in ECDSA_METHODS:
        return _check_ecdsa_classic(key, method, data, octets)
    raise SignatureError(f"AUTH method {method} is not a signature we accept")


def _check(key: PublicKey, scheme: Scheme, signature: bytes, octets: bytes, allow_sha1: bool) -> str:
    if scheme.hash == HashAlgorithm.SHA1 and not allow_sha1:
        raise SignatureError(
            f"the signature is {scheme}, which is too weak",
            hint="if the gateway cannot be changed, set gateway.allow_sha1 = true",
        )
    if scheme.family == Family.ECDSA and isinstance(key._key, ec.EllipticCurvePublicKey):
        try:
            decode_dss_signature(signature)
        except ValueError:
            raw = len(signature) == 2 * _scalar_length(key._key)
            form = "the bare r||s" if raw else "malformed"
            raise SignatureError(f"the ECDSA signature is {form}, but method 14 wants DER (RFC 7427)") from None
    key.check(scheme, signature, octets)
    return str(scheme)


def _check_rsa_classic(key: PublicKey, signature: bytes, octets: bytes, allow_sha1: bool) -> str:
    if not isinstance(key._key, rsa.RSAPublicKey):
        raise SignatureError(f"AUTH method 1 is an RSA signature, but the key is {key.kind}")
    failure: SignatureError | None = None
    for algorithm in (*SHA2, HashAlgorithm.SHA1):  # the signature itself says which, RFC 7296 section 3.8
        scheme = Scheme(family=Family.RSA_PKCS1, hash=algorithm)
        try:
            key.check(scheme, signature, octets)
        except SignatureError as error:
            failure = failure or error
            continue
        return _check(key, scheme, signature, octets, allow_sha1)
    raise failure or SignatureError("the RSA signature does not verify")


def _check_ecdsa_classic(key: PublicKey, method: AuthMethod, signature: bytes, octets: bytes) -> str:
    curve, algorithm = ECDSA_METHODS[method]
    if key.kind != f"ECDSA {curve}" or not isinstance(key._key, ec.EllipticCurvePublicKey):
        raise SignatureError(f"AUTH method {int(method)} is ECDSA {curve}, but the key is {key.kind}")
    length = _scalar_length(key._key)
    if len(signature) != 2 * length:
        form = "DER" if signature[:1] == b"\x30" else f"{len(signature)} bytes"
        raise SignatureError(
            f"the ECDSA signature is {form}, but method {int(method)} wants {2 * length} bytes of r||s"
        )
    r, s = int.from_bytes(signature[:length]), int.from_bytes(signature[length:])
    scheme = Scheme(family=Family.ECDSA, hash=algorithm)
    key.check(scheme, encode_dss_signature(r, s), octets)
    return str(scheme)


def pss_padding(scheme: Scheme) -> padding.PSS:
    """The padding of an RSASSA-PSS scheme."""
    return padding.PSS(mgf=padding.MGF1(HASHES[scheme.hash]), salt_length=scheme.salt_length)


def _scalar_length(key: ec.EllipticCurvePublicKey) -> int:
    return (key.curve.key_size + 7) // 8
