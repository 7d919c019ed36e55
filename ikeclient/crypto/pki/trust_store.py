"""The certificates we trust, and whether a chain proves who the gateway is (RFC 5280 section 6, RFC 4945).

The verifier of `cryptography` speaks for the web: it refuses Ed25519 and Ed448 keys, and wants a host name or an
address and an extended key usage for TLS. IKE has other identities and other rules, so path validation is our own;
signatures and parsing are not.

Revocation is a question of its own, asked when a path is known (`revocation`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from ikeclient.crypto.pki.certificate import Certificate, load_pkcs12
from ikeclient.crypto.pki.identity import identity_text
from ikeclient.crypto.pki.path import Purpose, find_path
from ikeclient.errors import GatewayNotAuthenticated, ProfileError
from ikeclient.wire.registry import IdType

__all__ = ["Certificate", "TrustStore", "load_pkcs12", "validate_gateway"]

_MAX_AUTHORITY_HASHES = 64
_MAX_SHOWN_IDENTITIES = 8


class TrustStore:
    """Trust anchors: certificates the profile or the system vouches for, found by name."""

    __slots__ = ("_anchors",)

    def __init__(self, anchors: Iterable[Certificate]) -> None:
        self._anchors = tuple(dict.fromkeys(anchors))

    @classmethod
    def from_certificates(cls, certificates: Iterable[Certificate]) -> TrustStore:
        """A store of exactly these certificates."""
        return cls(certificates)

    @classmethod
    def system(cls, bundles: Iterable[bytes]) -> TrustStore:
        """A store of every readable certificate in the contents of the system's bundle files.

        Raises ProfileError where there is none at all.
        """
        found: list[Certificate] = []
        for bundle in bundles:
            with suppress(ProfileError):
                found += Certificate.load_many(bundle)
        if not found:
            hint = "install the package ca-certificates, or name the authority's certificate as `ca` in the profile"
            raise ProfileError("the system's trust store holds no certificate", hint=hint)
        return cls(found)

    @property
    def anchors(self) -> tuple[Certificate, ...]:
        """The certificates, each once."""
        return self._anchors

    @property
    def authority_hashes(self) -> bytes:
        """The data of a CERTREQ payload (RFC 7296 section 3.7): a SHA-1 per authority, of 64 authorities at most."""
        hashes = dict.fromkeys(anchor.authority_hash for anchor in self._anchors)
        return b"".join(list(hashes)[:_MAX_AUTHORITY_HASHES])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrustStore) and self._anchors == other._anchors

    def __hash__(self) -> int:
        return hash(self._anchors)

    def __len__(self) -> int:
        return len(self._anchors)

    def __repr__(self) -> str:
        return f"<TrustStore of {len(self)}>"


def validate_gateway(
    chain: Sequence[Certificate],
    trust: TrustStore,
    now: datetime,
    id_type: IdType,
    identity: bytes,
    *,
    allow_client_only_eku: bool = False,
) -> tuple[Certificate, ...]:
    """The path that proves that the key of `chain` belongs to `identity`, its anchor last.

    Raises GatewayNotAuthenticated if there is none.

    `chain[0]` is the gateway's own certificate; the rest is in any order and may hold anything. `now` is aware, in the
    time zone that messages shall show. The signature in AUTH, which proves that the gateway has the key, is checked
    elsewhere.
    """
    if not chain:
        raise GatewayNotAuthenticated("the gateway sent no certificate", reason="it must prove who it is with one")
    purpose = Purpose.CLIENT_TOO if allow_client_only_eku else Purpose.GATEWAY
    path = find_path(chain[0], chain[1:], trust.anchors, now, purpose)
    if chain[0].matches(id_type, identity):
        return path
    offered = chain[0].identities()
    shown = ", ".join(identity_text(*name) for name in offered[:_MAX_SHOWN_IDENTITIES])
    shown += ", ..." if len(offered) > _MAX_SHOWN_IDENTITIES else ""
    wanted = identity_text(id_type, identity)
    raise GatewayNotAuthenticated(
        "the gateway's certificate is for somebody else",
        reason=f"the profile wants {wanted}, the certificate proves {shown or 'no name at all'}",
        hint="if one of these is the right gateway, set `identity` in the section [gateway] of the profile to it",
    )
