"""Certificates in IKE_AUTH beside plain X.509: revocation of both sides, PKCS#7, hash and URL, dates that are near."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID
from sim_certificates import NOW, _key, authority, gateway_certificate, stranger_certificate, user_certificate
from sim_gateway import GatewaySetup
from sim_world import World, altered, client_config

from ikeclient.crypto.pki import der
from ikeclient.crypto.pki.bundles import CertificateForm, CertificateUrls, FetchedCertificates
from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.pki.revocation_status import PathRevocation, RevocationPolicy, RevocationQuery, RevocationState
from ikeclient.errors import GatewayNotAuthenticated, NegotiationRefused
from ikeclient.ike.config import CertificateAuth, IkeConfig
from ikeclient.ike.events import IkeEstablished, Need, NeedKind, Notice
from ikeclient.ike.v2.rules.authenticate import certificate_request
from ikeclient.wire.identity import CertPayload, CertReqPayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import CertEncoding, NotifyType

DER = serialization.Encoding.DER
YEAR, DAY = datetime.timedelta(days=365), datetime.timedelta(days=1)
Answer = Callable[[Need], object]


def issued(number: int, subject: str, name: x509.GeneralName, *, end: datetime.datetime = NOW + YEAR) -> Certificate:
    """A certificate that says where to ask."""
    where = x509.UniformResourceIdentifier("http://ocsp.example/")
    access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.load_der_x509_certificate(authority().der).subject)
        .public_key(_key(number).public_key())
        .serial_number(2000 + number)
        .not_valid_before(NOW - YEAR)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    )
    return Certificate.from_der(builder.sign(_key(1), None).public_bytes(DER))


def ours(**more: Any) -> Certificate:
    return issued(3, "alice", x509.RFC822Name("alice@example.com"), **more)


def theirs(**more: Any) -> Certificate:
    return issued(2, "gateway", x509.DNSName("vpn.example.com"), **more)


def response(about: Certificate, status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD) -> bytes:
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    issuer = x509.load_der_x509_certificate(authority().der)
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=x509.load_der_x509_certificate(about.der),
        issuer=issuer,
        algorithm=hashes.SHA1(),
        cert_status=status,
        this_update=NOW - DAY,
        next_update=NOW + DAY,
        revocation_time=NOW - DAY if revoked else None,
        revocation_reason=None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer)
    return builder.sign(_key(1), None).public_bytes(DER)


def config(auth: str = "certificate", *, forms: tuple[CertificateForm, ...] = (), **changes: Any) -> IkeConfig:
    base = client_config(auth)
    gateway = replace(base.gateway, certificate_forms=frozenset(forms))
    return altered(replace(base, gateway=gateway), **{"revocation": RevocationPolicy.RELAXED, **changes})


def with_own(own: Certificate, **changes: Any) -> IkeConfig:
    base = config(**changes)
    assert isinstance(base.auth, CertificateAuth)
    return replace(base, auth=replace(base.auth, chain=(own,)))


def run(world: World, answer: Answer) -> list[Need]:
    """Connect, with every need answered at once; returns the needs."""
    world.start()
    needs: list[Need] = []

    def fresh(world: World) -> list[Need]:
        return [event for event in world.events if isinstance(event, Need) and event not in needs]

    for _ in range(20):
        world.run(20, lambda w: w.finished() or bool(fresh(w)))
        asked = fresh(world)
        if not asked:
            return needs
        needs += asked
        for need in asked:
            value = answer(need)
            if isinstance(value, NegotiationRefused):
                world.at_client(lambda client, now, need=need, value=value: client.refuse(need, value, now))
            else:
                world.at_client(lambda client, now, need=need, value=value: client.supply(need, value, now))
    raise AssertionError("there is no end of needs")


def asks_status(payloads: list[Payload]) -> list[Payload]:
    """An IKE_SA_INIT answer that asks for an OCSP response."""
    return [*payloads, CertReqPayload(encoding=CertEncoding.OCSP_CONTENT, authorities=b"")]


def sent_certificates(world: World) -> list[CertPayload]:
    """The CERT payloads that the gateway got."""
    return [p for _, payloads in world.gateway.requests for p in payloads if isinstance(p, CertPayload)]


def sends(*certificates: CertPayload) -> Callable[[list[Payload]], list[Payload]]:
    """An IKE_AUTH answer with these in place of the gateway's certificate."""
    return lambda payloads: [p for p in payloads if not isinstance(p, CertPayload)] + list(certificates)


def plain(*certificates: Certificate) -> list[CertPayload]:
    return [CertPayload(encoding=CertEncoding.X509_SIGNATURE, data=each.der) for each in certificates]


def proof(world: World) -> Any:
    (established,) = [event for event in world.events if isinstance(event, IkeEstablished)]
    return established.proofs.gateway[0]


def notices(world: World) -> str:
    return "\n".join(event.text for event in world.events if isinstance(event, Notice))


# Revocation


@pytest.mark.parametrize("status", [ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED])
def test_a_gateway_that_asks_gets_an_ocsp_response_about_us(status: ocsp.OCSPCertStatus) -> None:
    """RFC 4806 section 3.2; C8."""
    own = ours()
    world = World(config=with_own(own), setup=GatewaySetup(auth="certificate"))
    world.gateway.edit["init"] = asks_status
    answer = response(own, status)

    def tell(need: Need) -> object:
        query = need.request
        assert isinstance(query, RevocationQuery)
        assert query.response_only
        assert query.path == (own, authority())
        known = replace(query.statuses[0], state=RevocationState[status.name])
        return PathRevocation(statuses=(known,), response=answer)

    (need,) = run(world, tell)
    assert need.kind is NeedKind.REVOCATION
    assert world.connected
    found = [(each.encoding, each.data) for each in sent_certificates(world)]
    assert found == [(CertEncoding.X509_SIGNATURE, own.der), (CertEncoding.OCSP_CONTENT, answer)]
    assert ("our own certificate has been revoked" in notices(world)) is (status is ocsp.OCSPCertStatus.REVOKED)


@pytest.mark.parametrize("reason", ["not asked", "policy off", "no responder", "nobody to ask", "no answer"])
def test_without_a_response_the_certificate_goes_alone(reason: str) -> None:
    own = user_certificate() if reason == "no responder" else ours()
    policy = RevocationPolicy.OFF if reason == "policy off" else RevocationPolicy.RELAXED
    world = World(config=with_own(own, revocation=policy), setup=GatewaySetup(auth="certificate"))
    if reason != "not asked":
        world.gateway.edit["init"] = asks_status

    def tell(need: Need) -> object:
        assert isinstance(need.request, RevocationQuery)
        if reason == "nobody to ask":
            return NegotiationRefused("nothing can be asked here")
        return PathRevocation(statuses=need.request.statuses)

    needs = run(world, tell)
    assert bool(needs) is (reason in ("nobody to ask", "no answer"))
    assert world.connected
    assert [each.encoding for each in sent_certificates(world)] == [CertEncoding.X509_SIGNATURE]


@pytest.mark.parametrize("policy", [RevocationPolicy.RELAXED, RevocationPolicy.STRICT, RevocationPolicy.IFURI])
@pytest.mark.parametrize("status", [ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED])
def test_a_response_inside_ike_needs_nobody_else(status: ocsp.OCSPCertStatus, policy: RevocationPolicy) -> None:
    """RFC 4806 section 3.1; C8: what came with the certificate decides, without a question."""
    certificate = theirs()
    world = World(config=config("eap", revocation=policy), setup=GatewaySetup(auth="eap"))
    inside = CertPayload(encoding=CertEncoding.OCSP_CONTENT, data=response(certificate, status))
    world.gateway.edit["auth"] = sends(*plain(certificate), inside)
    assert run(world, lambda need: pytest.fail("nobody has to be asked")) == []
    if status is ocsp.OCSPCertStatus.GOOD:
        assert world.connected, world.error and world.error.lines()
        assert proof(world).revocation == "good (OCSP)"
    else:
        assert isinstance(world.error, GatewayNotAuthenticated)
        assert "has been revoked" in world.error.message


# Forms


def bundle(*certificates: Certificate) -> CertPayload:
    members = [x509.load_der_x509_certificate(each.der) for each in certificates]
    return CertPayload(encoding=CertEncoding.PKCS7, data=pkcs7.serialize_certificates(members, DER))


def by_url(content: bytes, *, many: bool = False) -> CertPayload:
    digest = hashlib.sha1(content, usedforsecurity=False).digest()
    encoding = CertEncoding.HASH_AND_URL_BUNDLE if many else CertEncoding.HASH_AND_URL_X509
    return CertPayload(encoding=encoding, data=digest + b"http://certificates.example/gateway")


def tagged(*certificates: Certificate) -> bytes:
    return der.encode(der.SEQUENCE, b"".join(der.encode(0xA0, each.der) for each in certificates))


def test_other_forms_are_asked_for_only_if_the_profile_does() -> None:
    """RFC 7296 sections 3.6 and 3.7."""
    encodings = [each.encoding for each in certificate_request(client_config("eap"))]
    assert encodings == [CertEncoding.X509_SIGNATURE]
    every = [each.encoding for each in certificate_request(config("eap", forms=tuple(CertificateForm)))]
    assert set(every) == {
        *(CertEncoding.X509_SIGNATURE, CertEncoding.PKCS7, CertEncoding.HASH_AND_URL_X509),
        *(CertEncoding.HASH_AND_URL_BUNDLE, CertEncoding.OCSP_CONTENT),
    }


@pytest.mark.parametrize("forms", [(), (CertificateForm.HASH_AND_URL,)])
def test_that_urls_are_followed_is_announced_only_if_the_profile_allows_it(forms: tuple[CertificateForm, ...]) -> None:
    world = World(config=config("eap", forms=forms, revocation=RevocationPolicy.OFF), setup=GatewaySetup(auth="eap"))
    run(world, lambda _: None)
    assert world.connected
    sent = [p for _, payloads in world.gateway.requests for p in payloads]
    types = [p.type for p in sent if isinstance(p, NotifyPayload)]
    assert (NotifyType.HTTP_CERT_LOOKUP_SUPPORTED in types) is bool(forms)


def test_a_bundle_is_read_whatever_its_order() -> None:
    world = World(
        config=config("eap", forms=(CertificateForm.PKCS7,), revocation=RevocationPolicy.OFF),
        setup=GatewaySetup(auth="eap"),
    )
    world.gateway.edit["auth"] = sends(bundle(authority(), user_certificate(), gateway_certificate()))
    assert run(world, lambda _: None) == []
    assert world.connected, world.error and world.error.lines()


@pytest.mark.parametrize("many", [False, True])
def test_a_certificate_is_fetched_by_its_url_before_the_gateway_is_proven(many: bool) -> None:
    world = World(
        config=config("eap", forms=(CertificateForm.HASH_AND_URL,), revocation=RevocationPolicy.OFF),
        setup=GatewaySetup(auth="eap"),
    )
    content = tagged(gateway_certificate(), authority()) if many else gateway_certificate().der
    world.gateway.edit["auth"] = sends(by_url(content, many=many))

    def fetch(need: Need) -> object:
        assert isinstance(need.request, CertificateUrls)
        (place,) = need.request.places
        assert place.url == "http://certificates.example/gateway"
        assert place.fits(content)
        return FetchedCertificates(contents=(content,))

    (need,) = run(world, fetch)
    assert need.kind is NeedKind.CERTIFICATES
    assert world.connected, world.error and world.error.lines()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (FetchedCertificates(contents=(None,), problems=("http://x/: it is not there",)), "it is not there"),
        (NegotiationRefused("nothing can be asked here"), "nothing can be asked here"),
        (FetchedCertificates(contents=(b"garbage",)), "cannot be read"),
        (FetchedCertificates(contents=(stranger_certificate().der,)), "self-signed"),
    ],
)
def test_what_a_url_leads_to_is_judged_as_any_certificate(answer: object, said: str) -> None:
    world = World(config=config("eap", forms=(CertificateForm.HASH_AND_URL,)), setup=GatewaySetup(auth="eap"))
    world.gateway.edit["auth"] = sends(by_url(gateway_certificate().der))
    run(world, lambda _: answer)
    assert isinstance(world.error, GatewayNotAuthenticated)
    assert said in " ".join(world.error.lines())


@pytest.mark.parametrize(
    ("payload", "form"),
    [(bundle(gateway_certificate()), "pkcs7"), (by_url(gateway_certificate().der), "hash-and-url")],
)
def test_a_form_that_nobody_asked_for_is_named(payload: CertPayload, form: str) -> None:
    """C11: no URL of an unproven gateway is followed by itself."""
    world = World(config=config("eap"), setup=GatewaySetup(auth="eap"))
    world.gateway.edit["auth"] = sends(payload)
    assert run(world, lambda _: None) == []
    assert isinstance(world.error, GatewayNotAuthenticated)
    assert f'gateway.certificate_forms = ["{form}"]' in " ".join(world.error.lines())


def test_too_many_places_and_damaged_bundles_are_refused() -> None:
    forms = tuple(CertificateForm)
    damaged = CertPayload(encoding=CertEncoding.PKCS7, data=b"garbage")
    for payloads, said in (([by_url(b"x")] * 9, "9 places"), ([damaged], "DER")):
        world = World(config=config("eap", forms=forms), setup=GatewaySetup(auth="eap"))
        world.gateway.edit["auth"] = sends(*payloads)
        assert run(world, lambda _: None) == []
        assert isinstance(world.error, GatewayNotAuthenticated)
        assert said in " ".join(world.error.lines())


# Dates


def test_certificates_that_expire_soon_are_told() -> None:
    own = ours(end=NOW + 13 * DAY)
    world = World(config=with_own(own, revocation=RevocationPolicy.OFF), setup=GatewaySetup(auth="certificate"))
    world.gateway.edit["auth"] = sends(*plain(theirs(end=NOW + 3 * DAY)))
    run(world, lambda _: None)
    assert world.connected, world.error and world.error.lines()
    assert "our certificate expires at 2026-06-14" in notices(world)
    assert "the gateway's certificate expires at 2026-06-04" in notices(world)
    later = World(config=with_own(ours(), revocation=RevocationPolicy.OFF), setup=GatewaySetup(auth="certificate"))
    run(later, lambda _: None)
    assert "expires" not in notices(later)
