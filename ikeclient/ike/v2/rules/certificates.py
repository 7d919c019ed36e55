"""Proofs of identity with certificates (RFC 7296 sections 2.15, 3.6 and 3.7, RFC 7427).

Imported by what has a certificate to deal with, and by nothing before: see `tunnel.late_modules`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from ikeclient.crypto.pki.bundles import (
    MAX_URLS,
    Bundle,
    CertificateForm,
    CertificateUrls,
    FetchedCertificates,
    HashAndUrl,
    read_bundle,
    read_hash_and_url,
    read_pkcs7,
)
from ikeclient.crypto.pki.certificate import own_first
from ikeclient.crypto.pki.revocation import own_query, query, read_evidence
from ikeclient.crypto.pki.revocation_status import RevocationQuery
from ikeclient.crypto.pki.trust_store import Certificate, TrustStore, validate_gateway
from ikeclient.crypto.sign.private_key import AuthSignature, acceptable, auth_signature, sign_auth
from ikeclient.crypto.sign.remote_key import RemoteKey, Signature, SignatureRequest
from ikeclient.crypto.sign.signature import verify
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated, KeyUnavailable, ParseError, SignatureError
from ikeclient.ike.config import CertificateAuth, IkeConfig, OwnAuth, PskAuth
from ikeclient.ike.events import Need, NeedKind
from ikeclient.ike.v2.keying import Candidate
from ikeclient.ike.v2.rules.proofs import (
    OwnProof,
    ProofGenerator,
    Verified,
    by_certificate,
    responder_octets,
    same_identity,
    shown,
    wrong_identity,
)
from ikeclient.wire.identity import AuthPayload, CertPayload, CertReqPayload, Identity
from ikeclient.wire.registry import AuthMethod, CertEncoding

MAX_CERTIFICATES = 16
MAX_CERTIFICATE_LENGTH = 64 * 1024

_ENCODINGS = {
    CertificateForm.PKCS7: (CertEncoding.PKCS7,),
    CertificateForm.HASH_AND_URL: (CertEncoding.HASH_AND_URL_X509, CertEncoding.HASH_AND_URL_BUNDLE),
}
_FORM_TEXT = {CertificateForm.PKCS7: "a PKCS#7 bundle", CertificateForm.HASH_AND_URL: "a hash and a URL"}
_FORMS = {encoding: form for form, encodings in _ENCODINGS.items() for encoding in encodings}


def own_signature(auth: CertificateAuth, octets: bytes, candidate: Candidate, *, allow_sha1: bool) -> ProofGenerator:
    """Sign `octets`, and show our certificates.

    Yields a `Need` if the key is elsewhere, and is resumed with the `Signature`.
    Raises `AuthenticationFailed` when the gateway accepts no signature that our key can make.
    """
    certificates = tuple(CertPayload(encoding=CertEncoding.X509_SIGNATURE, data=c.der) for c in auth.chain)
    try:
        signed = yield from _signed(auth, octets, candidate, allow_sha1=allow_sha1)
    except SignatureError as error:
        raise AuthenticationFailed(
            "the gateway verifies no signature that our key can make", reason=error.message, hint=error.hint
        ) from error
    own = AuthPayload(method=signed.method, data=signed.data)
    return OwnProof(certificates=certificates, auth=own, scheme=signed.scheme)


def _signed(
    auth: CertificateAuth, octets: bytes, candidate: Candidate, *, allow_sha1: bool
) -> Generator[Need, object, AuthSignature]:
    """Sign here or elsewhere. Raises SignatureError if no scheme fits, KeyUnavailable for a wrong signature."""
    key, schemes, hashes = auth.key, auth.signature, candidate.peer_hashes
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


def own_revocation(config: IkeConfig, auth: OwnAuth, now: datetime) -> RevocationQuery | None:
    """What to ask for an OCSP response about our certificate; None if it cannot be asked for, or is not to be."""
    if not isinstance(auth, CertificateAuth) or not config.revocation.asks:
        return None
    theirs = config.gateway.auth
    return own_query(auth.chain, () if isinstance(theirs, PskAuth) else theirs.trust.anchors, now)


def request(config: IkeConfig, trust: TrustStore) -> tuple[CertReqPayload, ...]:
    """The CERTREQ that names the authorities we trust, in each form that the profile allows.

    Another one asks for an OCSP response, of whichever responder the authority itself allows (RFC 4806 section 3.1).
    """
    forms = config.gateway.certificate_forms
    encodings = [CertEncoding.X509_SIGNATURE, *(each for form in sorted(forms) for each in _ENCODINGS[form])]
    own = tuple(CertReqPayload(encoding=each, authorities=trust.authority_hashes) for each in encodings)
    if not config.revocation.asks:
        return own
    return *own, CertReqPayload(encoding=CertEncoding.OCSP_CONTENT, authorities=b"")


def verify_signature(
    config: IkeConfig,
    trust: TrustStore,
    candidate: Candidate,
    identity: Identity,
    certificates: Sequence[CertPayload],
    auth: AuthPayload,
    now: datetime,
) -> Verified:
    """How the gateway proved to be who the profile says it is. Raises GatewayNotAuthenticated; see `verify_gateway`."""
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
        raise wrong_identity(wanted, [shown(identity)])
    try:
        octets = responder_octets(candidate, identity)
        scheme = verify(chain[0].public_key, auth.method, auth.data, octets, allow_sha1=config.allow_sha1)
    except SignatureError as error:
        raise GatewayNotAuthenticated(
            "the gateway's signature does not verify", reason=error.message, hint=error.hint
        ) from error
    proof = by_certificate(chain[0], scheme)
    soon = chain[0].validity.ends_soon(now)
    notice = f"the gateway's certificate {soon}: tell its administrator" if soon else None
    if not config.revocation.asks:
        return Verified(proof=proof, notice=notice)
    evidence = read_evidence(_sent(certificates, CertEncoding.OCSP_CONTENT), _sent(certificates, CertEncoding.CRL))
    return Verified(proof=proof, query=query(path, chain, evidence, now), notice=notice)


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
