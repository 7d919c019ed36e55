"""NIST's Public Key Interoperability Test Suite: paths, policies and revocation (C4 to C8).

`tests/vectors/pkits.zip` holds its certificates and lists, in the public domain, as the package `cryptography-vectors`
ships them. The name of a certificate says what its path is; the suite's own document has the settings for policies.

A path is acceptable if it is valid and the strict policy has nothing against it. What we refuse on purpose although the
suite calls it valid stands in `REFUSED`.
"""

from __future__ import annotations

import datetime
import functools
import re
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.pki.crl import Crl
from ikeclient.crypto.pki.path import find_path
from ikeclient.crypto.pki.policies import NO_DEMANDS, PolicyInput
from ikeclient.crypto.pki.revocation import query
from ikeclient.crypto.pki.revocation_status import Evidence, RevocationPolicy, RevocationState, enforce
from ikeclient.errors import GatewayNotAuthenticated, ParseError

ARCHIVE = Path(__file__).parents[1] / "vectors" / "pkits.zip"
NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
ANY = "2.5.29.32.0"

REFUSED = {
    "ValidIDPwithindirectCRLTest22": "indirect lists are not supported",
    "ValidIDPwithindirectCRLTest24": "indirect lists are not supported",
    "ValidIDPwithindirectCRLTest25": "indirect lists are not supported",
    "ValidcRLIssuerTest28": "indirect lists are not supported",
    "ValidcRLIssuerTest29": "indirect lists are not supported",
    "ValidcRLIssuerTest30": "indirect lists are not supported",
    "ValidcRLIssuerTest33": "indirect lists are not supported",
    "ValidURInameConstraintsTest34": "constraints on URIs are not compared, so they forbid",
    "ValidURInameConstraintsTest36": "constraints on URIs are not compared, so they forbid",
    "ValidDSASignaturesTest4": "DSA keys are not used",
    "ValidDSAParameterInheritanceTest5": "DSA keys are not used",
}


@functools.cache
def archive() -> dict[str, bytes]:
    with zipfile.ZipFile(ARCHIVE) as found:
        return {name: found.read(name) for name in found.namelist()}


@functools.cache
def certificates() -> dict[str, Certificate]:
    found = {}
    for name, encoded in archive().items():
        if name.startswith("certs/"):
            with suppress(ParseError):
                found[name.removeprefix("certs/").removesuffix(".crt")] = Certificate.from_der(encoded)
    return found


@functools.cache
def lists() -> tuple[Crl, ...]:
    found = []
    for name, encoded in archive().items():
        if name.startswith("crls/"):
            with suppress(ParseError):
                found.append(Crl(encoded))
    return tuple(found)


def paths() -> list[str]:
    names = [name.removeprefix("certs/").removesuffix(".crt") for name in archive() if name.endswith("EE.crt")]
    return [name.removesuffix("EE") for name in names if name.startswith(("Valid", "Invalid"))]


def above(leaf: Certificate) -> list[Certificate]:
    """The authorities that may be in the leaf's path, and those that may sign lists."""
    wanted = {leaf.issuer_key}
    while True:
        found = [each for each in certificates().values() if each.subject_key in wanted and each != leaf]
        issuers = {each.issuer_key for each in found} - wanted
        if not issuers:
            return [each for each in found if not each.self_issued or each.subject_key != root().subject_key]
        wanted |= issuers


def root() -> Certificate:
    return certificates()["TrustAnchorRootCertificate"]


def judge(name: str, policies: PolicyInput = NO_DEMANDS) -> str | None:
    """Why the path of a certificate is not acceptable; None if it is."""
    leaf = certificates().get(f"{name}EE")
    if leaf is None:
        return "it cannot be read"
    others = above(leaf)
    try:
        path = find_path(leaf, others, [root()], NOW, policies=policies)
        keys = {each.subject_key for each in path}
        evidence = Evidence(lists=tuple(each for each in lists() if each.issuer_key in keys))
        enforce(RevocationPolicy.STRICT, query(path, others, evidence, NOW).statuses)
    except GatewayNotAuthenticated as error:
        return " ".join(error.lines())
    return None


@pytest.mark.parametrize("name", paths())
def test_a_path_gets_the_verdict_of_the_suite(name: str) -> None:
    problem = judge(name)
    if name.startswith("Valid") and name not in REFUSED:
        assert problem is None
    else:
        assert problem is not None


@pytest.mark.parametrize(
    "name",
    [name for name in paths() if re.search("Revoked|OldWithNewTest2|CRLKeysTest20|deltaCRLTest[346]$", name)],
)
def test_a_revoked_path_is_refused_by_the_default_policy_too(name: str) -> None:
    leaf = certificates()[f"{name}EE"]
    path = find_path(leaf, above(leaf), [root()], NOW)
    states = [each.state for each in query(path, above(leaf), Evidence(lists=lists()[:0]), NOW).statuses]
    assert set(states) == {RevocationState.UNKNOWN}
    evidence = Evidence(lists=tuple(each for each in lists() if each.issuer_key in {c.subject_key for c in path}))
    statuses = query(path, above(leaf), evidence, NOW).statuses
    with pytest.raises(GatewayNotAuthenticated, match="has been revoked"):
        enforce(RevocationPolicy.RELAXED, statuses)


def nist(*numbers: int, explicit: bool = True, **more: bool) -> PolicyInput:
    acceptable = frozenset(f"2.16.840.1.101.3.2.1.48.{number}" for number in numbers) or frozenset({ANY})
    return PolicyInput(acceptable=acceptable, require_explicit=explicit, **more)


@pytest.mark.parametrize(
    ("name", "policies", "valid"),
    [
        ("ValidCertificatePathTest1", nist(), True),  # 4.8.1
        ("ValidCertificatePathTest1", nist(1), True),
        ("ValidCertificatePathTest1", nist(2), False),
        ("ValidCertificatePathTest1", nist(1, 2), True),
        ("AllCertificatesNoPoliciesTest2", NO_DEMANDS, True),
        ("AllCertificatesNoPoliciesTest2", nist(), False),
        ("DifferentPoliciesTest3", NO_DEMANDS, True),
        ("DifferentPoliciesTest3", nist(), False),
        ("DifferentPoliciesTest3", nist(1, 2), False),
        ("DifferentPoliciesTest4", NO_DEMANDS, False),
        ("DifferentPoliciesTest5", NO_DEMANDS, False),
        ("OverlappingPoliciesTest6", NO_DEMANDS, True),
        ("OverlappingPoliciesTest6", nist(1), True),
        ("OverlappingPoliciesTest6", nist(2), False),
        ("DifferentPoliciesTest7", NO_DEMANDS, False),
        ("DifferentPoliciesTest8", NO_DEMANDS, False),
        ("DifferentPoliciesTest9", NO_DEMANDS, False),
        ("AllCertificatesSamePoliciesTest10", NO_DEMANDS, True),
        ("AllCertificatesSamePoliciesTest10", nist(1), True),
        ("AllCertificatesSamePoliciesTest10", nist(2), True),
        ("AllCertificatesanyPolicyTest11", NO_DEMANDS, True),
        ("AllCertificatesanyPolicyTest11", nist(1), True),
        ("DifferentPoliciesTest12", NO_DEMANDS, False),
        ("AllCertificatesSamePoliciesTest13", nist(1), True),
        ("AllCertificatesSamePoliciesTest13", nist(2), True),
        ("AllCertificatesSamePoliciesTest13", nist(3), True),
        ("AnyPolicyTest14", nist(1), True),
        ("AnyPolicyTest14", nist(2), False),
        ("UserNoticeQualifierTest15", NO_DEMANDS, True),
        ("UserNoticeQualifierTest16", NO_DEMANDS, True),
        ("UserNoticeQualifierTest17", NO_DEMANDS, True),
        ("UserNoticeQualifierTest18", nist(1), True),
        ("UserNoticeQualifierTest18", nist(2), True),
        ("UserNoticeQualifierTest19", NO_DEMANDS, True),
        ("CPSPointerQualifierTest20", nist(1), True),
        ("ValidPolicyMappingTest1", nist(1), True),  # 4.10
        ("ValidPolicyMappingTest1", nist(2), False),
        ("ValidPolicyMappingTest1", nist(inhibit_mapping=True), False),
        ("InvalidPolicyMappingTest2", nist(inhibit_mapping=True), False),
        ("ValidPolicyMappingTest3", nist(1), False),
        ("ValidPolicyMappingTest3", nist(2), True),
        ("ValidPolicyMappingTest5", nist(1), True),
        ("ValidPolicyMappingTest5", nist(6), False),
        ("ValidPolicyMappingTest6", nist(1), True),
        ("ValidPolicyMappingTest6", nist(6), False),
        ("ValidPolicyMappingTest12", nist(1), True),
        ("ValidPolicyMappingTest12", nist(2), True),
        ("inhibitAnyPolicyTest3", NO_DEMANDS, True),  # 4.12.3
        ("inhibitAnyPolicyTest3", nist(explicit=False, inhibit_any=True), False),
    ],
)
def test_policies_get_the_verdict_of_the_suite(name: str, policies: PolicyInput, valid: bool) -> None:
    assert (judge(name, policies) is None) is valid
