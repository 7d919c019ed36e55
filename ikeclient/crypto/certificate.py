"""One X.509 certificate, read once and completely (RFC 5280), and who it says its owner is (RFC 4945).

A certificate that parses here has no surprise left: every extension has been decoded, the key is of a kind we use, and
nothing in it raises later.
"""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from ikeclient.crypto import der
from ikeclient.crypto.identity import proves
from ikeclient.crypto.names import clause, name_text
from ikeclient.crypto.signature import PassphraseNeeded, PrivateKey, PublicKey
from ikeclient.errors import ParseError, ProfileError, SignatureError
from ikeclient.wire.registry import IdType

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_PEM = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----(.*?)-----END (?:X509 )?CERTIFICATE-----", re.DOTALL)
_MAX_LENGTH = 65535  # bytes; more than a CERT payload can hold


class Certificate:
    """An X.509 certificate; two are equal when their bytes are.

    `der` is the whole, `subject_der` and `issuer_der` are the names as encoded in it, `authority_hash` is the SHA-1 of
    its SubjectPublicKeyInfo (RFC 7296 section 3.7), `not_before` and `not_after` are in UTC.
    """

    __slots__ = (
        "_certificate",
        "_extensions",
        "authority_hash",
        "der",
        "issuer_der",
        "not_after",
        "not_before",
        "public_key",
        "subject_der",
    )

    def __init__(self, encoded: bytes) -> None:
        """Parse DER; raises ParseError."""
        if len(encoded) > _MAX_LENGTH:
            raise ParseError(f"a certificate of {len(encoded)} bytes is too long")
        try:
            with warnings.catch_warnings():
                # Odd serial numbers and over-long attributes are common, and no reason to write to stderr.
                warnings.simplefilter("ignore")
                self._certificate = x509.load_der_x509_certificate(encoded)
                self._extensions = list(self._certificate.extensions)
                self.public_key = PublicKey(self._certificate.public_key())
                self.not_before: datetime = self._certificate.not_valid_before_utc
                self.not_after: datetime = self._certificate.not_valid_after_utc
            issuer, self.subject_der, key = _names_and_key(self._certificate.tbs_certificate_bytes)
        except SignatureError as error:
            raise ParseError(f"a certificate cannot be used: {error.message}") from None
        except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
            raise ParseError(f"a certificate cannot be read: {clause(error)}") from None
        except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            raise ParseError(f"a certificate's extensions cannot be read: {clause(error)}") from None
        if _explicit_curve(key):
            raise ParseError("a certificate's key spells out its curve instead of naming it (RFC 5480 section 2.1.1)")
        self.der = encoded
        self.issuer_der = issuer
        self.authority_hash = hashlib.sha1(key, usedforsecurity=False).digest()

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
    def subject(self) -> str:
        """The subject for people, escaped."""
        return name_text(self.subject_der)

    @property
    def issuer(self) -> str:
        """The issuer for people, escaped."""
        return name_text(self.issuer_der)

    @property
    def self_issued(self) -> bool:
        """Whether subject and issuer are the same name (RFC 5280 section 6.1)."""
        return self.subject_der == self.issuer_der

    @property
    def version_1(self) -> bool:
        """Whether this is an X.509 v1 certificate, which has no extensions."""
        return self._certificate.version == x509.Version.v1

    @property
    def signature_hash(self) -> str | None:
        """The name of the hash in the issuer's signature, None where the scheme has none; raises ParseError."""
        try:
            algorithm = self._certificate.signature_hash_algorithm
        except UnsupportedAlgorithm:
            oid = self._certificate.signature_algorithm_oid.dotted_string
            raise ParseError(f"a certificate is signed with the unknown algorithm {oid}") from None
        return algorithm.name if algorithm else None

    def extension(self, kind: type[_Extension]) -> _Extension | None:
        """The extension of that type, or None."""
        return next((e.value for e in self._extensions if isinstance(e.value, kind)), None)

    def critical_extensions(self) -> list[x509.ExtensionType]:
        """Every extension marked critical."""
        return [e.value for e in self._extensions if e.critical]

    def issued_by(self, issuer: Certificate) -> bool:
        """Whether the names chain and the signature verifies; says nothing about what `issuer` may issue."""
        try:
            self._certificate.verify_directly_issued_by(issuer._certificate)
        except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
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

    def __reduce__(self) -> tuple[object, ...]:
        return Certificate, (self.der,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<Certificate {self.subject}>"


def load_pkcs12(data: bytes, password: bytes | None) -> tuple[PrivateKey, list[Certificate]]:
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
    key = PrivateKey(loaded.key)
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
        return [data] if data else []
    return [match[0] for match in _PEM.finditer(data)]


def _decoded(block: bytes) -> bytes:
    match = _PEM.fullmatch(block)
    if match is None:
        return block
    try:
        return base64.b64decode(b"".join(match[1].split()), validate=True)
    except ValueError:
        raise ParseError("a certificate's PEM is damaged") from None


def _names_and_key(certificate: bytes) -> tuple[bytes, bytes, bytes]:
    """Issuer, subject and SubjectPublicKeyInfo of a TBSCertificate, as encoded (RFC 5280 section 4.1)."""
    fields = der.only(certificate, der.SEQUENCE)
    if fields[:1] == b"\xa0":
        fields = der.element(fields)[3]  # version
    pieces = []
    for _ in range(6):  # serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo
        _, _, whole, fields = der.element(fields)
        pieces.append(whole)
    return pieces[2], pieces[4], pieces[5]


def _explicit_curve(key: bytes) -> bool:
    # Parameters of the peer's own choosing are how a key can be made to look like another's (CVE-2020-0601).
    algorithm, _ = der.content(der.only(key, der.SEQUENCE), der.SEQUENCE)
    kind, parameters = der.content(algorithm, der.OBJECT_IDENTIFIER)
    return kind == _EC_PUBLIC_KEY and parameters[:1] != bytes([der.OBJECT_IDENTIFIER])
