"""The ways to authenticate that a peer announces in SUPPORTED_AUTH_METHODS (RFC 9593), in words for people."""

from __future__ import annotations

from ikeclient.crypto.sign.schemes import parse_algorithm_identifier
from ikeclient.errors import SignatureError
from ikeclient.wire.registry import AuthMethod

MOST = 16  # announcements that are shown

_NAMES: dict[int, str] = {
    AuthMethod.RSA_SIGNATURE: "RSA with SHA-1",
    AuthMethod.SHARED_KEY: "a pre-shared key",
    AuthMethod.ECDSA_SHA256_P256: "ECDSA on P-256",
    AuthMethod.ECDSA_SHA384_P384: "ECDSA on P-384",
    AuthMethod.ECDSA_SHA512_P521: "ECDSA on P-521",
    AuthMethod.NULL: "no authentication",
    AuthMethod.DIGITAL_SIGNATURE: "any signature",
}


def announced_methods(data: bytes) -> tuple[str, ...]:
    """The methods in order, each once. Nothing depends on them, so what is malformed ends the list without an error.

    Each has a length, a method, and for signatures a link to a CERTREQ and an AlgorithmIdentifier (section 3.2).
    """
    found: dict[str, None] = {}
    while len(data) >= 2 and 2 <= data[0] <= len(data) and len(found) < MOST:
        entry, data = data[: data[0]], data[data[0] :]
        found[_name(entry[1], entry[3:])] = None
    return tuple(found)


def _name(method: int, algorithm: bytes) -> str:
    if method == AuthMethod.DIGITAL_SIGNATURE and algorithm:
        try:
            return str(parse_algorithm_identifier(algorithm))
        except SignatureError:
            return "an unknown signature"
    return _NAMES.get(method, f"method {method}")
