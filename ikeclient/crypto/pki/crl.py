"""Revocation lists: complete and delta CRLs, and which certificates they speak about (RFC 5280 sections 5 and 6.3).

A list may have hundreds of thousands of entries, and nothing about them is needed but one: so the library parses a copy
without them, the signature is checked over the bytes as they came, and an entry is looked for as the bytes that its
serial number must have. Only if these are found, or an entry has a critical extension, are the entries walked through.

Indirect lists, which speak about certificates of other issuers, are not used, and neither are lists for attribute
certificates. A list that has a critical extension which is not processed says nothing about anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509

from ikeclient.crypto.library import contained
from ikeclient.crypto.pki import der
from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.pki.names import name_key, name_text
from ikeclient.crypto.sign.schemes import parse_algorithm_identifier
from ikeclient.crypto.sign.signature import PublicKey
from ikeclient.errors import ParseError, SignatureError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import HashAlgorithm

MAX_LENGTH = 16 << 20  # bytes
MAX_POINTS = 16  # distribution points of one certificate that are looked at
SLACK = timedelta(minutes=5)  # how wrong clocks may be

NOT_LISTED = "no revocation list is for it"
ALL_REASONS = frozenset(x509.ReasonFlags) - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}
_CRITICAL = b"\x01\x01\xff"  # BOOLEAN TRUE
_PROCESSED = (x509.IssuingDistributionPoint, x509.DeltaCRLIndicator, x509.CRLNumber, x509.AuthorityKeyIdentifier)
_REMOVED = "removeFromCRL"
_REASONS = {
    0: "unspecified",
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    6: "certificateHold",
    8: _REMOVED,
    9: "privilegeWithdrawn",
    10: "aACompromise",
}
_REASON_CODE = bytes.fromhex("551d15")


class Point(NamedTuple):
    """A distribution point of a certificate: the names that a list must have, and for which reasons (None: all)."""

    names: frozenset[object]
    reasons: frozenset[x509.ReasonFlags] | None
    indirect: bool
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a list says about one certificate."""

    reason: str
    date: str


class Crl:
    """One list. Nothing in it counts before `verify` and `problem` were asked."""

    __slots__ = (
        "_algorithm",
        "_entries",
        "_parsed",
        "_point",
        "_signature",
        "_signed",
        "base",
        "issuer_key",
        "next_update",
        "number",
        "this_update",
    )

    def __init__(self, encoded: bytes) -> None:
        """Parse DER; raises ParseError."""
        if len(encoded) > MAX_LENGTH:
            raise ParseError(f"a revocation list of {len(encoded)} bytes is too long")
        whole = der.only(encoded, der.SEQUENCE)
        _, tbs, self._signed, rest = der.element(whole)
        _, _, self._algorithm, rest = der.element(rest)
        bits = der.only(rest, der.BIT_STRING)
        if bits[:1] != b"\0":
            raise ParseError("a signature has whole bytes")
        self._signature = bits[1:]
        kept, self._entries, issuer = _without_entries(tbs)
        head = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, kept) + self._algorithm + rest)
        with contained(ParseError, "a revocation list cannot be read"):
            self._parsed = x509.load_der_x509_crl(head)
            self.this_update, self.next_update = self._parsed.last_update_utc, self._parsed.next_update_utc
            extensions = list(self._parsed.extensions)
            found = {type(each.value): each.value for each in extensions}
            point = found.get(x509.IssuingDistributionPoint)
            self._point = point if isinstance(point, x509.IssuingDistributionPoint) else None
            number, delta = found.get(x509.CRLNumber), found.get(x509.DeltaCRLIndicator)
            self.number = number.crl_number if isinstance(number, x509.CRLNumber) else None
            self.base = delta.crl_number if isinstance(delta, x509.DeltaCRLIndicator) else None
        self.issuer_key = name_key(issuer)

    @property
    def issuer(self) -> str:
        """The issuer for people, escaped."""
        return name_text(self._parsed.issuer.public_bytes())

    @property
    def scope(self) -> object:
        """What must be equal in a delta and the complete list that it belongs to (RFC 5280 section 5.2.4, c)."""
        return self.issuer_key, self._point

    def problem(self, now: datetime) -> str | None:
        """Why the list is not to be used at this time, or at all; None if it may be."""
        for extension in self._parsed.extensions:
            if extension.critical and not isinstance(extension.value, _PROCESSED):
                oid = extension.oid.dotted_string
                return f"the revocation list has the critical extension {oid}, which is not processed"
        if self._point is not None and self._point.indirect_crl:
            return "the revocation list is an indirect one, which is not supported"
        if self._point is not None and self._point.only_contains_attribute_certs:
            return "the revocation list is for attribute certificates"
        if self.next_update is None:
            return "the revocation list does not say when the next one is due"
        if now + SLACK < self.this_update:
            return f"the revocation list is from the future ({self.this_update:%Y-%m-%d %H:%M}Z)"
        if now - SLACK > self.next_update:
            return f"the revocation list is out of date since {self.next_update:%Y-%m-%d %H:%M}Z"
        if _CRITICAL in self._entries and any(critical for _, _, critical in self._walk()):
            return "the revocation list has an entry with a critical extension, which is not processed"
        return None

    def verify(self, key: PublicKey) -> None:
        """Raise SignatureError unless the list is signed with the private half of `key`."""
        inner = der.element(self._signed_fields())[2]
        if inner != self._algorithm:  # only the inner one is signed
            raise SignatureError("the revocation list names two different signature algorithms")
        scheme = parse_algorithm_identifier(self._algorithm)
        if scheme.hash == HashAlgorithm.SHA1:
            raise SignatureError(f"the revocation list is signed with {scheme}, which is too weak")
        key.check(scheme, self._signature, self._signed)

    def _signed_fields(self) -> bytes:
        fields = der.only(self._signed, der.SEQUENCE)
        return der.element(fields)[3] if fields[:1] == bytes([der.INTEGER]) else fields  # version

    def reasons(self, certificate: Certificate, points: Sequence[Point]) -> frozenset[x509.ReasonFlags]:
        """The reasons for which the list speaks about a certificate with these points; none if it does not."""
        if self.issuer_key != certificate.issuer_key:
            return frozenset()
        own = self._point
        if own is None:
            covered: set[x509.ReasonFlags] = set()
            for point in points:
                covered |= ALL_REASONS if point.reasons is None else point.reasons
            return frozenset(covered)
        if own.only_contains_ca_certs and not certificate.is_authority:
            return frozenset()
        if own.only_contains_user_certs and certificate.is_authority:
            return frozenset()
        names = _names(own.full_name, own.relative_name, lambda: self._parsed.issuer)
        found: set[x509.ReasonFlags] = set()
        for point in points:
            if names and not names & point.names:
                continue
            reasons = ALL_REASONS if point.reasons is None else point.reasons
            found |= reasons if own.only_some_reasons is None else reasons & own.only_some_reasons
        return frozenset(found)

    def entry(self, certificate: Certificate) -> Entry | None:
        """The entry of a certificate of this issuer. Raises ParseError if the entries are malformed."""
        wanted = certificate.encoded_serial
        if wanted not in self._entries:
            return None
        for serial, rest, _ in self._walk():
            if serial == wanted:
                return _entry(rest)
        return None

    def _walk(self) -> Iterator[tuple[bytes, bytes, bool]]:
        """The serial number, the rest, and whether an extension is critical, of every entry. Raises ParseError."""
        for tag, entry in der.elements(self._entries):
            if tag != der.SEQUENCE:
                raise ParseError("an entry of a revocation list is a sequence")
            _, _, serial, rest = der.element(entry)
            yield serial, rest, _CRITICAL in rest and any(critical for _, critical, _ in _extensions(rest))


def _without_entries(tbs: bytes) -> tuple[bytes, bytes, bytes]:
    """The fields of a list but its entries, the entries, and the issuer (RFC 5280 section 5.1.2)."""
    kept = b""
    rest = tbs
    if rest[:1] == bytes([der.INTEGER]):
        _, _, kept, rest = der.element(rest)
    issuer = b""
    for number in range(3):  # signature, issuer, thisUpdate
        _, _, piece, rest = der.element(rest)
        issuer = piece if number == 1 else issuer
        kept += piece
    if rest[:1] in (bytes([der.UTC_TIME]), bytes([der.GENERALIZED_TIME])):
        _, _, piece, rest = der.element(rest)
        kept += piece
    entries = b""
    if rest[:1] == bytes([der.SEQUENCE]):
        _, entries, _, rest = der.element(rest)
    return kept + rest, entries, issuer


def _extensions(rest: bytes) -> Iterator[tuple[bytes, bool, bytes]]:
    """Identifier, criticality and value of what follows an entry's serial number."""
    _, _, _, rest = der.element(rest)  # revocationDate
    if not rest:
        return
    for _, extension in der.elements(der.only(rest, der.SEQUENCE)):
        oid, left = der.content(extension, der.OBJECT_IDENTIFIER)
        critical = left[:1] == bytes([der.BOOLEAN])
        if critical:
            _, flag, _, left = der.element(left)
            critical = flag != b"\0"
        yield oid, critical, der.only(left, der.OCTET_STRING)


def _entry(rest: bytes) -> Entry:
    date = der.element(rest)[1].decode("ascii", "replace")
    reason = "unspecified"
    for oid, _, value in _extensions(rest):
        if oid == _REASON_CODE:
            code = der.only(value, der.ENUMERATED)
            reason = _REASONS.get(int.from_bytes(code), f"unknown, {code[:8].hex()}")
    return Entry(reason=reason, date=_day(date))


def _day(time: str) -> str:
    """The day of a UTCTime or GeneralizedTime, for people."""
    digits = time.removesuffix("Z")
    if not digits.isdigit() or len(digits) not in (12, 14):
        return "an unknown day"
    if len(digits) == 12:
        digits = ("19" if digits >= "50" else "20") + digits
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}"


def _names(
    full: Sequence[x509.GeneralName] | None,
    relative: x509.RelativeDistinguishedName | None,
    issuer: Callable[[], x509.Name],
) -> frozenset[object]:
    """The names of a distribution point as values that are equal for equal names."""
    if relative is not None:
        return frozenset({_directory(x509.Name([*issuer().rdns, relative]))})
    return frozenset(
        _directory(each.value) if isinstance(each, x509.DirectoryName) else each for each in (full or ())[:MAX_POINTS]
    )


def _issuer_name(certificate: Certificate) -> x509.Name:
    return x509.load_der_x509_certificate(certificate.der).issuer


def _directory(name: x509.Name) -> object:
    return name_key(name.public_bytes())


def points(certificate: Certificate) -> tuple[Point, ...]:
    """The distribution points of a certificate; without the extension, one named like its issuer (section 6.3.3)."""
    extension = certificate.extension(x509.CRLDistributionPoints)
    issuer = Point(frozenset({certificate.issuer_key}), None, indirect=False)
    if extension is None:
        return (issuer,)
    found = []
    for each in list(extension)[:MAX_POINTS]:
        directories = [n.value for n in each.crl_issuer or () if isinstance(n, x509.DirectoryName)]
        keys = {_directory(name) for name in directories}
        names = _names(each.full_name, each.relative_name, lambda: _issuer_name(certificate))
        indirect = bool(keys) and certificate.issuer_key not in keys
        found.append(Point(names or frozenset(keys), each.reasons, indirect, tuple(_urls(each.full_name))))
    return tuple(point for point in found if not point.indirect)


def delta_urls(certificate: Certificate) -> tuple[str, ...]:
    """Where the certificate says that delta lists are."""
    extension = certificate.extension(x509.FreshestCRL)
    return tuple(url for each in list(extension or ())[:MAX_POINTS] for url in _urls(each.full_name))


def _urls(names: Sequence[x509.GeneralName] | None) -> Iterator[str]:
    for name in names or ():
        if isinstance(name, x509.UniformResourceIdentifier) and name.value.lower().startswith("http://"):
            yield name.value


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlVerdict:
    """What lists say about a certificate: revoked, good until then, or neither and why."""

    revoked: Entry | None = None
    until: datetime | None = None
    problem: str = ""


def judge(
    certificate: Certificate, lists: Sequence[Crl], now: datetime, signed: Callable[[Crl], str | None]
) -> CrlVerdict:
    """What `lists` say about a certificate (RFC 5280 section 6.3.3).

    `signed` says why a list is not signed by who may sign it, None if it is.
    """
    its_points = points(certificate)
    if not its_points:
        return CrlVerdict(problem="its revocation list is an indirect one, which is not supported")
    usable: list[tuple[Crl, frozenset[x509.ReasonFlags]]] = []
    problem = ""
    for each in lists:
        reasons = each.reasons(certificate, its_points)
        why = NOT_LISTED if not reasons else each.problem(now) or signed(each)
        if why is None:
            usable.append((each, reasons))
        elif reasons or not problem:
            problem = why
    covered: set[x509.ReasonFlags] = set()
    until: datetime | None = None
    held: Entry | None = None
    for complete, reasons in usable:
        if complete.base is not None:
            continue
        entry, latest = complete.entry(certificate), complete
        for delta, _ in usable:
            if _completes(delta, complete) and (delta.number or 0) >= (latest.number or 0):
                entry, latest = delta.entry(certificate) or entry, delta
        if entry is not None and entry.reason != _REMOVED:
            held = held or entry
        covered |= reasons
        assert latest.next_update is not None
        until = latest.next_update if until is None else min(until, latest.next_update)
    if held is not None:
        return CrlVerdict(revoked=held)
    if covered >= ALL_REASONS:
        return CrlVerdict(until=until)
    return CrlVerdict(problem="the revocation lists do not cover every reason" if covered else problem)


def _completes(delta: Crl, complete: Crl) -> bool:
    """Whether a delta may be put on top of a complete list (RFC 5280 section 5.2.4)."""
    if delta.base is None or delta.number is None or complete.number is None or delta.scope != complete.scope:
        return False
    return delta.base <= complete.number <= delta.number
