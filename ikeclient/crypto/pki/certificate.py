"""One X.509 certificate, read once and completely (RFC 5280), and who it says its owner is (RFC 4945).

A certificate that parses here has no surprise left: every extension has been decoded, the key is of a kind we use, and
nothing in it raises later.
"""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from ikeclient.crypto.library import contained
from ikeclient.crypto.pki import der
from ikeclient.crypto.pki.identity import proves
from ikeclient.crypto.pki.name_constraints import Subtrees, certificate_names
from ikeclient.crypto.pki.names import clause, name_key, name_text
from ikeclient.crypto.sign.file_key import FileKey, PassphraseNeeded
from ikeclient.crypto.sign.signature import CertificateSignature, PublicKey, pss_signature
from ikeclient.errors import ParseError, ProfileError, SignatureError
from ikeclient.wire.registry import IdType

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_PEM = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----(.*?)-----END (?:X509 )?CERTIFICATE-----", re.DOTALL)
POLICY_MAPPINGS = x509.ObjectIdentifier("2.5.29.33")
SOON = timedelta(days=14)  # before its end a certificate is warned about
_MAX_LENGTH = 65535  # bytes; more than a CERT payload can hold


class Validity(NamedTuple):
    """From when until when a certificate holds, in UTC, both included (RFC 5280 section 4.1.2.5)."""

    start: datetime
    end: datetime

    def __contains__(self, now: object) -> bool:
        return isinstance(now, datetime) and self.start <= now <= self.end

    def ends_soon(self, now: datetime) -> str | None:
        """When it ends in words that follow "the certificate", if that is in less than 14 days; else None."""
        left = self.end - now
        if not timedelta() <= left < SOON:
            return None
        return f"expires at {self.end:%Y-%m-%d %H:%M} UTC, in {left.days} days"


class Certificate:
    """An X.509 certificate; two are equal when their bytes are.

    `der` is the whole, `subject_der` and `issuer_der` are the names as encoded in it, `subject_key` and `issuer_key`
    what to look them up by (RFC 5280 section 7.1), `names` and `subtrees` what name constraints are about,
    `authority_hash` is the SHA-1 of its SubjectPublicKeyInfo (RFC 7296 section 3.7). `signature_problem` says why the
    issuer's signature cannot be verified; a trust anchor may have such a problem.
    """

    __slots__ = (
        "_extensions",
        "_signature",
        "authority_hash",
        "der",
        "issuer_der",
        "issuer_key",
        "names",
        "public_key",
        "signature_problem",
        "subject_der",
        "subject_key",
        "subtrees",
        "validity",
        "version_1",
    )

    def __init__(self, encoded: bytes) -> None:
        """Parse DER; raises ParseError."""
        if len(encoded) > _MAX_LENGTH:
            raise ParseError(f"a certificate of {len(encoded)} bytes is too long")
        with contained(ParseError, "a certificate cannot be read"), warnings.catch_warnings():
            # Odd serial numbers and over-long attributes are common, and no reason to write to stderr.
            warnings.simplefilter("ignore")
            parsed = x509.load_der_x509_certificate(encoded)
            fields = _Fields.of(encoded)
            self.version_1 = parsed.version == x509.Version.v1
            self.validity = Validity(parsed.not_valid_before_utc, parsed.not_valid_after_utc)
            try:
                self._extensions = tuple(parsed.extensions)
            except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
                raise ParseError(f"a certificate's extensions cannot be read: {clause(error)}") from None
            try:
                self.public_key = PublicKey(parsed.public_key())
            except SignatureError as error:
                raise ParseError(f"a certificate cannot be used: {error.message}") from None
            self._signature, self.signature_problem = _signature(parsed, fields)
            self.names = certificate_names(self.extension(x509.SubjectAlternativeName), fields.subject)
            constraints = self.extension(x509.NameConstraints)
            self.subtrees = Subtrees.of(constraints) if constraints else None
            _policy_mappings(self._extensions)
        if _explicit_curve(fields.key):
            raise ParseError("a certificate's key spells out its curve instead of naming it (RFC 5480 section 2.1.1)")
        self.der = encoded
        self.issuer_der, self.subject_der = fields.issuer, fields.subject
        self.issuer_key, self.subject_key = name_key(fields.issuer), name_key(fields.subject)
        self.authority_hash = hashlib.sha1(fields.key, usedforsecurity=False).digest()

    @classmethod
    def from_der(cls, encoded: bytes) -> Certificate:
        """The certificate in a CERT payload; raises ParseError."""
        return cls(encoded)

    @classmethod
    def load_many(cls, data: bytes, problems: list[str] | None = None) -> list[Certificate]:
        """Every certificate of a file: PEM blocks with anything between them, or one in DER.

        A block that cannot be read is left out and described in `problems`. Raises ProfileError where none is left.
        """
        found: list[Certificate] = []
        trouble: list[str] = []
        for block in _blocks(data):
            try:
                found.append(cls(_decoded(block)))
            except ParseError as error:
                trouble.append(error.message)
        if not found:
            reason = trouble[0] if trouble else "it holds neither PEM nor DER"
            raise ProfileError("there is no certificate that can be read in that file", reason=reason)
        if problems is not None:
            problems += trouble
        return found

    @property
    def signature_hash(self) -> str | None:
        """The name of the hash in the issuer's signature, None if the scheme has none."""
        return self._signature.hash_name if self._signature else None

    @property
    def subject(self) -> str:
        """The subject for people, escaped."""
        return name_text(self.subject_der)

    @property
    def serial(self) -> str:
        """The serial number, in hexadecimal."""
        return f"{int.from_bytes(der.only(self.encoded_serial, der.INTEGER), 'big'):x}"

    @property
    def encoded_serial(self) -> bytes:
        """The serial number as the DER element that revocation lists have as well."""
        return _Fields.of(self.der).encoded_serial

    @property
    def key_bits(self) -> bytes:
        """The public key without its algorithm, which responders of OCSP are known by (RFC 6960 section 4.1.1)."""
        _, rest = der.content(der.only(_Fields.of(self.der).key, der.SEQUENCE), der.SEQUENCE)
        return der.only(rest, der.BIT_STRING)[1:]

    @property
    def issuer(self) -> str:
        """The issuer for people, escaped."""
        return name_text(self.issuer_der)

    @property
    def self_issued(self) -> bool:
        """Whether subject and issuer are the same name (RFC 5280 section 6.1)."""
        return self.subject_key == self.issuer_key

    @property
    def is_authority(self) -> bool:
        """Whether the certificate says that its owner may issue others; a self-issued one of version 1 says nothing."""
        constraints = self.extension(x509.BasicConstraints)
        return constraints.ca if constraints is not None else self.version_1 and self.self_issued

    @property
    def policy_mappings(self) -> tuple[tuple[str, str], ...]:
        """Pairs of policies as dotted strings: the issuer's, and the subject's that counts as the same."""
        return _policy_mappings(self._extensions)

    @property
    def may_sign_lists(self) -> bool:
        """Whether its keyUsage allows to sign revocation lists; without the extension everything is allowed."""
        usage = self.extension(x509.KeyUsage)
        return usage is None or usage.crl_sign

    def extension(self, kind: type[_Extension]) -> _Extension | None:
        """The extension of that type, or None."""
        return next((e.value for e in self._extensions if isinstance(e.value, kind)), None)

    def critical_extensions(self) -> list[x509.ExtensionType]:
        """Every extension marked critical."""
        return [e.value for e in self._extensions if e.critical]

    def issued_by(self, issuer: Certificate) -> bool:
        """Whether the names chain and the signature verifies; says nothing about what `issuer` may issue."""
        if self._signature is None or self.issuer_key != issuer.subject_key:
            return False
        try:
            self._signature.verify(issuer.public_key)
        except SignatureError:
            return False
        return True

    def identities(self) -> list[tuple[IdType, bytes]]:
        """Every identity the certificate proves: its subjectAltNames of the kinds IKE uses, then its subject."""
        found: list[tuple[IdType, bytes]] = []
        for name in self.extension(x509.SubjectAlternativeName) or ():
            match name:
                case x509.DNSName():
                    found.append((IdType.FQDN, name.value.encode()))
                case x509.RFC822Name():
                    found.append((IdType.RFC822_ADDR, name.value.encode()))
                case x509.IPAddress():
                    if isinstance(name.value, IPv4Address):
                        found.append((IdType.IPV4_ADDR, name.value.packed))
                    elif isinstance(name.value, IPv6Address):
                        found.append((IdType.IPV6_ADDR, name.value.packed))
        if self.subject_der != _EMPTY_NAME:
            found.append((IdType.DER_ASN1_DN, self.subject_der))
        return found

    def matches(self, id_type: IdType, value: bytes) -> bool:
        """Whether the certificate proves the identity of an ID payload with that type and data."""
        return any(proves(offered_type, offered, id_type, value) for offered_type, offered in self.identities())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<Certificate {self.subject}>"


def own_first(certificates: Sequence[bytes], wanted: tuple[IdType, bytes] | None) -> list[bytes]:
    """A set's members with the gateway's own certificate at the front: one that proves `wanted`, and no authority."""
    return sorted(certificates, key=lambda each: _rank(each, wanted))


def _rank(encoded: bytes, wanted: tuple[IdType, bytes] | None) -> tuple[bool, bool]:
    try:
        certificate = Certificate.from_der(encoded)
    except ParseError:
        return True, True
    return wanted is not None and not certificate.matches(*wanted), certificate.is_authority


def load_pkcs12(data: bytes, password: bytes | None) -> tuple[FileKey, list[Certificate]]:
    """The key of a PKCS#12 file and its certificates, the key's own first; raises ProfileError.

    It is PassphraseNeeded where there is no `password` and one may help: damage and encryption look alike.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = pkcs12.load_pkcs12(data, password)
    except UnsupportedAlgorithm as error:
        hint = "export it again with AES, for example with `openssl pkcs12 -export`"
        raise ProfileError(
            "the PKCS#12 file is protected in an unsupported way",
            reason=f"the cryptographic library says: {clause(error)}",
            hint=hint,
        ) from None
    except (ValueError, TypeError):
        if password:
            raise ProfileError("the PKCS#12 password is wrong, or the file is damaged") from None
        raise PassphraseNeeded("the PKCS#12 file is damaged or needs a password") from None
    if loaded.key is None:
        raise ProfileError("the PKCS#12 file holds no private key")
    key = FileKey(loaded.key)
    encoded = [_encoded(entry) for entry in (loaded.cert, *loaded.additional_certs) if entry]
    try:
        certificates = [Certificate(each) for each in encoded]
    except ParseError as error:
        raise ProfileError("a certificate in the PKCS#12 file cannot be used", reason=error.message) from None
    own = [certificate for certificate in certificates if certificate.public_key == key.public_key]
    if not own:
        raise ProfileError("the PKCS#12 file holds no certificate for its private key")
    return key, own[:1] + [certificate for certificate in certificates if certificate != own[0]]


_EMPTY_NAME = b"\x30\x00"
_EC_PUBLIC_KEY = bytes.fromhex("2a8648ce3d0201")


def _encoded(entry: pkcs12.PKCS12Certificate) -> bytes:
    return entry.certificate.public_bytes(Encoding.DER)


def _blocks(data: bytes) -> list[bytes]:
    if b"-----BEGIN " not in data:
        return [data] if data.startswith(b"\x30") else []
    found = []
    position = 0
    while (start := data.find(b"-----BEGIN ", position)) >= 0:
        end = data.find(b"-----END ", start)
        stop = data.find(b"-----", end + 9) if end >= 0 else -1
        if stop < 0:
            break
        position = stop + 5
        start = data.rfind(b"-----BEGIN ", start, end)  # the last one: what comes before it has no end
        if _PEM.fullmatch(data, start, position):
            found.append(data[start:position])
    return found


def _decoded(block: bytes) -> bytes:
    match = _PEM.fullmatch(block)
    if match is None:
        return block
    try:
        return base64.b64decode(b"".join(match[1].split()), validate=True)
    except ValueError:
        raise ParseError("a certificate's PEM is damaged") from None


class _Fields(NamedTuple):
    """Pieces of a certificate as they are encoded (RFC 5280 section 4.1)."""

    encoded_serial: bytes
    inner_algorithm: bytes
    issuer: bytes
    subject: bytes
    key: bytes
    outer_algorithm: bytes

    @classmethod
    def of(cls, encoded: bytes) -> _Fields:
        """Take a certificate apart; raises ParseError."""
        fields, rest = der.content(der.only(encoded, der.SEQUENCE), der.SEQUENCE)
        if fields[:1] == b"\xa0":
            fields = der.element(fields)[3]  # version
        pieces = []
        for _ in range(6):  # serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo
            _, _, whole, fields = der.element(fields)
            pieces.append(whole)
        der.only(pieces[0], der.INTEGER)
        return cls(pieces[0], pieces[1], pieces[2], pieces[4], pieces[5], der.element(rest)[2])


def _signature(parsed: x509.Certificate, fields: _Fields) -> tuple[CertificateSignature | None, str | None]:
    """The issuer's signature, or why it cannot be verified. Raises ParseError for malformed parameters."""
    if fields.inner_algorithm != fields.outer_algorithm:  # only the inner one is signed (section 4.1.1.2)
        return None, "names two different signature algorithms"
    signed, signature = parsed.tbs_certificate_bytes, parsed.signature
    try:
        if parsed.signature_algorithm_oid == x509.SignatureAlgorithmOID.RSASSA_PSS:
            return pss_signature(fields.inner_algorithm, signed, signature), None
        how, digest = parsed.signature_algorithm_parameters, parsed.signature_hash_algorithm
    except SignatureError as error:
        return None, f"has a signature that is not accepted: {error.message}"
    except UnsupportedAlgorithm:
        return None, f"is signed with the unknown algorithm {parsed.signature_algorithm_oid.dotted_string}"
    return CertificateSignature(how=how, hash=digest, signed=signed, signature=signature), None


def _policy_mappings(extensions: Iterable[x509.Extension[x509.ExtensionType]]) -> tuple[tuple[str, str], ...]:
    """The pairs of policyMappings: policy of the issuer, policy of the subject. Raises ParseError."""
    found = next((e.value for e in extensions if e.oid == POLICY_MAPPINGS), None)
    if not isinstance(found, x509.UnrecognizedExtension):
        return ()
    pairs = []
    for tag, pair in der.elements(der.only(found.value, der.SEQUENCE)):
        if tag != der.SEQUENCE:
            raise ParseError("a policy mapping is a pair")
        issuer, rest = der.content(pair, der.OBJECT_IDENTIFIER)
        pairs.append((der.dotted(issuer), der.dotted(der.only(rest, der.OBJECT_IDENTIFIER))))
    if not pairs:
        raise ParseError("policyMappings is empty")
    return tuple(pairs)


def _explicit_curve(key: bytes) -> bool:
    # Parameters of the peer's own choosing are how a key can be made to look like another's (CVE-2020-0601).
    algorithm, _ = der.content(der.only(key, der.SEQUENCE), der.SEQUENCE)
    kind, parameters = der.content(algorithm, der.OBJECT_IDENTIFIER)
    return kind == _EC_PUBLIC_KEY and parameters[:1] != bytes([der.OBJECT_IDENTIFIER])
