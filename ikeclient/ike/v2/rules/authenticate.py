"""Proofs of identity in IKE_AUTH (RFC 7296 sections 2.15 and 2.16, RFC 7427)."""

from __future__ import annotations

import hmac
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from ikeclient.crypto.algorithms.keymat import shared_key_auth, signed_octets
from ikeclient.crypto.pki.bundles import (
    MAX_URLS,
    Bundle,
    CertificateForm,
    CertificateUrls,
    FetchedCertificates,
    HashAndUrl,
    own_first,
    read_bundle,
    read_hash_and_url,
    read_pkcs7,
)
from ikeclient.crypto.pki.identity import identity_text
from ikeclient.crypto.pki.names import same_name
from ikeclient.crypto.pki.revocation import Evidence, RevocationQuery, own_query
from ikeclient.crypto.pki.revocation import query as revocation_query
from ikeclient.crypto.pki.trust_store import Certificate, TrustStore, validate_gateway
from ikeclient.crypto.sign.private_key import AuthSignature, PrivateKey, acceptable, auth_signature, sign_auth
from ikeclient.crypto.sign.remote_key import RemoteKey, Signature, SignatureRequest
from ikeclient.crypto.sign.schemes import SCHEME_NAMES, Family, Scheme
from ikeclient.crypto.sign.signature import verify
from ikeclient.eap.credentials import TlsCredentials
from ikeclient.errors import (
    AuthenticationFailed,
    GatewayNotAuthenticated,
    KeyUnavailable,
    ParseError,
    SignatureError,
)
from ikeclient.ike.config import (
    CertificateAuth,
    EapAuth,
    EapOnly,
    IkeConfig,
    OwnAuth,
    PskAuth,
    TrustedCertificate,
)
from ikeclient.ike.events import Need, NeedKind, Proof
from ikeclient.ike.v2.keying import Candidate
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.identity import AuthPayload, CertPayload, CertReqPayload, Identity
from ikeclient.wire.registry import AuthMethod, CertEncoding, IdType

MAX_CERTIFICATES = 16
MAX_CERTIFICATE_LENGTH = 64 * 1024

_ENCODINGS = {
    CertificateForm.PKCS7: (CertEncoding.PKCS7,),
    CertificateForm.HASH_AND_URL: (CertEncoding.HASH_AND_URL_X509, CertEncoding.HASH_AND_URL_BUNDLE),
}
_FORM_TEXT = {CertificateForm.PKCS7: "a PKCS#7 bundle", CertificateForm.HASH_AND_URL: "a hash and a URL"}
_FORMS = {encoding: form for form, encodings in _ENCODINGS.items() for encoding in encodings}


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
        case CertificateAuth(chain=chain, key=key, signature=schemes):
            certificates = tuple(CertPayload(encoding=CertEncoding.X509_SIGNATURE, data=c.der) for c in chain)
            try:
                signed = yield from _signed(key, octets, candidate, schemes, allow_sha1=allow_sha1)
            except SignatureError as error:
                raise AuthenticationFailed(
                    "the gateway verifies no signature that our key can make", reason=error.message, hint=error.hint
                ) from error
            own = AuthPayload(method=signed.method, data=signed.data)
            return OwnProof(certificates=certificates, auth=own, scheme=signed.scheme)
        case EapAuth():
            return OwnProof()


def _signed(
    key: PrivateKey | RemoteKey, octets: bytes, candidate: Candidate, schemes: Sequence[Scheme], *, allow_sha1: bool
) -> Generator[Need, object, AuthSignature]:
    """Sign here or elsewhere. Raises SignatureError if no scheme fits, KeyUnavailable for a wrong signature."""
    hashes = candidate.peer_hashes
    if not isinstance(key, RemoteKey):
        return sign_auth(key, octets, hashes, allow_sha1=allow_sha1, schemes=schemes)
    own = key.public_key
    possible = acceptable(own, hashes, allow_sha1=allow_sha1, schemes=schemes, families=key.families)
    request = SignatureRequest(key=key, octets=octets, schemes=possible)
    made = yield Need(kind=NeedKind.SIGNATURE, request=key.place, to_sign=request)
    assert isinstance(made, Signature)
    if made.scheme not in possible:
        raise KeyUnavailable(f"{key.place} signed with {made.scheme}, which was not asked for")
    try:
        own.check(made.scheme, made.data, octets)
    except SignatureError as error:
        raise KeyUnavailable(
            f"{key.place} made a signature that its own public key does not verify", reason=error.message
        ) from error
    return auth_signature(own, hashes, made.scheme, made.data)


def own_method(auth: OwnAuth, scheme: Scheme | None) -> Proof:
    """How we proved ourselves without EAP, for people."""
    match auth:
        case CertificateAuth(chain=(own, *_), key=key):
            place = key.place if isinstance(key, RemoteKey) else None
            return _by_certificate(own, str(scheme), place)
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
    """The CERTREQ that names the authorities we trust; none if the gateway has a PSK (section 3.7).

    Another one asks for an OCSP response, of whichever responder the authority itself allows (RFC 4806 section 3.1).
    """
    match config.gateway.auth:
        case TrustedCertificate(trust=trust) | EapOnly(trust=trust):
            forms = config.gateway.certificate_forms
            encodings = [CertEncoding.X509_SIGNATURE, *(each for form in sorted(forms) for each in _ENCODINGS[form])]
            own = tuple(CertReqPayload(encoding=each, authorities=trust.authority_hashes) for each in encodings)
            if not config.revocation.asks:
                return own
            return *own, CertReqPayload(encoding=CertEncoding.OCSP_CONTENT, authorities=b"")
        case PskAuth():
            return ()


def own_revocation(config: IkeConfig, auth: OwnAuth, now: datetime) -> RevocationQuery | None:
    """What to ask for an OCSP response about our certificate; None if it cannot be asked for, or is not to be."""
    if not isinstance(auth, CertificateAuth) or not config.revocation.asks:
        return None
    theirs = config.gateway.auth
    return own_query(auth.chain, () if isinstance(theirs, PskAuth) else theirs.trust.anchors, now)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How the gateway proved itself, and what is to be asked about its certificate; None if that has no path.

    `notice` is what its administrator should hear.
    """

    proof: Proof
    query: RevocationQuery | None = None
    notice: str | None = None


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
            raise _wrong_identity(wanted, [shown(identity)])
        return None
    match config.gateway.auth:
        case PskAuth(psk=psk):
            if wanted is not None and not same_identity(identity, wanted):
                raise _wrong_identity(wanted, [shown(identity)])
            verify_shared_key(candidate, psk, identity, auth, "the pre-shared key")
            return Verified(proof=Proof(method="psk"))
        case TrustedCertificate(trust=trust) | EapOnly(trust=trust):
            return _verify_signature(config, trust, candidate, identity, certificates, auth, now)


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


def _by_certificate(own: Certificate, scheme: str, place: str | None = None) -> Proof:
    return Proof(
        method="certificate",
        subject=own.subject,
        serial=own.serial,
        expires=own.validity.end,
        signature=scheme,
        key=place,
    )


def _wrong_identity(wanted: Identity, offered: Sequence[str]) -> GatewayNotAuthenticated:
    return GatewayNotAuthenticated(
        f"the gateway is not {shown(wanted)}",
        reason=f"it says it is {', '.join(offered)}",
        hint="set [gateway] identity if that is the right gateway",
    )


def _verify_signature(
    config: IkeConfig,
    trust: TrustStore,
    candidate: Candidate,
    identity: Identity,
    certificates: Sequence[CertPayload],
    auth: AuthPayload,
    now: datetime,
) -> Verified:
    if auth.method in (AuthMethod.SHARED_KEY, AuthMethod.NULL):
        raise GatewayNotAuthenticated(
            "the gateway did not authenticate with a certificate",
            reason=f"its AUTH method is {auth.method}",
            hint="the profile's [auth] method and the gateway's configuration differ",
        )
    chain = _chain(certificates)
    wanted = config.gateway.identity or identity
    path = validate_gateway(chain, trust, now, wanted.type, wanted.data)
    if not same_identity(identity, wanted) and not chain[0].matches(identity.type, identity.data):
        raise _wrong_identity(wanted, [shown(identity)])
    try:
        octets = responder_octets(candidate, identity)
        scheme = verify(chain[0].public_key, auth.method, auth.data, octets, allow_sha1=config.allow_sha1)
    except SignatureError as error:
        raise GatewayNotAuthenticated(
            "the gateway's signature does not verify", reason=error.message, hint=error.hint
        ) from error
    proof = _by_certificate(chain[0], scheme)
    soon = chain[0].validity.ends_soon(now)
    notice = f"the gateway's certificate {soon}: tell its administrator" if soon else None
    if not config.revocation.asks:
        return Verified(proof=proof, notice=notice)
    evidence = Evidence.read(_sent(certificates, CertEncoding.OCSP_CONTENT), _sent(certificates, CertEncoding.CRL))
    return Verified(proof=proof, query=revocation_query(path, chain, evidence, now), notice=notice)


def _sent(certificates: Sequence[CertPayload], encoding: CertEncoding) -> list[bytes]:
    return [each.data for each in certificates if each.encoding == encoding]


def certificate_urls(config: IkeConfig, certificates: Sequence[CertPayload]) -> CertificateUrls | None:
    """Where the gateway says that its certificates are, if the profile allows to look; None if there is no such place.

    Raises GatewayNotAuthenticated for too many of them.
    """
    if CertificateForm.HASH_AND_URL not in config.gateway.certificate_forms:
        return None
    places = []
    for each in certificates:
        if _FORMS.get(each.encoding) is CertificateForm.HASH_AND_URL:
            with suppress(ParseError):
                places.append(read_hash_and_url(each.data, bundle=each.encoding == CertEncoding.HASH_AND_URL_BUNDLE))
    if len(places) > MAX_URLS:
        raise GatewayNotAuthenticated(
            "the gateway's certificate cannot be checked", reason=f"it names {len(places)} places to fetch it from"
        )
    return CertificateUrls(tuple(places)) if places else None


def plain_certificates(
    config: IkeConfig,
    certificates: Sequence[CertPayload],
    wanted: CertificateUrls | None,
    fetched: FetchedCertificates,
) -> tuple[CertPayload, ...]:
    """What the gateway sent, with X.509 certificates and lists in place of what the profile allows besides.

    Raises GatewayNotAuthenticated if no certificate comes out of it.
    """
    found: list[CertPayload] = []
    problems = list(fetched.problems)
    contents = dict(zip(wanted.places if wanted is not None else (), fetched.contents, strict=False))
    for each in certificates:
        form = _FORMS.get(each.encoding)
        if form not in config.gateway.certificate_forms:
            found.append(each)
            continue
        try:
            found += _opened(each, contents, config.gateway.identity)
        except ParseError as error:
            problems.append(error.message)
    if problems and not any(each.encoding == CertEncoding.X509_SIGNATURE for each in found):
        raise GatewayNotAuthenticated(
            "the gateway's certificate could not be had",
            reason="; ".join(problems),
            hint="let the gateway send its certificate itself",
        )
    return tuple(found)


def _opened(
    sent: CertPayload, contents: Mapping[HashAndUrl, bytes | None], wanted: Identity | None
) -> Iterator[CertPayload]:
    """The certificates and lists of a payload in another form. Raises ParseError."""
    if sent.encoding == CertEncoding.PKCS7:
        bundle = read_pkcs7(sent.data)
        name = (wanted.type, wanted.data) if wanted is not None else None
        bundle = bundle._replace(certificates=tuple(own_first(bundle.certificates, name)))
    else:
        of_many = sent.encoding == CertEncoding.HASH_AND_URL_BUNDLE
        content = contents.get(read_hash_and_url(sent.data, bundle=of_many))
        if content is None:
            return
        bundle = read_bundle(content) if of_many else Bundle((content,), ())
    for encoding, members in zip((CertEncoding.X509_SIGNATURE, CertEncoding.CRL), bundle, strict=True):
        yield from (CertPayload(encoding=encoding, data=member) for member in members)


def _chain(certificates: Sequence[CertPayload]) -> list[Certificate]:
    """The X.509 certificates that were sent, the end entity first."""
    ders = [c.data for c in certificates if c.encoding == CertEncoding.X509_SIGNATURE]
    if not ders:
        form = next((_FORMS[c.encoding] for c in certificates if c.encoding in _FORMS), None)
        raise GatewayNotAuthenticated(
            "the gateway sent no certificate" if form is None else "the gateway sent no certificate as it is",
            reason=None if form is None else f"it sent {_FORM_TEXT[form]}, which the profile does not ask for",
            hint="let the gateway send its certificate always"
            if form is None
            else f'let the gateway send plain X.509, or set gateway.certificate_forms = ["{form}"]',
        )
    if len(ders) > MAX_CERTIFICATES or any(len(der) > MAX_CERTIFICATE_LENGTH for der in ders):
        raise GatewayNotAuthenticated("the gateway sent too many or too large certificates")
    chain = []
    for index, der in enumerate(ders):
        try:
            chain.append(Certificate.from_der(der))
        except ParseError as error:
            if index == 0:
                raise GatewayNotAuthenticated("the gateway's certificate is not readable", reason=str(error)) from error
    return chain
