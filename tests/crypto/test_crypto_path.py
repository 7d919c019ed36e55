"""Certification paths: how they are found, and every way in which one can be broken."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import certificate_factory
import pytest
from certificate_factory import (
    CA,
    DAY,
    NOW,
    WIDE,
    Made,
    authority,
    from_openssl,
    gateway,
    hosts,
    key,
    make,
    name,
    usage,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from ikeclient.crypto.certs import Certificate
from ikeclient.crypto.path import MAX_SIGNATURES

ROOT = authority("root")
INTERMEDIATE = authority("intermediate", ROOT)
OTHER_ROOT = authority("other root")


def check(chain: Sequence[Made], trust: Sequence[Made] = (ROOT,), **arguments: Any) -> None:
    certificate_factory.check(chain, trust, **arguments)


def refusal(chain: Sequence[Made], trust: Sequence[Made] = (ROOT,), **arguments: Any) -> str:
    return certificate_factory.refusal(chain, trust, **arguments)


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
    check([gateway(old, **WIDE)], [old], now=old.certificate.not_before)
    root = authority("wide root", **WIDE)
    old = from_openssl(tmp_path, "old middle", "-sha256", issuer=root)
    text = refusal([gateway(old, **WIDE), old], [root], now=old.certificate.not_before)
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
    assert "too many" in refusal([gateway(alike[0]), *crossed * 10, *alike])
    assert time.monotonic() - started < 5
    assert len(verified) == MAX_SIGNATURES


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
    """C7: policy constraints are known to the parser, but not to the rules."""
    constraints = x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None)
    assert "critical extension 2.5.29.36" in refusal([gateway(ROOT, (constraints, True))])


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
    now = made.certificate.not_before
    assert f"it is signed with {algorithm}, which is too weak" in refusal([made], [root], now=now)
    text = refusal([gateway(made, **WIDE), made], [root], now=now)
    assert f"CN=weak in its chain is signed with {algorithm}, which is too weak" in text
