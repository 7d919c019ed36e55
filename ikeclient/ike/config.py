"""What one IKE connection is asked to do: the protocol's own view of a profile, already loaded and validated.

Certificates and keys are known here by their names alone: a tunnel without any does not load what reads them.
"""

from __future__ import annotations

from dataclasses import field, replace
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Self

from ikeclient.crypto.algorithms.transforms import AlgorithmProposal
from ikeclient.crypto.pki.bundles import CertificateForm
from ikeclient.crypto.pki.revocation_status import RevocationPolicy
from ikeclient.crypto.sign.remote_key import RemoteKey
from ikeclient.crypto.sign.schemes import Family, Scheme
from ikeclient.eap.credentials import SimCredentials, TlsCredentials
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.identity import Identity
from ikeclient.wire.registry import EapType
from ikeclient.wire.selector import TrafficSelector

if TYPE_CHECKING:
    from ikeclient.crypto.pki.trust_store import Certificate, TrustStore
    from ikeclient.crypto.sign.private_key import PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PskAuth:
    """Knowledge of a pre-shared key, ours or the gateway's (RFC 7296 section 2.15)."""

    psk: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuth:
    """We sign with `key`; `chain` is our certificate followed by its intermediates.

    `signature` are the only schemes that may sign, in order of preference; empty means the best that the gateway's list
    of hashes allows. `refused` is one that the gateway did not accept in an attempt just before.
    """

    chain: tuple[Certificate, ...]
    key: PrivateKey | RemoteKey = field(repr=False)
    signature: tuple[Scheme, ...] = ()
    refused: Scheme | None = None

    def without_pss(self, refused: Scheme) -> Self | None:
        """The same with RSA PKCS#1 v1.5 in place of the default RSASSA-PSS, None if there is no such choice.

        Some gateways that know RFC 7427 cannot verify RSASSA-PSS, and have no way to say so in advance.
        """
        if self.signature or refused.family != Family.RSA_PSS:
            return None
        return replace(self, signature=(Scheme(family=Family.RSA_PKCS1, hash=refused.hash),), refused=refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class EapAuth:
    """We answer EAP with one of `methods`, in order of preference (RFC 7296 section 2.16).

    `tls` is for the methods over TLS, `sim` for those with a card. A gateway that has shown no certificate is answered
    with those of `eap.traits.MUTUAL` only.
    """

    identity: str
    methods: tuple[EapType, ...]
    password: str | None = field(default=None, repr=False)
    tls: TlsCredentials | None = None
    sim: SimCredentials | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedCertificate:
    """The gateway signs, with a certificate that `trust` leads to."""

    trust: TrustStore


@dataclass(frozen=True, slots=True, kw_only=True)
class EapOnly:
    """The gateway proves itself inside EAP alone (RFC 5998), by a method that authenticates both and makes keys.

    If it signs all the same, `trust` must lead to its certificate.
    """

    trust: TrustStore


OwnAuth = PskAuth | CertificateAuth | EapAuth
GatewayAuth = PskAuth | TrustedCertificate | EapOnly


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondAuth:
    """Who else we are, and how we prove that after the first authentication (RFC 4739)."""

    identity: Identity
    auth: OwnAuth


@dataclass(frozen=True, slots=True, kw_only=True)
class Ppk:
    """A post-quantum preshared key (RFC 8784); `identity` is without its type, `required` forbids to leave it out."""

    identity: bytes
    secret: bytes = field(repr=False)
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedGateway:
    """Who the gateway has to be, and how it has to prove that.

    Without an `identity`, with a PSK only, it may be anybody who knows the key. `named` tells it which one we expect
    (IDr in the first IKE_AUTH request). `certificate_forms` are those besides plain X.509 in which it may send its
    certificates.
    """

    identity: Identity | None
    auth: GatewayAuth
    named: bool = True
    certificate_forms: frozenset[CertificateForm] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildConfig:
    """What is asked for the tunnel: `remote_selectors` as TSr, `request` as configuration.

    An empty `request` asks for none, and TSi is then the address of the path. `addresses` are those that were had
    before a connection was lost: they are asked for again.
    """

    esp_proposals: tuple[AlgorithmProposal, ...]
    request: frozenset[str] = frozenset({"ipv4", "ipv6", "dns"})
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    remote_selectors: tuple[TrafficSelector, ...] = ()
    esn: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Times in seconds: `timeout` for one attempt to connect, `login_timeout` for one whose login is under way."""

    timeout: float = 30.0
    login_timeout: float = 0.0  # counts if longer, once a login has probably reached the gateway
    liveness: float = 30.0
    rekey_ike: float = 4 * 3600.0
    rekey_child: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeConfig:
    """Everything an `Initiator` needs to know.

    `fragment_size` is the largest IKE datagram sent in one piece, IP and UDP headers included.
    """

    local_identity: Identity
    auth: OwnAuth
    gateway: ExpectedGateway
    ike_proposals: tuple[AlgorithmProposal, ...]
    child: ChildConfig
    timing: Timing = Timing()
    second_auth: SecondAuth | None = None
    ppk: Ppk | None = None
    mobike: bool = True
    fragment_size: int = 1280
    allow_sha1: bool = False
    revocation: RevocationPolicy = RevocationPolicy.RELAXED  # of the gateway's certificate
    disclose_keys: bool = False
    initial_contact: bool = True  # tell the gateway to forget older connections of ours (RFC 7296 section 2.4)

    @property
    def uses_eap(self) -> bool:
        """Whether we answer EAP, first or second."""
        second = self.second_auth and self.second_auth.auth
        return isinstance(self.auth, EapAuth) or isinstance(second, EapAuth)

    @property
    def uses_certificates(self) -> bool:
        """Whether a certificate may have a part in it: everything but pre-shared keys on both sides."""
        second = self.second_auth and self.second_auth.auth
        return not all(isinstance(way, PskAuth | None) for way in (self.auth, self.gateway.auth, second))
