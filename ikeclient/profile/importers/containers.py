"""What is inside DER: PKCS#12 containers with our key and perhaps authorities, and signed messages (CMS).

Signatures on profiles are not verified: the user decides whom to trust. Who claims to have signed is told.
"""

from __future__ import annotations

import itertools

from ikeclient.crypto.pki.trust_store import Certificate, load_pkcs12
from ikeclient.crypto.sign.file_key import PassphraseNeeded
from ikeclient.errors import ParseError, ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.importers.draft import Ask, Draft

SIGNED_DATA = bytes.fromhex("2a864886f70d010702")  # 1.2.840.113549.1.7.2, RFC 5652 section 5
MAX_ROUNDS = 10_000_000  # a few seconds
_INTEGER, _OCTET_STRING, _CONSTRUCTED_STRING = 0x02, 0x04, 0x24
_MAX_DEPTH = 16
_MAX_ELEMENTS = 20_000
_MAX_CERTIFICATES = 32


def open_bundle(draft: Draft, data: bytes, passphrase: bytes | None, ask: Ask | None) -> list[Certificate]:
    """The certificates of our PKCS#12 file; its authorities become `gateway.ca` if nothing else does.

    The passphrase is asked for only if it is needed to find out whom to trust.
    """
    trusted = draft.has("gateway", "ca")
    try:
        chain = _chain(data, passphrase, None if trusted else ask)
    except PassphraseNeeded:
        if not trusted:
            draft.risk(
                "our PKCS#12 file may hold the gateway's authority, which cannot be seen without its passphrase: "
                "gateway.ca is not set, so all public authorities are trusted; import it on a terminal, or give --ca"
            )
        return []
    except ProfileError as error:
        draft.warn(f"our PKCS#12 file cannot be read: {error.message}")
        return []
    authorities = [certificate.der for certificate in chain[1:] if certificate.is_authority]
    if authorities and not trusted:
        draft.authorities(authorities)
    return chain


def _chain(data: bytes, passphrase: bytes | None, ask: Ask | None) -> list[Certificate]:
    if _rounds(memoryview(data), 0) > MAX_ROUNDS:
        raise ProfileError(f"its passphrase is hashed more than {MAX_ROUNDS} times")
    attempts: list[bytes | None] = [passphrase] if passphrase else [None, b""]
    for attempt in attempts:
        try:
            return load_pkcs12(data, attempt)[1]
        except PassphraseNeeded:
            continue
    if ask is None or passphrase:
        raise PassphraseNeeded("the PKCS#12 file needs a passphrase")
    try:
        typed = ask("Passphrase of the PKCS#12 file: ")
    except EOFError:
        typed = ""
    if not typed:
        raise PassphraseNeeded("the PKCS#12 file needs a passphrase")
    return load_pkcs12(data, typed.encode("utf-8", "surrogateescape"))[1]


def _rounds(data: memoryview, depth: int) -> int:
    """The largest number that stands behind a salt: how often a passphrase is hashed (RFC 7292, RFC 8018)."""
    try:
        elements = _elements(data)
    except ParseError:
        return 0
    found = 0
    for (first, _), (second, number) in itertools.pairwise(elements):
        if first == _OCTET_STRING and second == _INTEGER:
            found = max(found, int.from_bytes(number[:16]))
    for tag, inner in elements:
        if depth < _MAX_DEPTH and (tag & 0x20 or tag == _OCTET_STRING):
            found = max(found, _rounds(inner, depth + 1))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The content of a signed message, and the subject of the certificate that comes with it, if one can be read."""

    content: bytes
    signer: str | None


def is_signed(data: bytes) -> bool:
    """Whether DER or BER starts as signed data does."""
    return data[:1] == b"\x30" and SIGNED_DATA in data[:32]


def unwrap(data: bytes) -> Signed:
    """Take the content out of a signed message (RFC 5652), DER or BER. Raises ProfileError."""
    try:
        outer = _elements(memoryview(data))[0][1]
        explicit = _elements(outer)[1][1]
        parts = _elements(_elements(explicit)[0][1])
        content = _octets(_elements(parts[2][1])[1][1], 0)
        certificates = next((inner for tag, inner in parts[3:] if tag == 0xA0), memoryview(b""))
        signer = _signer(certificates, parts[-1][1])
    except (IndexError, ParseError):
        raise ProfileError("this signed message is damaged, or holds no content") from None
    return Signed(content=content, signer=signer)


def _signer(certificates: memoryview, infos: memoryview) -> str | None:
    """The subject of the certificate whose serial number the first signature names."""
    try:
        info = _elements(_elements(infos)[0][1])
        serial = bytes(_elements(info[1][1])[1][1])
        for _ in range(_MAX_CERTIFICATES):
            if not certificates:
                break
            _, inner, rest = _element(certificates, 0)
            whole = certificates[: len(certificates) - len(rest)]
            fields = _elements(_elements(inner)[0][1])
            own = fields[1][1] if fields[0][0] == 0xA0 else fields[0][1]
            if own == serial:
                return Certificate.from_der(bytes(whole)).subject
            certificates = rest
    except (IndexError, ParseError):
        pass
    return None


def _element(data: memoryview, depth: int) -> tuple[int, memoryview, memoryview]:
    """Tag, content and what follows of the first element; lengths may be indefinite, tags have one byte."""
    if depth > _MAX_DEPTH or len(data) < 2 or data[0] & 0x1F == 0x1F:
        raise ParseError("not BER")
    tag, first = data[0], data[1]
    if first == 0x80:
        if not tag & 0x20:
            raise ParseError("an indefinite length needs a constructed element")
        rest = data[2:]
        for _ in range(_MAX_ELEMENTS):
            if bytes(rest[:2]) == b"\0\0":
                return tag, data[2 : len(data) - len(rest)], rest[2:]
            _, _, rest = _element(rest, depth + 1)
        raise ParseError("too many elements")
    start, length = 2, first
    if first > 0x80:
        start = 2 + (first & 0x7F)
        if start > 6 or len(data) < start:
            raise ParseError("a length is too long")
        length = int.from_bytes(data[2:start])
    if len(data) < start + length:
        raise ParseError("truncated")
    return tag, data[start : start + length], data[start + length :]


def _elements(data: memoryview) -> list[tuple[int, memoryview]]:
    found = []
    while data:
        tag, inner, data = _element(data, 0)
        found.append((tag, inner))
        if len(found) > _MAX_ELEMENTS:
            raise ParseError("too many elements")
    return found


def _octets(data: memoryview, depth: int) -> bytes:
    """An OCTET STRING inside its explicit tag, in one piece or in several."""
    if depth > _MAX_DEPTH:
        raise ParseError("nested too deeply")
    return b"".join(
        bytes(inner) if tag == _OCTET_STRING else _octets(inner, depth + 1) if tag == _CONSTRUCTED_STRING else b""
        for tag, inner in _elements(data)
    )
