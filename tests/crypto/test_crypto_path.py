"""Certification paths: how they are found, and every way in which one can be broken."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from certificate_factory import (
    CA,
    DAY,
    INTERMEDIATE,
    NOW,
    OTHER_ROOT,
    ROOT,
    WIDE,
    Made,
    authority,
    check,
    from_openssl,
    gateway,
    hosts,
    key,
    make,
    name,
    refusal,
    usage,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ikeclient.crypto.pki.budget import SIGNATURE, UNITS
from ikeclient.crypto.pki.path import MAX_CERTIFICATES, find_path
from ikeclient.crypto.pki.trust_store import Certificate, TrustStore, validate_gateway
from ikeclient.crypto.sign.signature import CertificateSignature, PublicKey
from ikeclient.errors import GatewayNotAuthenticated, ParseError, SignatureError
from ikeclient.wire.registry import IdType

# What must pass


def test_a_gateway_directly_below_the_root_is_accepted() -> None:
    check([gateway(ROOT)])


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384", "p521", "ed25519", "ed448"])
def test_every_kind_of_key_is_accepted_at_every_place(kind: str) -> None:
    root = authority("root", private=key(kind, 1))
    middle = authority("middle", root, private=key(kind, 2))
    check([gateway(middle, private=key(kind, 3)), middle], [root])


def test_intermediates_come_in_any_order_among_strangers() -> None:
    """C4: extra certificates do no harm."""
    second = authority("second", INTERMEDIATE)
    check([gateway(second), OTHER_ROOT, gateway(ROOT), second, ROOT, INTERMEDIATE, second])


def test_an_intermediate_may_be_a_trust_anchor() -> None:
    check([gateway(INTERMEDIATE)], [INTERMEDIATE])


def test_the_gateways_own_certificate_may_be_the_anchor() -> None:
    itself = make("gateway", extensions=[hosts("vpn.example.com")])
    check([itself], [itself])


def test_a_dead_branch_does_not_hide_a_live_one() -> None:
    """C4: of two certificates for one authority, the expired one is tried and left."""
    shared = key("p256", 77)
    expired = authority("cross", ROOT, private=shared, end=NOW - DAY)
    live = authority("cross", ROOT, private=shared)
    check([gateway(live), expired, live])
    check([gateway(live), live, expired])


def test_a_rolled_over_root_is_reached_through_its_self_issued_certificate() -> None:
    """Self-issued certificates do not count against pathLen (RFC 5280 section 4.2.1.9)."""
    old = authority("rolling", None, x509.BasicConstraints(ca=True, path_length=0), private=key("p256", 80))
    new = authority("rolling", old, private=key("p256", 81))
    check([gateway(new), new], [old])


def test_a_version_1_certificate_is_an_authority_only_as_an_anchor(tmp_path: Path) -> None:
    """C5: version 1 cannot say who is an authority, so only the profile can."""
    old = from_openssl(tmp_path, "old root", "-sha256")
    assert old.certificate.version_1
    check([gateway(old, **WIDE)], [old], now=old.certificate.validity.start)
    root = authority("wide root", **WIDE)
    old = from_openssl(tmp_path, "old middle", "-sha256", issuer=root)
    text = refusal([gateway(old, **WIDE), old], [root], now=old.certificate.validity.start)
    assert "CN=old middle in its chain is not an authority (no basicConstraints)" in text


# C1, C4: trust


def test_a_self_signed_gateway_is_refused() -> None:
    """C1."""
    text = refusal([gateway(None)])
    assert "it is self-signed and not among the trusted authorities" in text
    assert "C=CH, O=Test, CN=gateway" in text


def test_an_unknown_authority_is_named() -> None:
    """C1: the person reads which issuer is missing."""
    text = refusal([gateway(OTHER_ROOT)])
    assert "its issuer C=CH, O=Test, CN=other root is neither a trusted authority" in text
    assert "add the certificate of C=CH, O=Test, CN=other root to `ca`" in text


def test_an_unknown_root_that_was_sent_along_is_named() -> None:
    """C1."""
    middle = authority("middle", OTHER_ROOT)
    text = refusal([gateway(middle), middle, OTHER_ROOT])
    assert "the chain ends in C=CH, O=Test, CN=other root, which is self-signed" in text


def test_a_missing_intermediate_is_named() -> None:
    """C4."""
    second = authority("second", INTERMEDIATE)
    text = refusal([gateway(second), second])
    assert (
        "the chain stops at C=CH, O=Test, CN=second: the certificate of C=CH, O=Test, CN=intermediate is missing"
        in text
    )


def test_an_authority_with_the_right_name_and_the_wrong_key_is_refused() -> None:
    """C1: names prove nothing."""
    impostor = authority("root", private=key("p256", 90))
    assert "is not signed by the key of its issuer C=CH, O=Test, CN=root" in refusal([gateway(impostor)])
    assert "has the name of an authority we know, but another key" in refusal([gateway(impostor), impostor])


def test_no_certificate_at_all_is_refused() -> None:
    assert "sent no certificate" in refusal([])


def test_nothing_is_trusted_by_an_empty_store() -> None:
    assert "not trusted" in refusal([gateway(ROOT)], [])


def test_certificates_that_issue_each_other_do_not_hang() -> None:
    """C4: loops."""
    first_key, second_key = key("p256", 101), key("p256", 102)
    second_stub = Made(x509=ROOT.x509, key=second_key, name=name("loop two"))
    first = authority("loop one", second_stub, private=first_key)
    second = authority("loop two", first, private=second_key)
    started = time.monotonic()
    assert "missing" in refusal([gateway(first), first, second])
    assert time.monotonic() - started < 5


def test_a_chain_of_fifty_is_refused_and_one_of_ten_is_not() -> None:
    """C4: paths of at most ten certificates."""
    links = [ROOT]
    for number in range(50):
        links.append(authority(f"link {number}", links[-1]))
    check([gateway(links[8]), *links[1:9]])
    assert "too long a chain" in refusal([gateway(links[9]), *links[1:10]])
    assert "too long a chain" in refusal([gateway(links[-1]), *reversed(links[20:])])


def test_hundreds_of_look_alikes_do_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4, C15, K19: the number of signatures verified is bounded."""
    verified: list[Certificate] = []
    genuine = Certificate.issued_by

    def counted(subject: Certificate, issuer: Certificate) -> bool:
        verified.append(subject)
        return genuine(subject, issuer)

    monkeypatch.setattr(Certificate, "issued_by", counted)
    alike = [authority("twin", authority("twin", private=key("p256", n)), private=key("p256", n)) for n in range(6)]
    crossed = [authority("twin", a, private=b.key) for a in alike for b in alike if a is not b]
    started = time.monotonic()
    assert "cannot be checked" in refusal([gateway(alike[0]), *crossed * 10, *alike])
    assert time.monotonic() - started < 5
    assert len(verified) < UNITS // SIGNATURE


# C2: validity


def test_an_expired_certificate_is_refused_with_the_local_time() -> None:
    """C2, O14: the message has the end of validity and this machine's idea of now, in local time."""
    local = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=2)))
    text = refusal([gateway(ROOT, end=NOW - DAY)], now=local)
    assert "it expired at 2026-05-31 14:00:00+02:00" in text
    assert "clock says 2026-06-01 14:00:00+02:00" in text


def test_a_clock_in_1970_is_pointed_out() -> None:
    """C2, O14."""
    text = refusal([gateway(ROOT)], now=datetime.datetime(1970, 1, 1, 0, 5, tzinfo=datetime.UTC))
    assert "is not valid before 2026-05-22 12:00:00+00:00" in text
    assert "clock says 1970-01-01 00:05:00+00:00" in text


@pytest.mark.parametrize("place", ["intermediate", "root"])
def test_an_expired_authority_is_refused(place: str) -> None:
    """C2: every certificate of the path is looked at."""
    root = authority("old root", end=NOW - DAY if place == "root" else NOW + DAY)
    middle = authority("old middle", root, end=NOW - DAY if place == "intermediate" else NOW + DAY)
    assert f"CN=old {place.replace('intermediate', 'middle')} in its chain expired" in refusal(
        [gateway(middle), middle], [root]
    )


def test_the_first_and_last_second_are_valid() -> None:
    made = gateway(ROOT, start=NOW, end=NOW)
    check([made])
    refusal([made], now=NOW + datetime.timedelta(seconds=1))
    refusal([made], now=NOW - datetime.timedelta(seconds=1))


# C5, C6, C7: what a certificate may be used for


def test_an_end_entity_cannot_issue() -> None:
    """C5."""
    made = gateway(ROOT, subject="mallory")
    assert "CN=mallory in its chain is not an authority" in refusal([gateway(made), made])


def test_an_authority_needs_basic_constraints() -> None:
    """C5, RFC 4945 section 5.1.3.9."""
    made = make("bare", ROOT)
    assert "no basicConstraints" in refusal([gateway(made), made])


def test_an_authority_needs_the_right_key_usage() -> None:
    """C5."""
    made = authority("signer", ROOT, usage("digital_signature"))
    assert "is not for signing certificates (keyUsage)" in refusal([gateway(made), made])
    fine = authority("signer", ROOT, usage("key_cert_sign", "crl_sign"))
    check([gateway(fine), fine])


def test_a_path_length_is_kept() -> None:
    """C5: pathLen counts the authorities below."""
    limited = authority("limited", ROOT, x509.BasicConstraints(ca=True, path_length=0))
    check([gateway(limited), limited])
    below = authority("below", limited)
    assert "allows 0 authorities below it, not 1" in refusal([gateway(below), below, limited])
    assert "allows 0 authorities below it" in refusal([gateway(below), below], [limited])


def test_the_leaf_must_be_for_signatures() -> None:
    check([gateway(ROOT, usage("digital_signature"))])
    check([gateway(ROOT, usage("content_commitment"))])
    assert "not for digital signatures" in refusal([gateway(ROOT, usage("key_encipherment"))])


@pytest.mark.parametrize(
    "purposes",
    [
        [ExtendedKeyUsageOID.SERVER_AUTH],
        [ExtendedKeyUsageOID.IPSEC_IKE],
        [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
        [x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2")],
        [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.IPSEC_IKE],
    ],
)
def test_purposes_of_a_gateway_are_accepted(purposes: list[x509.ObjectIdentifier]) -> None:
    check([gateway(ROOT, (x509.ExtendedKeyUsage(purposes), True))])


def test_no_extended_key_usage_is_fine() -> None:
    check([make("gateway", ROOT, extensions=[hosts("vpn.example.com")])])


def test_a_clients_certificate_is_no_gateways() -> None:
    """C6: allowed with an explicit option only."""
    made = gateway(ROOT, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))
    assert "extendedKeyUsage lacks serverAuth and ipsecIKE" in refusal([made])
    check([made], allow_client_only_eku=True)
    mail = gateway(ROOT, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]))
    refusal([mail], allow_client_only_eku=True)


def test_unknown_critical_extensions_are_refused_anywhere() -> None:
    """C7."""
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\0")
    assert "critical extension 1.2.3.4.5" in refusal([gateway(ROOT, (unknown, True))])
    check([gateway(ROOT, (unknown, False))])
    middle = make("odd", ROOT, extensions=[(CA, True), (unknown, True)])
    assert "CN=odd in its chain has the critical extension" in refusal([gateway(middle), middle])
    root = make("odd root", extensions=[(CA, True), (unknown, True)])
    refusal([gateway(root)], [root])


def test_known_extensions_we_do_not_process_are_refused_when_critical() -> None:
    """C7: this one is known to the parser, but not to the rules."""
    feature = x509.TLSFeature([x509.TLSFeatureType.status_request])
    assert "critical extension 1.3.6.1.5.5.7.1.24" in refusal([gateway(ROOT, (feature, True))])


def test_a_policy_that_is_demanded_has_to_hold_for_the_whole_path() -> None:
    constraints = x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None)
    policies = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4"), None)])
    assert "demands a certificate policy" in refusal([gateway(ROOT, (constraints, True))])
    check([gateway(ROOT, (constraints, True), policies)])


# C9: name constraints


def constrained(permitted: list[x509.GeneralName] | None, excluded: list[x509.GeneralName] | None) -> Made:
    constraints = x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=excluded)
    return make("constrained", ROOT, extensions=[(CA, True), (constraints, True)])


def test_an_excluded_name_is_refused_whatever_its_case() -> None:
    """C9 (CVE-2026-35331)."""
    made = constrained(None, [x509.DNSName("EXAMPLE.com")])
    text = refusal([gateway(made), made])
    assert "breaks the name constraints of C=CH, O=Test, CN=constrained: vpn.example.com" in text
    refusal([gateway(made, hosts("VPN.Example.COM")), made])


def test_constraints_bind_everything_below() -> None:
    """C9: also through an authority without constraints of its own, and for its own names."""
    made = constrained([x509.DNSName("example.org")], None)
    below = authority("below", made)
    assert "not among the names" in refusal([gateway(below), below, made])
    fine = gateway(below, hosts("vpn.example.org"))
    check([fine, below, made], identity=b"vpn.example.org")


def test_a_self_issued_certificate_escapes_constraints_only_in_the_middle() -> None:
    """C9, RFC 5280 section 6.1.3 (b): a leaf that bears its authority's name is a leaf all the same."""
    made = constrained([x509.DNSName("example.org")], None)
    assert "not among the names" in refusal([gateway(made, subject="constrained", private=key("p256", 70)), made])
    renewed = make("constrained", made, private=key("p256", 71), extensions=[(CA, True), hosts("ca.example.net")])
    check([gateway(renewed, hosts("vpn.example.org")), renewed, made], identity=b"vpn.example.org")


def test_constraints_of_the_anchor_count() -> None:
    constraints = x509.NameConstraints(permitted_subtrees=[x509.DNSName("example.org")], excluded_subtrees=None)
    root = make("narrow root", extensions=[(CA, True), (constraints, True)])
    assert "not among the names" in refusal([gateway(root)], [root])


# C10: strength


@pytest.mark.parametrize("place", ["leaf", "intermediate", "root"])
def test_short_rsa_keys_are_refused(place: str) -> None:
    """C10."""
    weak, strong = key("rsa1024"), key("rsa2048")
    root = authority("rsa root", private=weak if place == "root" else strong)
    middle = authority("rsa middle", root, private=weak if place == "intermediate" else strong)
    leaf = gateway(middle, private=weak if place == "leaf" else strong)
    assert "an RSA key of 1024 bits is too short" in refusal([leaf, middle], [root])


def test_the_anchors_own_signature_does_not_count() -> None:
    """C10: nothing rests on the signature of a certificate that is trusted for itself."""
    assert ROOT.certificate.signature_hash == "sha256"
    root = authority("sha3 root", algorithm=hashes.SHA3_256())
    check([gateway(root)], [root])


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha224"])
def test_weak_hashes_are_refused(algorithm: str, tmp_path: Path) -> None:
    """C10."""
    root = authority("wide root", private=key("rsa2048"), **WIDE)
    constraints = "basicConstraints=critical,CA:true"
    made = from_openssl(tmp_path, "weak", f"-{algorithm}", issuer=root, extensions=constraints)
    now = made.certificate.validity.start
    assert f"it is signed with {algorithm}, which is too weak" in refusal([made], [root], now=now)
    text = refusal([gateway(made, **WIDE), made], [root], now=now)
    assert f"CN=weak in its chain is signed with {algorithm}, which is too weak" in text


# C19: work


def test_names_times_subtrees_have_a_budget() -> None:
    """C19: 2,048 names in the certificate and 4,000 subtrees in its authority's; each alone is no harm."""
    names = hosts(*(f"h{n}.example.com" for n in range(2047)), "vpn.example.com")
    trees: list[x509.GeneralName] = [x509.DNSName(f"d{n}.test") for n in range(4000)]
    for many in (
        x509.NameConstraints(permitted_subtrees=[*trees, x509.DNSName("example.com")], excluded_subtrees=None),
        x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=trees),
    ):
        root = authority("root of many", ROOT, many)
        text, took = timed_refusal([gateway(root, names), root])
        assert "the gateway's certificate cannot be checked" in text
        assert took < 2  # without a budget 8 s and more
        check([gateway(root), root])
    check([gateway(ROOT, names)])


def timed_refusal(chain: Sequence[Made], trust: Sequence[Made] = (ROOT,)) -> tuple[str, float]:
    store = TrustStore.from_certificates([made.certificate for made in trust])
    certificates = [made.certificate for made in chain]
    started = time.process_time()
    with pytest.raises(GatewayNotAuthenticated) as caught:
        validate_gateway(certificates, store, NOW, IdType.FQDN, b"vpn.example.com")
    return " ".join(caught.value.lines()), time.process_time() - started


def test_an_honest_gateway_with_many_names_is_far_from_the_budget() -> None:
    """C19: some dozen names, and an authority that is limited to hundreds of domains."""
    trees: list[x509.GeneralName] = [x509.DNSName(f"d{n}.test") for n in range(200)]
    limits = x509.NameConstraints(permitted_subtrees=[*trees, x509.DNSName("example.com")], excluded_subtrees=trees)
    middle = authority("limited", ROOT, limits)
    low = authority("low", middle, limits)
    check([gateway(low, hosts(*(f"h{n}.example.com" for n in range(40)), "vpn.example.com")), low, middle])


def test_paths_have_a_budget() -> None:
    """C19: three look-alikes at each of five levels are 243 paths from 16 certificates, none of them valid."""
    trees: list[x509.GeneralName] = [x509.DNSName(f"d{n}.test") for n in range(100)]
    limits = x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=trees)
    root = authority("root of paths", None, x509.BasicConstraints(ca=True, path_length=0))
    heap: list[Made] = []
    above = root
    for level in range(5):
        private = key("p256", 200 + level)
        heap += [authority(f"level {level}", above, limits, private=private) for _ in range(3)]
        above = heap[-1]
    leaf = gateway(above, hosts(*(f"h{n}.example.com" for n in range(40))))
    text, took = timed_refusal([leaf, *heap], [root])
    assert "cannot be checked" in text
    assert took < 1


def test_dead_ends_have_a_budget() -> None:
    """C19: paths that reach no authority we know are walked from one budget, too."""
    rogue = authority("rogue")
    heap, above = [rogue], rogue
    for level in range(8):
        private = key("p256", 240 + level)
        heap += [authority(f"rogue {level}", above, private=private, start=NOW - (10 + n) * DAY) for n in range(3)]
        above = heap[-1]
    text, took = timed_refusal([gateway(above), *heap])
    assert took < 1
    assert "cannot be checked" in text


@pytest.mark.parametrize("bits", [3072, 16384])
def test_a_slow_key_is_not_worth_verifying_with(bits: int) -> None:
    """C19: an exponent as long as the modulus makes each verification a hundred times as long."""
    modulus = (1 << bits - 1) + 1
    key_ = PublicKey(rsa.RSAPublicNumbers(modulus - 2, modulus).public_key())
    assert "absurd" in str(key_.absurdity)
    assert key_.weakness == key_.absurdity
    signature = CertificateSignature(
        how=padding.PKCS1v15(), hash=hashes.SHA256(), signed=b"x", signature=bytes(modulus.bit_length() // 8)
    )
    with pytest.raises(SignatureError, match="absurd"):
        signature.verify(key_)


def test_the_same_certificate_with_altered_outer_algorithms_is_no_more_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """C15: 10,000 copies that differ outside of the signed part cost no signature, and nothing is kept of them."""
    encoded = INTERMEDIATE.certificate.der
    outer = bytes.fromhex("06082a8648ce3d040302")
    at = encoded.rindex(outer) + len(outer) - 1
    copies = []
    for number in range(10_000):
        # The last arc of the algorithm's identifier, and the last bytes of the signature.
        edited = bytearray(encoded)
        edited[at] = number % 120 + 4
        edited[-2:] = number.to_bytes(2, "big")
        with suppress(ParseError):
            copies.append(Certificate.from_der(bytes(edited)))
    assert len(copies) > 5_000
    assert all(copy.signature_problem == "names two different signature algorithms" for copy in copies)
    verified: list[Certificate] = []
    genuine = CertificateSignature.verify

    def counted(self: CertificateSignature, issuer: PublicKey) -> None:
        verified.append(self)  # type: ignore[arg-type]
        genuine(self, issuer)

    monkeypatch.setattr(CertificateSignature, "verify", counted)
    leaf = gateway(INTERMEDIATE).certificate
    started = time.process_time()
    with pytest.raises(GatewayNotAuthenticated):
        find_path(leaf, copies, [ROOT.certificate], NOW)
    assert time.process_time() - started < 2
    assert len(verified) <= MAX_CERTIFICATES
    find_path(leaf, [INTERMEDIATE.certificate, *copies], [ROOT.certificate], NOW)


# C18: what authorities are for


@pytest.mark.parametrize("place", ["intermediate", "root"])
@pytest.mark.parametrize(
    "usages",
    [
        [ExtendedKeyUsageOID.EMAIL_PROTECTION],
        [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.CODE_SIGNING],
    ],
)
def test_an_authority_for_other_purposes_does_not_vouch_for_gateways(
    place: str, usages: list[x509.ObjectIdentifier]
) -> None:
    """C18: wherever it stands in the path."""
    limit = x509.ExtendedKeyUsage(usages)
    root = authority("usage root", None, *([limit] if place == "root" else []))
    middle = authority("usage middle", root, *([limit] if place == "intermediate" else []))
    low = authority("usage low", middle)
    text = refusal([gateway(low), low, middle], [root])
    assert f"CN=usage {'root' if place == 'root' else 'middle'} in its chain may not vouch for gateways" in text
    assert "extendedKeyUsage" in text
    text = refusal([gateway(low), low, middle], [root], allow_client_only_eku=True)
    assert "may not vouch for gateways" in text


@pytest.mark.parametrize(
    "allowed",
    [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.IPSEC_IKE,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2"),
    ],
)
def test_an_authority_for_servers_among_others_vouches_for_gateways(allowed: x509.ObjectIdentifier) -> None:
    """C18."""
    limit = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION, allowed])
    root = authority("server root", None, limit)
    middle = authority("server middle", root, limit)
    check([gateway(middle), middle], [root])


def test_the_systems_store_is_no_exception() -> None:
    """C18: its bundles hold authorities for e-mail as well."""
    limit = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    mail, web = authority("mail root", None, limit), authority("web root")
    bundle = b"".join(made.x509.public_bytes(Encoding.PEM) for made in (mail, web))
    store = TrustStore.system([bundle])
    identity = (IdType.FQDN, b"vpn.example.com")
    validate_gateway([gateway(web).certificate], store, NOW, *identity)
    with pytest.raises(GatewayNotAuthenticated) as caught:
        validate_gateway([gateway(mail).certificate], store, NOW, *identity)
    assert "may not vouch for gateways" in str(caught.value.reason)


# Names that are written in another way


def rewritten(kind: x509.name._ASN1Type, change: Callable[[str], str], common_name: str) -> x509.Name:
    """C=CH, O=Test, CN=..., with the last two in another string type and spelling."""
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, change("Test"), _type=kind),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, change(common_name), _type=kind),
        ]
    )


SPELLINGS: list[tuple[x509.name._ASN1Type, Callable[[str], str]]] = [
    (x509.name._ASN1Type.PrintableString, str),
    (x509.name._ASN1Type.BMPString, str),
    (x509.name._ASN1Type.UTF8String, str.upper),
    (x509.name._ASN1Type.UTF8String, lambda text: f"  {text.replace(' ', '   ')} "),
    (x509.name._ASN1Type.T61String, str.lower),
]


@pytest.mark.parametrize(("kind", "change"), SPELLINGS)
def test_issuers_are_found_however_their_names_are_written(
    kind: x509.name._ASN1Type, change: Callable[[str], str]
) -> None:
    """RFC 5280 section 7.1: case, spaces and string types do not count, for anchors and for intermediates."""
    root_key, middle_key = key("p256", 301), key("p256", 302)
    root = authority("Spelt  Root", private=root_key)
    known_as = Made(x509=root.x509, key=root_key, name=rewritten(kind, change, "Spelt Root"))
    middle = authority("Spelt Middle", known_as, private=middle_key)
    assert middle.certificate.issuer_der != root.certificate.subject_der
    renamed = Made(x509=middle.x509, key=middle_key, name=rewritten(kind, change, "Spelt Middle"))
    check([gateway(renamed), middle], [root])
    check([gateway(known_as)], [root])
    strange = Made(x509=root.x509, key=root_key, name=rewritten(kind, change, "Spelt Rot"))
    assert "neither a trusted authority" in refusal([gateway(strange)], [root])


def test_a_self_issued_certificate_is_one_however_its_name_is_written() -> None:
    """RFC 5280 sections 4.2.1.9 and 7.1: a rolled over authority whose new certificate is in UTF8String."""
    limit = x509.BasicConstraints(ca=True, path_length=0)
    old = authority("rolling", None, limit, private=key("p256", 80))
    spelt = rewritten(x509.name._ASN1Type.PrintableString, str.upper, "rolling")
    new = make(spelt, old, private=key("p256", 81), extensions=[(CA, True)])
    assert new.certificate.self_issued
    check([gateway(new), new], [old])


# The ends of the calendar


@pytest.mark.parametrize("hours", [-12, 14])
def test_dates_at_the_ends_of_the_calendar_are_told(hours: int) -> None:
    """C2, C17: in a local time zone they would lie outside of it."""
    now = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=hours)))
    last = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    text = refusal([gateway(ROOT, start=last, end=last)], now=now)
    assert "it is not valid before 9999-12-31" in text
    check([gateway(ROOT, end=last)], now=now)
