"""Certificates in the other forms that RFC 7296 section 3.6 has: PKCS#7, and a hash with a URL.

A set has no order, so whose certificate is the gateway's own is found out by what they say (`certificate.own_first`).
Nothing here proves anything: whatever comes out is judged as if it had come as plain X.509. A URL is a stranger's; the
hash that stands before it is SHA-1, which tells what was meant from damage and no more.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from ikeclient.crypto.pki import der
from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass

MAX_BUNDLE = 1 << 17  # bytes
MAX_MEMBERS = 32  # certificates and lists of a bundle
HASH_LENGTH = 20
MAX_URLS = 8
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_CONTEXT_0, _CONTEXT_1 = 0xA0, 0xA1


class CertificateForm(StrEnum):
    """Forms of certificates that are read only if the profile allows it (RFC 7296 section 3.6)."""

    PKCS7 = "pkcs7"
    HASH_AND_URL = "hash-and-url"


class HashAndUrl(NamedTuple):
    """The SHA-1 of what a URL leads to, and the URL, as they came; a `bundle` is of certificates and lists."""

    hash: bytes
    url: str
    bundle: bool

    def fits(self, content: bytes) -> bool:
        """Whether this is what was meant."""
        return hmac.compare_digest(hashlib.sha1(content, usedforsecurity=False).digest(), self.hash)


@dataclass(frozen=True, slots=True)
class CertificateUrls:
    """Where an unproven gateway says that its certificates are, in order."""

    places: tuple[HashAndUrl, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedCertificates:
    """What was found at each place, None for nothing; `problems` say why."""

    contents: tuple[bytes | None, ...]
    problems: tuple[str, ...] = ()


class Bundle(NamedTuple):
    """Certificates and revocation lists as they are encoded."""

    certificates: tuple[bytes, ...]
    lists: tuple[bytes, ...]


def read_hash_and_url(data: bytes, *, bundle: bool) -> HashAndUrl:
    """Read what a CERT payload of encoding 12 or 13 holds. Raises ParseError."""
    try:
        url = data[HASH_LENGTH:].decode("ascii")
    except UnicodeDecodeError:
        raise ParseError("the URL of a certificate is not ASCII") from None
    if not url:
        raise ParseError("a certificate by hash and URL without a URL")
    return HashAndUrl(data[:HASH_LENGTH], url, bundle)


def read_pkcs7(encoded: bytes) -> Bundle:
    """Take the certificates and lists out of a SignedData (RFC 2315 section 9.1). Raises ParseError.

    Its content and its signatures are not looked at.
    """
    _check_length(encoded)
    kind, rest = der.content(der.only(encoded, der.SEQUENCE), der.OBJECT_IDENTIFIER)
    if kind != _SIGNED_DATA:
        raise ParseError("a PKCS#7 bundle is of another type than signedData")
    fields = der.only(der.only(rest, _CONTEXT_0), der.SEQUENCE)
    for tag in (der.INTEGER, der.SET, der.SEQUENCE):  # version, digestAlgorithms, contentInfo
        _, fields = der.content(fields, tag)
    found: dict[int, list[bytes]] = {_CONTEXT_0: [], _CONTEXT_1: []}
    for tag, inner in der.elements(fields):
        if tag in found:
            found[tag] += (der.encode(kind, member) for kind, member in _members(inner) if kind == der.SEQUENCE)
    return Bundle(tuple(found[_CONTEXT_0]), tuple(found[_CONTEXT_1]))


def read_bundle(encoded: bytes) -> Bundle:
    """Read a CertBundle: members tagged as certificates or lists (RFC 7296 section 3.6). Raises ParseError."""
    _check_length(encoded)
    members = list(_members(der.only(encoded, der.SEQUENCE)))
    if any(tag not in (_CONTEXT_0, _CONTEXT_1) for tag, _ in members):
        raise ParseError("a bundle holds something else than certificates and revocation lists")
    certificates = tuple(inner for tag, inner in members if tag == _CONTEXT_0)
    return Bundle(certificates, tuple(inner for tag, inner in members if tag == _CONTEXT_1))


def _members(data: bytes) -> Iterator[tuple[int, bytes]]:
    for count, member in enumerate(der.elements(data)):
        if count == MAX_MEMBERS:
            raise ParseError("a bundle has too many members")
        yield member


def _check_length(encoded: bytes) -> None:
    if len(encoded) > MAX_BUNDLE:
        raise ParseError(f"a bundle of {len(encoded)} bytes is too long")
