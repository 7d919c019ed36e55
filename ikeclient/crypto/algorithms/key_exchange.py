"""Key exchange methods (RFC 7296 section 3.4, RFC 3526, RFC 5903, RFC 8031) and the checks of RFC 6989.

The two ends have different halves. The initiator makes a key share, sends its public value and gets the secret from the
answer; the responder gets its answer and the secret from that value in one step. With Diffie-Hellman both do the same;
a key encapsulation mechanism (RFC 9370) fits only so.

Every value from the peer is checked before it meets our secret: its exact length, 1 < y < p-1 for MODP groups, that an
ECP point is on its curve, that a Curve25519 or Curve448 result is not zero.

The curves are those of `cryptography`. The MODP groups are not: that library has deprecated finite-field
Diffie-Hellman and announced its removal. They use `pow`, whose running time depends on the exponent. What bounds that
leak is that an exponent lives for one exchange, so that nobody can time it more than a handful of times.
"""

from __future__ import annotations

from dataclasses import field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ikeclient.crypto.algorithms.modp import GENERATOR, MODP_GROUPS
from ikeclient.crypto.algorithms.prf import Entropy
from ikeclient.crypto.algorithms.transforms import KeyExchange
from ikeclient.errors import KeyExchangeError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import KeyExchangeId


class KeyShare(Protocol):
    """The initiator's half of one key exchange. The secret inside has no accessor and no representation."""

    @property
    def method(self) -> KeyExchange:
        """The method this share belongs to."""

    @property
    def public(self) -> bytes:
        """The key exchange data to send: the MODP value padded to the group size, x||y, or the u-coordinate."""

    def shared_secret(self, peer_public: bytes) -> bytes:
        """The secret shared with the owner of `peer_public`: padded to the group size, x, or the u-coordinate.

        Raises KeyExchangeError for a value that RFC 6989 section 2 or RFC 8031 section 2 tells us to refuse.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAnswer:
    """The responder's half of one key exchange: what to send, and the secret shared with its receiver."""

    public: bytes
    secret: bytes = field(repr=False)


def respond(method: KeyExchange, peer_public: bytes, entropy: Entropy) -> KeyAnswer:
    """Answer the key share of an initiator. Raises as `KeyShare.shared_secret` and `generate` do."""
    share = generate(method, entropy)
    return KeyAnswer(public=share.public, secret=share.shared_secret(peer_public))


def generate(method: KeyExchange, entropy: Entropy) -> KeyShare:
    """Make an initiator's share; the same `entropy` gives the same. Raises ValueError for a method we do not run."""
    if method.id in MODP_GROUPS:
        return _Modp(method, entropy)
    if method.id in _ECP:
        return _Ecp(method, entropy)
    match method.id:
        case KeyExchangeId.CURVE25519:
            return _Curve25519(method, entropy)
        case KeyExchangeId.CURVE448:
            return _Curve448(method, entropy)
    raise ValueError(f"no implementation of key exchange {method.keyword}")


class _Modp:
    __slots__ = ("_exponent", "_prime", "method", "public")

    def __init__(self, method: KeyExchange, entropy: Entropy) -> None:
        group = MODP_GROUPS[method.id]
        self.method = method
        self._prime = group.prime
        # The top bit is set, so that the length of the exponent tells nothing about it.
        random = int.from_bytes(entropy(group.exponent_bits // 8))
        self._exponent = random | 1 << (group.exponent_bits - 1)
        self.public = pow(GENERATOR, self._exponent, self._prime).to_bytes(method.public_length)

    def shared_secret(self, peer_public: bytes) -> bytes:
        _require_length(self.method, peer_public)
        value = int.from_bytes(peer_public)
        if not 1 < value < self._prime - 1:
            raise KeyExchangeError(f"the peer's {self.method.keyword} value is outside 2 to p-2 (RFC 6989 section 2.1)")
        return pow(value, self._exponent, self._prime).to_bytes(self.method.public_length)


_ECP: dict[KeyExchangeId, tuple[ec.EllipticCurve, int]] = {  # the curve and the order of its group
    KeyExchangeId.ECP_256: (
        ec.SECP256R1(),
        int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16),
    ),
    KeyExchangeId.ECP_384: (
        ec.SECP384R1(),
        int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16),
    ),
    KeyExchangeId.ECP_521: (
        ec.SECP521R1(),
        int(
            "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
            "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
            16,
        ),
    ),
}


class _Ecp:
    __slots__ = ("_curve", "_private", "method", "public")

    def __init__(self, method: KeyExchange, entropy: Entropy) -> None:
        self.method = method
        self._curve, order = _ECP[method.id]
        # Eight bytes more than needed make the bias of the reduction negligible (FIPS 186-5 appendix A.2.1).
        scalar = int.from_bytes(entropy(method.public_length // 2 + 8)) % (order - 1) + 1
        self._private = ec.derive_private_key(scalar, self._curve)
        point = self._private.public_key().public_numbers()
        half = method.public_length // 2
        self.public = point.x.to_bytes(half) + point.y.to_bytes(half)

    def shared_secret(self, peer_public: bytes) -> bytes:
        _require_length(self.method, peer_public)
        half = len(peer_public) // 2
        x, y = int.from_bytes(peer_public[:half]), int.from_bytes(peer_public[half:])
        try:
            peer = ec.EllipticCurvePublicNumbers(x, y, self._curve).public_key()
        except ValueError:
            raise KeyExchangeError(f"the peer's {self.method.keyword} point is not on the curve") from None
        return self._private.exchange(ec.ECDH(), peer)


class _Curve25519:
    __slots__ = ("_private", "method", "public")

    def __init__(self, method: KeyExchange, entropy: Entropy) -> None:
        self.method = method
        self._private = X25519PrivateKey.from_private_bytes(entropy(method.public_length))
        self.public = self._private.public_key().public_bytes_raw()

    def shared_secret(self, peer_public: bytes) -> bytes:
        _require_length(self.method, peer_public)
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except ValueError:
            raise _low_order(self.method) from None


class _Curve448:
    __slots__ = ("_private", "method", "public")

    def __init__(self, method: KeyExchange, entropy: Entropy) -> None:
        self.method = method
        self._private = X448PrivateKey.from_private_bytes(entropy(method.public_length))
        self.public = self._private.public_key().public_bytes_raw()

    def shared_secret(self, peer_public: bytes) -> bytes:
        _require_length(self.method, peer_public)
        try:
            return self._private.exchange(X448PublicKey.from_public_bytes(peer_public))
        except ValueError:
            raise _low_order(self.method) from None


def _low_order(method: KeyExchange) -> KeyExchangeError:
    return KeyExchangeError(f"the peer's {method.keyword} value gives the all-zero secret (RFC 7748 section 6)")


def _require_length(method: KeyExchange, peer_public: bytes) -> None:
    if len(peer_public) != method.public_length:
        raise KeyExchangeError(
            f"the peer's {method.keyword} value has {len(peer_public)} bytes, not {method.public_length}"
        )
