"""Certification paths: finding one from the gateway's certificate to a trust anchor, and what makes it valid.

RFC 5280 section 6, without policies and without revocation. What the gateway sends is a heap that may hold loops,
strangers and hundreds of look-alikes, so the search is bounded three times: in the certificates it looks at, in the
length of a path, and in the signatures it is willing to verify.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ikeclient.crypto.certificate import Certificate
from ikeclient.crypto.name_constraints import violation
from ikeclient.errors import GatewayNotAuthenticated, ParseError

MAX_CERTIFICATES = 32
MAX_DEPTH = 10  # certificates in a path, both ends included
MAX_SIGNATURES = 64

_HASHES = frozenset({"sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512", None})
_PROCESSED = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.NameConstraints,
    x509.CertificatePolicies,  # any policy is acceptable to us
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


def find_path(
    leaf: Certificate,
    others: Sequence[Certificate],
    anchors: Sequence[Certificate],
    now: datetime,
    allow_client_only_eku: bool,
) -> tuple[Certificate, ...]:
    """A valid path from `leaf` to one of `anchors`, both included.

    Raises GatewayNotAuthenticated with what is wrong with the first complete path, or with where the search ended.
    """
    search = _Search(others, anchors)
    failure: GatewayNotAuthenticated | None = None
    for path in search.paths((leaf,)):
        try:
            _check_path(path, now, allow_client_only_eku)
        except GatewayNotAuthenticated as error:
            failure = failure or error
        else:
            return path
    raise failure or search.dead_end(leaf)


class _Search:
    """A depth-first search with a budget of signatures."""

    def __init__(self, others: Sequence[Certificate], anchors: Sequence[Certificate]) -> None:
        self._anchors: dict[bytes, list[Certificate]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.subject_der, []).append(anchor)
        self._others: dict[bytes, list[Certificate]] = {}
        for other in list(dict.fromkeys(others))[:MAX_CERTIFICATES]:
            self._others.setdefault(other.subject_der, []).append(other)
        self._verified: dict[tuple[bytes, bytes], bool] = {}
        self._deepest: tuple[Certificate, ...] = ()
        self._forged: set[Certificate] = set()

    def paths(self, path: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        """Every path that starts with `path` and ends at an anchor."""
        last = path[-1]
        if len(path) == 1 and last in self._anchors.get(last.subject_der, ()):
            yield path  # the profile names this very certificate
            return
        if len(path) > len(self._deepest):
            self._deepest = path
        if len(path) == MAX_DEPTH:
            return
        for anchor in self._anchors.get(last.issuer_der, ()):
            if self._issued(last, anchor):
                yield (*path, anchor)
        used = {(certificate.subject_der, certificate.public_key) for certificate in path}
        for other in self._others.get(last.issuer_der, ()):
            if (other.subject_der, other.public_key) not in used and self._issued(last, other):
                yield from self.paths((*path, other))

    def dead_end(self, leaf: Certificate) -> GatewayNotAuthenticated:
        """What to say when no path reached an anchor."""
        end = self._deepest[-1]
        if len(self._verified) >= MAX_SIGNATURES or len(self._deepest) == MAX_DEPTH:
            why = "the certificates it sent are too many or form too long a chain"
            return GatewayNotAuthenticated("the gateway's certificate could not be checked", reason=why)
        if end in self._forged and (weak := _weak_hash(end)):
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
        pair = (subject.der, issuer.der)
        if pair not in self._verified:
            if len(self._verified) >= MAX_SIGNATURES:
                return False
            self._verified[pair] = subject.issued_by(issuer)
            if not self._verified[pair]:
                self._forged.add(subject)
        return self._verified[pair]


def _check_path(path: tuple[Certificate, ...], now: datetime, allow_client_only_eku: bool) -> None:
    leaf, *authorities = path
    for certificate in path:
        _check_common(certificate, leaf, now)
    for certificate in path[:-1]:  # the anchor's own signature proves nothing
        if weak := _weak_hash(certificate):
            raise _refused(certificate, leaf, weak)
    _check_leaf(leaf, allow_client_only_eku)
    below = 0  # authorities between this one and the leaf, not counting those issued by themselves
    for position, authority in enumerate(authorities, start=1):
        _check_authority(authority, leaf, below, is_anchor=position == len(path) - 1)
        _check_names(authority, path[:position])
        below += not authority.self_issued


def _weak_hash(certificate: Certificate) -> str | None:
    try:
        algorithm = certificate.signature_hash
    except ParseError as error:
        return f"cannot be checked: {error.message}"
    return None if algorithm in _HASHES else f"is signed with {algorithm}, which is too weak"


def _check_common(certificate: Certificate, leaf: Certificate, now: datetime) -> None:
    if certificate.public_key.weakness:
        raise _refused(certificate, leaf, f"cannot be trusted: {certificate.public_key.weakness}")
    clock = now.isoformat(sep=" ", timespec="seconds")
    hint = f"this machine's clock says {clock}; if that is wrong, correct it, if not, tell the gateway's administrator"
    if now > certificate.not_after:
        end = certificate.not_after.astimezone(now.tzinfo).isoformat(sep=" ", timespec="seconds")
        raise _refused(certificate, leaf, f"expired at {end}", hint)
    if now < certificate.not_before:
        start = certificate.not_before.astimezone(now.tzinfo).isoformat(sep=" ", timespec="seconds")
        raise _refused(certificate, leaf, f"is not valid before {start}", hint)
    for extension in certificate.critical_extensions():
        if not isinstance(extension, _PROCESSED):
            oid = extension.oid.dotted_string
            raise _refused(certificate, leaf, f"has the critical extension {oid}, which ikeclient does not process")


def _check_leaf(leaf: Certificate, allow_client_only_eku: bool) -> None:
    usage = leaf.extension(x509.KeyUsage)
    if usage and not usage.digital_signature and not usage.content_commitment:
        raise _refused(leaf, leaf, "is not for digital signatures (keyUsage)")
    extended = leaf.extension(x509.ExtendedKeyUsage)
    allowed = _GATEWAY_USAGES | {ExtendedKeyUsageOID.CLIENT_AUTH} if allow_client_only_eku else _GATEWAY_USAGES
    if extended and not allowed.intersection(extended):
        raise _refused(leaf, leaf, "is not for a gateway (extendedKeyUsage lacks serverAuth and ipsecIKE)")


def _check_authority(authority: Certificate, leaf: Certificate, below: int, *, is_anchor: bool) -> None:
    constraints = authority.extension(x509.BasicConstraints)
    if constraints is None:
        if not (is_anchor and authority.version_1):  # version 1 has no way to say that it is an authority
            raise _refused(authority, leaf, "is not an authority (no basicConstraints), but issued another")
    elif not constraints.ca:
        raise _refused(authority, leaf, "is not an authority (basicConstraints), but issued another")
    elif constraints.path_length is not None and below > constraints.path_length:
        raise _refused(authority, leaf, f"allows {constraints.path_length} authorities below it, not {below}")
    usage = authority.extension(x509.KeyUsage)
    if usage and not usage.key_cert_sign:
        raise _refused(authority, leaf, "is not for signing certificates (keyUsage), but issued another")


def _check_names(authority: Certificate, below: tuple[Certificate, ...]) -> None:
    constraints = authority.extension(x509.NameConstraints)
    if constraints is None:
        return
    for certificate in below:
        if certificate.self_issued and certificate is not below[0]:
            continue
        if found := violation(constraints, certificate):
            raise _refused(certificate, below[0], f"breaks the name constraints of {authority.subject}: {found}")


def _refused(certificate: Certificate, leaf: Certificate, why: str, hint: str | None = None) -> GatewayNotAuthenticated:
    whose = "it" if certificate is leaf else f"the certificate of {certificate.subject} in its chain"
    return GatewayNotAuthenticated("the gateway's certificate is not acceptable", reason=f"{whose} {why}", hint=hint)
