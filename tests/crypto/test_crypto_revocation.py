"""Revocation lists, OCSP responses and what follows from them (C8)."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from certificate_factory import (
    DAY,
    INTERMEDIATE,
    NOW,
    OTHER_ROOT,
    ROOT,
    Made,
    authority,
    gateway,
    is_clause,
    key,
    make,
    usage,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from revocation_factory import HOUR, crl, response

from ikeclient.crypto.pki import der
from ikeclient.crypto.pki.crl import MAX_LENGTH, Crl
from ikeclient.crypto.pki.ocsp import OcspResponse, request, urls
from ikeclient.crypto.pki.revocation import RevocationCheck, list_urls, query, read_evidence
from ikeclient.crypto.pki.revocation_status import RevocationPolicy, RevocationState, RevocationStatus, enforce, summary
from ikeclient.errors import GatewayNotAuthenticated, ParseError

LEAF = gateway(INTERMEDIATE)
PATH = tuple(each.certificate for each in (LEAF, INTERMEDIATE, ROOT))
SIGNING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
SIGNER = make("responder", INTERMEDIATE, private=key("p256", 71), extensions=[SIGNING, x509.OCSPNoCheck()])
REVOKED, UNKNOWN = ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN


def state(
    *responses: bytes, lists: tuple[bytes, ...] = (), now: datetime.datetime = NOW, **more: Any
) -> RevocationStatus:
    """The state of LEAF."""
    return RevocationCheck(PATH, (), now).status(0, read_evidence(responses, lists), **more)


def point(url: str, **more: Any) -> x509.CRLDistributionPoints:
    names = [x509.UniformResourceIdentifier(url)]
    fields: dict[str, Any] = {"relative_name": None, "reasons": None, "crl_issuer": None} | more
    return x509.CRLDistributionPoints([x509.DistributionPoint(names, **fields)])


@pytest.mark.parametrize(
    "answer",
    [
        response(LEAF, INTERMEDIATE),
        response(LEAF, INTERMEDIATE, by_name=True),
        response(LEAF, INTERMEDIATE, algorithm=hashes.SHA256()),
        response(LEAF, INTERMEDIATE, signer=SIGNER),
        response(LEAF, INTERMEDIATE, signer=SIGNER, by_name=True),
        response(LEAF, INTERMEDIATE, start=NOW + 4 * HOUR / 60, end=NOW + DAY),
        response(LEAF, INTERMEDIATE, end=NOW - 4 * HOUR / 60),
        response(LEAF, INTERMEDIATE, start=NOW - HOUR / 2, end=None),
        response(LEAF, INTERMEDIATE, nonce=b"n" * 32),
    ],
)
def test_an_answer_of_who_may_answer_is_good(answer: bytes) -> None:
    assert state(answer, nonce=b"n" * 32).state is RevocationState.GOOD


def unusable() -> list[tuple[str, bytes]]:
    no_usage = make("responder", INTERMEDIATE, private=key("p256", 72), extensions=[x509.OCSPNoCheck()])
    strange = make("responder", ROOT, private=key("p256", 73), extensions=[SIGNING])
    expired = make("responder", INTERMEDIATE, private=key("p256", 74), extensions=[SIGNING], end=NOW - HOUR)
    other = gateway(INTERMEDIATE)
    return [
        ("extendedKeyUsage lacks OCSPSigning", response(LEAF, INTERMEDIATE, signer=no_usage)),
        ("not issued by the issuer", response(LEAF, INTERMEDIATE, signer=strange)),
        ("not valid at this time", response(LEAF, INTERMEDIATE, signer=expired)),
        ("whose certificate is not in it", response(LEAF, INTERMEDIATE, signer=SIGNER, shown=False)),
        ("signed by somebody else", response(LEAF, INTERMEDIATE, signer=OTHER_ROOT, shown=False)),
        ("about another certificate", response(other, INTERMEDIATE)),
        ("does not know", response(LEAF, INTERMEDIATE, status=UNKNOWN)),
        ("out of date", response(LEAF, INTERMEDIATE, start=NOW - DAY, end=NOW - HOUR)),
        ("does not say how long it holds", response(LEAF, INTERMEDIATE, start=NOW - DAY, end=None)),
        ("from the future", response(LEAF, INTERMEDIATE, start=NOW + HOUR, end=NOW + DAY)),
        ("another nonce", response(LEAF, INTERMEDIATE, nonce=b"x" * 32)),
        ("too weak", with_sha1(response(LEAF, INTERMEDIATE, signer=rsa_signer()))),
        (
            "try later",
            ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
        ),
        ("cannot be read", b"\x30\x03\x0a\x01\x00"),
        ("cannot be read", b"nothing of the kind"),
        ("too long", bytes(1 << 17)),
    ]


def with_sha1(answer: bytes) -> bytes:
    """The same, called signed with SHA-1, which the library does not make."""
    return answer.replace(bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105"))


def rsa_signer() -> Made:
    return make("responder", INTERMEDIATE, private=key("rsa2048", 1), extensions=[SIGNING, x509.OCSPNoCheck()])


@pytest.mark.parametrize(("why", "answer"), unusable())
def test_an_answer_that_does_not_count_says_why(why: str, answer: bytes) -> None:
    found = state(answer, nonce=b"n" * 32)
    assert found.state is RevocationState.UNKNOWN
    assert why in found.detail


def test_a_response_whose_bytes_were_changed_does_not_count() -> None:
    answer = bytearray(response(LEAF, INTERMEDIATE))
    answer[-1] ^= 1
    assert "does not verify" in state(bytes(answer)).detail


def test_a_revoked_certificate_is_revoked_whoever_may_say_so() -> None:
    for each in (
        state(response(LEAF, INTERMEDIATE, status=REVOKED)),
        state(response(LEAF, INTERMEDIATE, status=REVOKED, signer=SIGNER)),
        state(lists=(crl(INTERMEDIATE, LEAF),)),
        state(response(LEAF, INTERMEDIATE, end=NOW - HOUR, start=NOW - DAY), lists=(crl(INTERMEDIATE, LEAF),)),
    ):
        assert each.state is RevocationState.REVOKED
        with pytest.raises(GatewayNotAuthenticated) as caught:
            enforce(RevocationPolicy.RELAXED, [each])
        assert all(is_clause(line) for line in caught.value.lines())


def test_a_reason_that_is_none_revokes_all_the_same() -> None:
    """C8, C17: a number of thousands of digits where a reason belongs."""
    encoded = der.encode(der.ENUMERATED, b"\x7f" * 3_000)
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.21"), encoded)
    found = state(lists=(crl(INTERMEDIATE, LEAF, entry_extensions=[(odd, False)]),))
    assert found.state is RevocationState.REVOKED
    assert "7f7f7f7f" in found.detail
    assert len(found.detail) < 300


def test_a_signer_that_is_revoked_itself_counts_only_if_its_certificate_says_not_to_ask() -> None:
    asked = make("responder", INTERMEDIATE, private=key("p256", 75), extensions=[SIGNING])
    answer = response(LEAF, INTERMEDIATE, signer=asked)
    assert state(answer).state is RevocationState.GOOD
    assert state(answer, lists=(crl(INTERMEDIATE, asked),)).detail == "CRL"
    unasked = response(LEAF, INTERMEDIATE, signer=SIGNER)
    assert state(unasked, lists=(crl(INTERMEDIATE, SIGNER),)).detail == "OCSP"


@pytest.mark.parametrize(
    "listed",
    [
        crl(INTERMEDIATE),
        crl(INTERMEDIATE, serials=[2**150 + 1]),
        crl(INTERMEDIATE, start=NOW + 4 * HOUR / 60),
        crl(INTERMEDIATE, end=NOW - 4 * HOUR / 60),
        crl(INTERMEDIATE, extensions=[(x509.CRLNumber(5), False)]),
    ],
)
def test_a_list_without_the_certificate_is_good(listed: bytes) -> None:
    assert state(lists=(listed,)).state is RevocationState.GOOD


UNKNOWN_EXTENSION = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0")
INDIRECT = x509.IssuingDistributionPoint(
    full_name=[x509.UniformResourceIdentifier("http://crl.example/1")],
    relative_name=None,
    only_contains_user_certs=False,
    only_contains_ca_certs=False,
    only_some_reasons=None,
    indirect_crl=True,
    only_contains_attribute_certs=False,
)


@pytest.mark.parametrize(
    ("why", "listed"),
    [
        ("out of date", crl(INTERMEDIATE, start=NOW - 2 * DAY, end=NOW - HOUR)),
        ("from the future", crl(INTERMEDIATE, start=NOW + HOUR, end=NOW + DAY)),
        ("not signed by its issuer", crl(INTERMEDIATE, signer=OTHER_ROOT)),
        ("no revocation list is for it", crl(ROOT)),
        ("critical extension 1.2.3.4", crl(INTERMEDIATE, extensions=[(UNKNOWN_EXTENSION, True)])),
        ("entry with a critical", crl(INTERMEDIATE, serials=[5], entry_extensions=[(UNKNOWN_EXTENSION, True)])),
        ("truncated", crl(INTERMEDIATE)[:-1]),
        ("DER", b"\x30\x03\x02\x01\x00"),
        ("too long", bytes(MAX_LENGTH + 1)),
    ],
)
def test_a_list_that_does_not_count_says_why(why: str, listed: bytes) -> None:
    found = state(lists=(listed,))
    assert found.state is RevocationState.UNKNOWN
    assert why in found.detail


def test_an_indirect_list_says_nothing_even_about_its_own_issuer() -> None:
    leaf = gateway(INTERMEDIATE, point("http://crl.example/1"))
    path = (leaf.certificate, *PATH[1:])
    evidence = read_evidence(lists=[crl(INTERMEDIATE, extensions=[(INDIRECT, True)])])
    found = RevocationCheck(path, (), NOW).status(0, evidence)
    assert found.state is RevocationState.UNKNOWN
    assert "indirect" in found.detail


def test_an_authority_whose_key_usage_forbids_it_signs_no_list() -> None:
    mute = authority("mute", ROOT, usage("key_cert_sign"))
    leaf = gateway(mute)
    path = tuple(each.certificate for each in (leaf, mute, ROOT))
    found = RevocationCheck(path, (), NOW).status(0, read_evidence(lists=[crl(mute)]))
    assert "keyUsage" in found.detail


def test_a_delta_adds_and_takes_away() -> None:
    complete = crl(INTERMEDIATE, LEAF, extensions=[(x509.CRLNumber(5), False)])
    empty = crl(INTERMEDIATE, extensions=[(x509.CRLNumber(5), False)])
    numbers: list[tuple[x509.ExtensionType, bool]] = [(x509.CRLNumber(6), False), (x509.DeltaCRLIndicator(5), True)]
    removed = [(x509.CRLReason(x509.ReasonFlags.remove_from_crl), False)]
    assert state(lists=(empty, crl(INTERMEDIATE, LEAF, extensions=numbers))).state is RevocationState.REVOKED
    taken = crl(INTERMEDIATE, LEAF, extensions=numbers, entry_extensions=removed)
    assert state(lists=(complete, taken)).state is RevocationState.GOOD
    assert state(lists=(taken,)).state is RevocationState.UNKNOWN
    stale: list[tuple[x509.ExtensionType, bool]] = [(x509.CRLNumber(6), False), (x509.DeltaCRLIndicator(6), True)]
    forgiving = crl(INTERMEDIATE, LEAF, extensions=stale, entry_extensions=removed)
    assert state(lists=(complete, forgiving)).state is RevocationState.REVOKED


def test_a_long_list_is_searched_without_reading_its_entries() -> None:
    many = Crl(crl(INTERMEDIATE, LEAF, serials=range(10**20, 10**20 + 2000)))
    found = many.entry(LEAF.certificate)
    assert found is not None
    assert many.entry(gateway(INTERMEDIATE).certificate) is None


def test_every_certificate_but_the_anchor_is_asked_about() -> None:
    found = query(PATH, (), read_evidence([response(LEAF, INTERMEDIATE)], [crl(ROOT, INTERMEDIATE)]), NOW)
    assert [each.state for each in found.statuses] == [RevocationState.GOOD, RevocationState.REVOKED]
    with pytest.raises(GatewayNotAuthenticated, match="an authority of the gateway's certificate has been revoked"):
        enforce(RevocationPolicy.RELAXED, found.statuses)
    assert enforce(RevocationPolicy.OFF, found.statuses) is None
    assert summary(found.statuses).startswith("revoked (CRL: unspecified")
    assert summary(()) == "not checked (the certificate itself is trusted)"


@pytest.mark.parametrize(
    ("policy", "asked", "refused"),
    [
        (RevocationPolicy.RELAXED, True, False),
        (RevocationPolicy.STRICT, False, True),
        (RevocationPolicy.STRICT, True, True),
        (RevocationPolicy.IFURI, False, False),
        (RevocationPolicy.IFURI, True, True),
    ],
)
def test_what_is_not_known_is_a_notice_or_a_refusal(policy: RevocationPolicy, asked: bool, refused: bool) -> None:
    leaf = gateway(INTERMEDIATE, point("http://crl.example/list")) if asked else LEAF
    found = query((leaf.certificate, *PATH[1:]), (), read_evidence(lists=[crl(ROOT)]), NOW)
    assert found.has_sources is asked
    if refused:
        with pytest.raises(GatewayNotAuthenticated, match="nobody could tell") as caught:
            enforce(policy, found.statuses)
        assert all(is_clause(line) for line in caught.value.lines())
    else:
        assert "is not known" in str(enforce(policy, found.statuses))


def test_only_plain_http_is_where_to_ask() -> None:
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
            for url in ("http://ocsp.example/", "https://ocsp.example/", "ldap://ocsp.example/", "file:///etc/passwd")
        ]
    )
    leaf = gateway(INTERMEDIATE, access, point("ldap://crl.example/x")).certificate
    assert urls(leaf) == ("http://ocsp.example/",)
    assert list_urls(leaf) == ()


def test_a_question_names_the_certificate_and_carries_the_nonce() -> None:
    asked = ocsp.load_der_ocsp_request(request(LEAF.certificate, INTERMEDIATE.certificate, b"n" * 32))
    assert asked.serial_number == LEAF.x509.serial_number
    assert asked.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32


def test_damage_is_one_error() -> None:
    for encoded in (b"", b"\x30", b"\x30\x00", bytes(100)):
        for read in (Crl, OcspResponse):
            with pytest.raises(ParseError):
                read(encoded)
