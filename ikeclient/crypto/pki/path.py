"""Certification paths: finding one from the gateway's certificate to a trust anchor, and what makes it valid.

RFC 5280 section 6; policies are in `policies`, revocation is in `revocation`. What the gateway sends is a heap that may
hold loops, strangers and hundreds of look-alikes, so the search is bounded in the certificates it looks at and in the
length of a path, and everything else is paid for from one budget. Issuers are looked up by name as section 7.1 compares
names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from enum import Enum, auto

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ikeclient.crypto.pki.budget import PATH, STEP, Budget
from ikeclient.crypto.pki.certificate import POLICY_MAPPINGS, Certificate
from ikeclient.crypto.pki.name_constraints import violation
from ikeclient.crypto.pki.policies import NO_DEMANDS, PolicyInput, policy_problem
from ikeclient.errors import GatewayNotAuthenticated

MAX_CERTIFICATES = 32
MAX_DEPTH = 10  # certificates in a path, both ends included

_HASHES = frozenset({"sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512", None})
_PROCESSED = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.NameConstraints,
    x509.CertificatePolicies,
    x509.PolicyConstraints,
    x509.InhibitAnyPolicy,
    x509.CRLDistributionPoints,
)
_IKE_INTERMEDIATE = x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2")  # from a draft, still found in the field
_GATEWAY_USAGES = frozenset(
    {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.IPSEC_IKE,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        _IKE_INTERMEDIATE,
    }
)


class Purpose(Enum):
    """What the certificate at the beginning of a path is for."""

    GATEWAY = auto()
    CLIENT_TOO = auto()  # a gateway whose certificate may be for clients only
    CRL = auto()  # the signer of a revocation list


def find_path(
    leaf: Certificate,
    others: Sequence[Certificate],
    anchors: Sequence[Certificate],
    now: datetime,
    purpose: Purpose = Purpose.GATEWAY,
    *,
    policies: PolicyInput = NO_DEMANDS,
    budget: Budget | None = None,
) -> tuple[Certificate, ...]:
    """A valid path from `leaf` to one of `anchors`, both included.

    Raises GatewayNotAuthenticated with what is wrong with the first complete path, or with where the search ended.
    """
    budget = budget or Budget()
    search = _Search(others, anchors, budget)
    check = _PathCheck(now, purpose, policies, budget)
    failure: GatewayNotAuthenticated | None = None
    for path in search.paths((leaf,)):
        if (found := check.failure(path)) is None:
            return path
        failure = failure or found
    raise failure or search.dead_end(leaf)


class _Search:
    """A depth-first search; raises GatewayNotAuthenticated when its budget is spent."""

    def __init__(self, others: Sequence[Certificate], anchors: Sequence[Certificate], budget: Budget) -> None:
        self._budget = budget
        self._anchors: dict[object, list[Certificate]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.subject_key, []).append(anchor)
        self._others: dict[object, list[Certificate]] = {}
        for other in list(dict.fromkeys(others))[:MAX_CERTIFICATES]:
            self._others.setdefault(other.subject_key, []).append(other)
        self._verified: dict[tuple[bytes, bytes], bool] = {}
        self._deepest: tuple[Certificate, ...] = ()
        self._forged: set[Certificate] = set()

    def paths(self, path: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        """Every path that starts with `path` and ends at an anchor."""
        last = path[-1]
        if len(path) == 1 and last in self._anchors.get(last.subject_key, ()):
            yield path  # the profile names this very certificate
            return
        if len(path) > len(self._deepest):
            self._deepest = path
        if len(path) == MAX_DEPTH:
            return
        for anchor in self._anchors.get(last.issuer_key, ()):
            if self._issued(last, anchor):
                yield (*path, anchor)
        used = {(certificate.subject_key, certificate.public_key) for certificate in path}
        for other in self._others.get(last.issuer_key, ()):
            if (other.subject_key, other.public_key) not in used and self._issued(last, other):
                yield from self.paths((*path, other))

    def dead_end(self, leaf: Certificate) -> GatewayNotAuthenticated:
        """What to say when no path reached an anchor."""
        end = self._deepest[-1]
        if len(self._deepest) == MAX_DEPTH:
            why = "the certificates it sent form too long a chain"
            return GatewayNotAuthenticated("the gateway's certificate cannot be checked", reason=why)
        if end in self._forged and (weak := _weak_signature(end)):
            return _refused(end, leaf, weak)
        if end in self._forged and end.self_issued:
            return _refused(end, leaf, "has the name of an authority we know, but another key")
        if end in self._forged:
            return _refused(end, leaf, f"is not signed by the key of its issuer {end.issuer}")
        if end.self_issued:
            who = "it" if end is leaf else f"the chain ends in {end.subject}, which"
            return GatewayNotAuthenticated(
                "the gateway's certificate is not trusted",
                reason=f"{who} is self-signed and not among the trusted authorities",
                hint=f"if it is meant to be trusted, add the certificate of {end.subject} to `ca` in the profile",
            )
        return GatewayNotAuthenticated(
            "the gateway's certificate is not trusted",
            reason=f"its issuer {end.issuer} is neither a trusted authority nor did the gateway send its certificate"
            if end is leaf
            else f"the chain stops at {end.subject}: the certificate of {end.issuer} is missing",
            hint=f"if it is meant to be trusted, add the certificate of {end.issuer} to `ca` in the profile",
        )

    def _issued(self, subject: Certificate, issuer: Certificate) -> bool:
        self._budget.spend(STEP)
        pair = (subject.der, issuer.der)
        if pair not in self._verified:
            self._budget.spend(issuer.public_key.cost)
            self._verified[pair] = subject.issued_by(issuer)
            if not self._verified[pair]:
                self._forged.add(subject)
        return self._verified[pair]


class _PathCheck:
    """What makes a path valid. Names are compared with an authority's constraints once, not once for every path."""

    def __init__(self, now: datetime, purpose: Purpose, policies: PolicyInput, budget: Budget) -> None:
        self._now = now
        self._purpose = purpose
        self._policies = policies
        self._budget = budget
        self._violations: dict[tuple[bytes, bytes], str | None] = {}

    def failure(self, path: tuple[Certificate, ...]) -> GatewayNotAuthenticated | None:
        """What is wrong with `path`, or None. Raises GatewayNotAuthenticated when the budget is spent."""
        self._budget.spend(PATH)
        try:
            self._check(path)
        except _Invalid as error:
            return error.refusal
        return None

    def _check(self, path: tuple[Certificate, ...]) -> None:
        leaf, *authorities = path
        for certificate in path:
            _check_common(certificate, leaf, self._now)
        for certificate in path[:-1]:  # the anchor's own signature proves nothing
            if weak := _weak_signature(certificate):
                raise _invalid(certificate, leaf, weak)
        _check_leaf(leaf, self._purpose)
        below = 0  # authorities between this one and the leaf, not counting those issued by themselves
        for position, authority in enumerate(authorities, start=1):
            _check_authority(authority, leaf, below, is_anchor=position == len(path) - 1)
            self._check_names(authority, path[:position])
            below += not authority.self_issued
        if problem := policy_problem(path, self._policies, self._budget):
            raise _Invalid(GatewayNotAuthenticated("the gateway's certificate is not acceptable", reason=problem))

    def _check_names(self, authority: Certificate, below: tuple[Certificate, ...]) -> None:
        if authority.subtrees is None:
            return
        for certificate in below:
            if certificate.self_issued and certificate is not below[0]:
                continue
            pair = (authority.der, certificate.der)
            if pair not in self._violations:
                self._violations[pair] = violation(authority.subtrees, certificate.names, self._budget)
            if found := self._violations[pair]:
                raise _invalid(certificate, below[0], f"breaks the name constraints of {authority.subject}: {found}")


class _Invalid(Exception):
    """A path is not valid."""

    def __init__(self, refusal: GatewayNotAuthenticated) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def _weak_signature(certificate: Certificate) -> str | None:
    if certificate.signature_problem:
        return certificate.signature_problem
    algorithm = certificate.signature_hash
    return None if algorithm in _HASHES else f"is signed with {algorithm}, which is too weak"


def _local(moment: datetime, now: datetime) -> str:
    """`moment` in the time zone of `now`, unless it lies at an end of the calendar."""
    with suppress(OverflowError, ValueError):
        moment = moment.astimezone(now.tzinfo)
    return moment.isoformat(sep=" ", timespec="seconds")


def _check_common(certificate: Certificate, leaf: Certificate, now: datetime) -> None:
    if certificate.public_key.weakness:
        raise _invalid(certificate, leaf, f"cannot be trusted: {certificate.public_key.weakness}")
    clock = now.isoformat(sep=" ", timespec="seconds")
    hint = f"this machine's clock says {clock}; if that is wrong, correct it, if not, tell the gateway's administrator"
    if now > certificate.validity.end:
        raise _invalid(certificate, leaf, f"expired at {_local(certificate.validity.end, now)}", hint)
    if now < certificate.validity.start:
        raise _invalid(certificate, leaf, f"is not valid before {_local(certificate.validity.start, now)}", hint)
    for extension in certificate.critical_extensions():
        if not isinstance(extension, _PROCESSED) and extension.oid != POLICY_MAPPINGS:
            oid = extension.oid.dotted_string
            raise _invalid(certificate, leaf, f"has the critical extension {oid}, which ikeclient does not process")


def _check_leaf(leaf: Certificate, purpose: Purpose) -> None:
    usage = leaf.extension(x509.KeyUsage)
    if purpose is Purpose.CRL:
        if usage and not usage.crl_sign:
            raise _invalid(leaf, leaf, "is not for signing revocation lists (keyUsage)")
        return
    if usage and not usage.digital_signature and not usage.content_commitment:
        raise _invalid(leaf, leaf, "is not for digital signatures (keyUsage)")
    extended = leaf.extension(x509.ExtendedKeyUsage)
    clients = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH} if purpose is Purpose.CLIENT_TOO else ())
    allowed = _GATEWAY_USAGES | clients
    if extended and not allowed.intersection(extended):
        raise _invalid(leaf, leaf, "is not for a gateway (extendedKeyUsage lacks serverAuth and ipsecIKE)")


def _check_authority(authority: Certificate, leaf: Certificate, below: int, *, is_anchor: bool) -> None:
    constraints = authority.extension(x509.BasicConstraints)
    if constraints is None:
        if not (is_anchor and authority.version_1):  # version 1 has no way to say that it is an authority
            raise _invalid(authority, leaf, "is not an authority (no basicConstraints), but issued another")
    elif not constraints.ca:
        raise _invalid(authority, leaf, "is not an authority (basicConstraints), but issued another")
    elif constraints.path_length is not None and below > constraints.path_length:
        raise _invalid(authority, leaf, f"allows {constraints.path_length} authorities below it, not {below}")
    usage = authority.extension(x509.KeyUsage)
    if usage and not usage.key_cert_sign:
        raise _invalid(authority, leaf, "is not for signing certificates (keyUsage), but issued another")
    # In an authority, extendedKeyUsage limits what it may issue certificates for.
    extended = authority.extension(x509.ExtendedKeyUsage)
    if extended and not _GATEWAY_USAGES.intersection(extended):
        why = "may not vouch for gateways (extendedKeyUsage lacks serverAuth and ipsecIKE), but issued another"
        raise _invalid(authority, leaf, why)


def _invalid(certificate: Certificate, leaf: Certificate, why: str, hint: str | None = None) -> _Invalid:
    return _Invalid(_refused(certificate, leaf, why, hint))


def _refused(certificate: Certificate, leaf: Certificate, why: str, hint: str | None = None) -> GatewayNotAuthenticated:
    whose = "it" if certificate is leaf else f"the certificate of {certificate.subject} in its chain"
    return GatewayNotAuthenticated("the gateway's certificate is not acceptable", reason=f"{whose} {why}", hint=hint)
