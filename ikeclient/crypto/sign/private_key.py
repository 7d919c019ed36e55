"""Private keys that sign AUTH octets, wherever they are, and which signature is made with them.

A key has one thing to do. Which schemes may sign, and how a signature is written into AUTH, is decided here for all of
them. There are two worlds (see `signature`): with SIGNATURE_HASH_ALGORITHMS from the peer method 14 names the scheme,
without them the method number is the scheme.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ikeclient.crypto.sign.schemes import HASH_NAMES, Family, Scheme, algorithm_identifier, pss
from ikeclient.crypto.sign.signature import ECDSA_METHODS, SHA2, PublicKey
from ikeclient.errors import SignatureError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import AuthMethod, HashAlgorithm


class PrivateKey(Protocol):
    """A key that can sign. It has no representation beyond its kind."""

    @property
    def public_key(self) -> PublicKey:
        """Its public half, by which two keys are compared."""

    def sign(self, octets: bytes, schemes: Sequence[Scheme]) -> tuple[Scheme, bytes]:
        """Sign with the first of `schemes` that this key can; return that scheme and the signature.

        `schemes` are those that the receiver verifies, the preferred one first, of which one at least fits the public
        key. An ECDSA signature is in DER. Raises SignatureError, with what can be done about it, if none can be made.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSignature:
    """The method and data of an AUTH payload, and the scheme that signed."""

    method: AuthMethod
    data: bytes
    scheme: Scheme


def sign_auth(
    key: PrivateKey,
    octets: bytes,
    peer_hashes: frozenset[HashAlgorithm] | None,
    *,
    allow_sha1: bool = False,
    schemes: Sequence[Scheme] = (),
) -> AuthSignature:
    """Sign AUTH octets by one of the schemes that `acceptable` names with the same arguments."""
    scheme, signature = key.sign(
        octets, acceptable(key.public_key, peer_hashes, allow_sha1=allow_sha1, schemes=schemes)
    )
    return auth_signature(key.public_key, peer_hashes, scheme, signature)


def auth_signature(
    key: PublicKey, peer_hashes: frozenset[HashAlgorithm] | None, scheme: Scheme, signature: bytes
) -> AuthSignature:
    """Write a signature that `key` made by `scheme` as an AUTH payload has it; ECDSA signatures come in DER."""
    if peer_hashes is not None:
        identifier = algorithm_identifier(scheme)
        data = bytes([len(identifier)]) + identifier + signature
        return AuthSignature(method=AuthMethod.DIGITAL_SIGNATURE, data=data, scheme=scheme)
    classic = _classic(key)
    assert classic is not None
    if scheme.family == Family.ECDSA:
        length = (key.strength + 7) // 8
        signature = b"".join(number.to_bytes(length) for number in decode_dss_signature(signature))
    return AuthSignature(method=classic[0], data=signature, scheme=scheme)


def acceptable(
    key: PublicKey,
    peer_hashes: frozenset[HashAlgorithm] | None,
    *,
    allow_sha1: bool = False,
    schemes: Sequence[Scheme] = (),
    families: Sequence[Family] = (),
) -> tuple[Scheme, ...]:
    """The schemes to sign with, the preferred one first; at least one.

    `families` are what the place of the key can make, the best first; empty means all of its kind.
    `peer_hashes` is what the peer's SIGNATURE_HASH_ALGORITHMS lists, None if it sent none. `schemes` are the only ones
    that may sign, in order of preference; empty means every good one. Raises SignatureError, which says what
    can be done about it, if the peer accepts nothing that this key can do.
    """
    families = families or key.families
    if peer_hashes is None:
        classic = _classic(key)
        possible = [classic[1]] if classic and (allow_sha1 or classic[1].hash != HashAlgorithm.SHA1) else []
    else:
        preferred = schemes or _default_schemes(key, families[0], allow_sha1)
        possible = [s for s in preferred if s.hash in peer_hashes and s.family in families]
    found = tuple(scheme for scheme in possible if not schemes or scheme in schemes)
    if not found:
        raise _no_scheme(key, peer_hashes, schemes)
    return found


def _default_schemes(key: PublicKey, family: Family, allow_sha1: bool) -> tuple[Scheme, ...]:
    """The schemes of the family, in order of preference."""
    if not key.strength:
        return (Scheme(family=family, hash=HashAlgorithm.IDENTITY),)
    # The hash that is as strong as the key (RFC 7427 section 6), then stronger ones, then weaker ones.
    fit = 0 if key.strength <= 256 else 1 if key.strength <= 384 else 2
    hashes = [*SHA2[fit:], *reversed(SHA2[:fit]), *([HashAlgorithm.SHA1] if allow_sha1 else [])]
    return tuple(pss(h) if family == Family.RSA_PSS else Scheme(family=family, hash=h) for h in hashes)


def _classic(key: PublicKey) -> tuple[AuthMethod, Scheme] | None:
    """What signs for a peer without RFC 7427, where the method number is the scheme."""
    if Family.RSA_PKCS1 in key.families:
        return AuthMethod.RSA_SIGNATURE, Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA1)
    for method, (curve, algorithm) in ECDSA_METHODS.items():
        if key.kind == f"ECDSA {curve}":
            return method, Scheme(family=Family.ECDSA, hash=algorithm)
    return None


def _no_scheme(
    key: PublicKey, peer_hashes: frozenset[HashAlgorithm] | None, schemes: Sequence[Scheme]
) -> SignatureError:
    """The error that says what the peer accepts, and the way out."""
    kind = key.kind
    limited = " that auth.signature allows" if schemes else ""
    if peer_hashes is not None:
        names = [HASH_NAMES.get(algorithm, str(algorithm)) for algorithm in sorted(peer_hashes)]
        message = (
            f"our {kind} key cannot sign{limited} with any hash the peer accepts ({', '.join(names) or 'nothing'})"
        )
        if schemes:
            return SignatureError(message, hint="leave out auth.signature, or add a scheme with one of these hashes")
        old = HashAlgorithm.SHA1 in peer_hashes and Family.ED25519 not in key.families
        return SignatureError(
            message, hint="if the gateway cannot be changed, set gateway.allow_sha1 = true" if old else None
        )
    if Family.RSA_PKCS1 in key.families:
        way_out = ("leave out auth.signature and " if schemes else "") + "set gateway.allow_sha1 = true"
        return SignatureError(
            f"the peer does not know RFC 7427, so it accepts RSA with SHA-1 only (our key is {kind})",
            hint=f"if the gateway cannot be changed, {way_out}; with an ECDSA key on P-256 no SHA-1 is needed",
        )
    return SignatureError(
        f"the peer does not know RFC 7427, so it accepts no signature of this key{limited} (our key is {kind})",
        hint="use a certificate with an ECDSA key on P-256, P-384 or P-521",
    )
