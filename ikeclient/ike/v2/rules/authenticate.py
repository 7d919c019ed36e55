"""Proofs of identity in IKE_AUTH (RFC 7296 sections 2.15 and 2.16, RFC 7427).

What is done with certificates is in `certificates`, which is imported where there is one: a tunnel with
pre-shared keys alone never loads it.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime

from ikeclient.crypto.algorithms.keymat import shared_key_auth
from ikeclient.crypto.sign.remote_key import RemoteKey
from ikeclient.crypto.sign.schemes import SCHEME_NAMES, Family, Scheme
from ikeclient.eap.credentials import TlsCredentials
from ikeclient.errors import GatewayNotAuthenticated
from ikeclient.ike.config import (
    CertificateAuth,
    EapAuth,
    EapOnly,
    IkeConfig,
    OwnAuth,
    PskAuth,
    TrustedCertificate,
)
from ikeclient.ike.events import Proof
from ikeclient.ike.v2.keying import Candidate
from ikeclient.ike.v2.rules.proofs import (
    OwnProof,
    ProofGenerator,
    Verified,
    by_certificate,
    initiator_octets,
    responder_octets,
    same_identity,
    shown,
    wrong_identity,
)
from ikeclient.wire.identity import AuthPayload, CertPayload, CertReqPayload, Identity
from ikeclient.wire.registry import AuthMethod


def own_proof(auth: OwnAuth, identity: Identity, candidate: Candidate, *, allow_sha1: bool) -> ProofGenerator:
    """Prove that we are `identity` in a request that begins an authentication, unless EAP follows (section 2.16).

    Yields a `Need` if the key is elsewhere, and is resumed with the `Signature`.
    Raises `AuthenticationFailed` when the gateway accepts no signature that our key can make.
    """
    octets = initiator_octets(candidate, identity)
    match auth:
        case PskAuth(psk=psk):
            data = shared_key_auth(candidate.keying.suite.prf, psk, octets)
            return OwnProof(auth=AuthPayload(method=AuthMethod.SHARED_KEY, data=data))
        case CertificateAuth():
            from ikeclient.ike.v2.rules.certificates import own_signature

            return (yield from own_signature(auth, octets, candidate, allow_sha1=allow_sha1))
        case EapAuth():
            return OwnProof()


def own_method(auth: OwnAuth, scheme: Scheme | None) -> Proof:
    """How we proved ourselves without EAP, for people."""
    match auth:
        case CertificateAuth(chain=(own, *_), key=key):
            place = key.place if isinstance(key, RemoteKey) else None
            return by_certificate(own, str(scheme), place)
        case _:
            return Proof(method="psk")


def refused_before(config: IkeConfig) -> Scheme | None:
    """The scheme that the gateway refused in the attempt before this one."""
    return config.auth.refused if isinstance(config.auth, CertificateAuth) else None


def instead_of(signed: Scheme) -> Scheme | None:
    """The scheme that a gateway may verify which does not take RSASSA-PSS; None for signatures of other kinds."""
    return Scheme(family=Family.RSA_PKCS1, hash=signed.hash) if signed.family == Family.RSA_PSS else None


def setting(scheme: Scheme | None) -> str:
    """The line of a profile that makes only this scheme sign."""
    name = next((name for name, each in SCHEME_NAMES.items() if each == scheme), None)
    return "see auth.signature" if name is None else f'auth.signature = ["{name}"]'


def certificate_request(config: IkeConfig) -> tuple[CertReqPayload, ...]:
    """The CERTREQ payloads; none if the gateway has a PSK (section 3.7)."""
    match config.gateway.auth:
        case TrustedCertificate(trust=trust) | EapOnly(trust=trust):
            from ikeclient.ike.v2.rules.certificates import request

            return request(config, trust)
        case PskAuth():
            return ()


def own_expiry(auth: OwnAuth, now: datetime) -> str | None:
    """What to say about our certificate if it expires soon."""
    match auth:
        case CertificateAuth(chain=chain) | EapAuth(tls=TlsCredentials(chain=chain)) if chain:
            soon = chain[0].validity.ends_soon(now)
            return f"our certificate {soon}: have it renewed" if soon else None
    return None


def shared_key_proof(candidate: Candidate, secret: bytes, identity: Identity) -> AuthPayload:
    """Our AUTH from a shared secret: the MSK of an EAP method, or SK_pi if it made none (section 2.16)."""
    data = shared_key_auth(candidate.keying.suite.prf, secret, initiator_octets(candidate, identity))
    return AuthPayload(method=AuthMethod.SHARED_KEY, data=data)


def verify_shared_key(candidate: Candidate, secret: bytes, identity: Identity, auth: AuthPayload, what: str) -> None:
    """Raise `GatewayNotAuthenticated` unless `auth` proves knowledge of `secret`; `what` names it for people."""
    if auth.method != AuthMethod.SHARED_KEY:
        raise GatewayNotAuthenticated(
            f"the gateway authenticated with {auth.method}, not with {what}",
            hint="the profile's [auth] method and the gateway's configuration differ",
        )
    expected = shared_key_auth(candidate.keying.suite.prf, secret, responder_octets(candidate, identity))
    if not hmac.compare_digest(expected, auth.data):
        raise GatewayNotAuthenticated(
            f"the gateway {shown(identity)} did not prove that it knows {what}",
            reason="its AUTH payload does not verify",
        )


def verify_gateway(
    config: IkeConfig,
    candidate: Candidate,
    identity: Identity,
    certificates: Sequence[CertPayload],
    auth: AuthPayload | None,
    now: datetime,
) -> Verified | None:
    """How the gateway proved to be who the profile says it is; None if that is left to EAP (RFC 5998).

    Raises `GatewayNotAuthenticated` if it did not.

    `identity` is the IDr it sent. With a certificate, the configured identity must be in the certificate, and IDr must
    be either that identity or another one that the certificate confirms.
    """
    wanted = config.gateway.identity
    if auth is None:
        if not isinstance(config.gateway.auth, EapOnly):
            raise GatewayNotAuthenticated("the gateway did not authenticate itself", reason="AUTH is missing")
        if wanted is not None and not same_identity(identity, wanted):
            raise wrong_identity(wanted, [shown(identity)])
        return None
    match config.gateway.auth:
        case PskAuth(psk=psk):
            if wanted is not None and not same_identity(identity, wanted):
                raise wrong_identity(wanted, [shown(identity)])
            verify_shared_key(candidate, psk, identity, auth, "the pre-shared key")
            return Verified(proof=Proof(method="psk"))
        case TrustedCertificate(trust=trust) | EapOnly(trust=trust):
            from ikeclient.ike.v2.rules.certificates import verify_signature

            return verify_signature(config, trust, candidate, identity, certificates, auth, now)
