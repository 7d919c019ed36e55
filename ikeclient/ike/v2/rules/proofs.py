"""What a proof of identity covers and is told by, whatever it is made with (RFC 7296 section 2.15)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from ikeclient.crypto.algorithms.keymat import signed_octets
from ikeclient.crypto.pki.identity import identity_text
from ikeclient.crypto.pki.names import same_name
from ikeclient.crypto.pki.revocation_status import RevocationQuery
from ikeclient.crypto.sign.schemes import Scheme
from ikeclient.errors import GatewayNotAuthenticated
from ikeclient.ike.events import Need, Proof
from ikeclient.ike.v2.keying import Candidate
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.identity import AuthPayload, CertPayload, Identity
from ikeclient.wire.registry import IdType

if TYPE_CHECKING:
    from ikeclient.crypto.pki.certificate import Certificate


def initiator_octets(candidate: Candidate, identity: Identity) -> bytes:
    """What the initiator signs: InitiatorSignedOctets of section 2.15."""
    keys, prf = candidate.keying.keys, candidate.keying.suite.prf
    return signed_octets(prf, keys.pi, candidate.request, candidate.nonce_r, identity.body())


def responder_octets(candidate: Candidate, identity: Identity) -> bytes:
    """What the responder signs: ResponderSignedOctets of section 2.15."""
    keys, prf = candidate.keying.keys, candidate.keying.suite.prf
    return signed_octets(prf, keys.pr, candidate.response, candidate.nonce_i, identity.body())


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnProof:
    """Our CERT payloads and our AUTH, None if EAP follows; `scheme` is how it is signed, None without a signature."""

    certificates: tuple[CertPayload, ...] = ()
    auth: AuthPayload | None = None
    scheme: Scheme | None = None


ProofGenerator = Generator[Need, object, OwnProof]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How the gateway proved itself, and what is to be asked about its certificate; None if that has no path.

    `notice` is what its administrator should hear.
    """

    proof: Proof
    query: RevocationQuery | None = None
    notice: str | None = None


def shown(identity: Identity) -> str:
    """An identity as a profile would have it."""
    return identity_text(identity.type, identity.data)


def same_identity(one: Identity, other: Identity) -> bool:
    """Whether two identities are equal; case does not count in host names, mail addresses and distinguished names."""
    if one.type == other.type and one.type in (IdType.FQDN, IdType.RFC822_ADDR):
        return one.data.lower() == other.data.lower()
    if one.type == other.type == IdType.DER_ASN1_DN:
        return same_name(one.data, other.data)
    return one == other


def by_certificate(own: Certificate, scheme: str, place: str | None = None) -> Proof:
    """A proof by a signature, for people; `place` is where the key is, None for a file."""
    return Proof(
        method="certificate",
        subject=own.subject,
        serial=own.serial,
        expires=own.validity.end,
        signature=scheme,
        key=place,
    )


def wrong_identity(wanted: Identity, offered: Sequence[str]) -> GatewayNotAuthenticated:
    """The error of a gateway that is somebody else."""
    return GatewayNotAuthenticated(
        f"the gateway is not {shown(wanted)}",
        reason=f"it says it is {', '.join(offered)}",
        hint="set [gateway] identity if that is the right gateway",
    )
