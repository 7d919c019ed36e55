"""A reader of DER, for the few structures whose exact bytes matter to us: names and algorithm identifiers.

It is strict (X.690 section 10): lengths are definite and minimal, tags have one byte. Everything else in certificates
and keys is parsed by `cryptography`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ikeclient.errors import ParseError

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
ENUMERATED = 0x0A
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

_LONGEST_IDENTIFIER = 64  # bytes; what `cryptography` reads is a little shorter


def element(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Split off the first element: its tag, its content, all its bytes, and what follows it. Raises ParseError."""
    tag, start, end = _span(data, 0)
    return tag, data[start:end], data[:end], data[end:]


def _span(data: bytes, at: int) -> tuple[int, int, int]:
    """The tag of the element that begins at `at`, and where its content begins and ends."""
    if len(data) < at + 2:
        raise ParseError("truncated DER element")
    tag, first = data[at], data[at + 1]
    if tag & 0x1F == 0x1F:
        raise ParseError("DER tag of more than one byte")
    start, length = at + 2, first
    if first >= 0x80:
        digits = start
        start += first & 0x7F
        length = int.from_bytes(data[digits:start])
        if not 0x81 <= first <= 0x84 or len(data) < start or length < 0x80 or data[digits] == 0:
            raise ParseError("DER length is indefinite, too long or not minimal")
    end = start + length
    if len(data) < end:
        raise ParseError("truncated DER element")
    return tag, start, end


def content(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element, which must have `tag`, and what follows it. Raises ParseError."""
    found, inner, _, rest = element(data)
    if found != tag:
        raise ParseError(f"DER tag {found:#04x} where {tag:#04x} belongs")
    return inner, rest


def only(data: bytes, tag: int) -> bytes:
    """The content of the element `tag` that is all of `data`. Raises ParseError."""
    inner, rest = content(data, tag)
    if rest:
        raise ParseError(f"{len(rest)} bytes follow a DER element that should be the last")
    return inner


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of every element of `data`. Raises ParseError."""
    at = 0
    while at < len(data):
        tag, start, at = _span(data, at)
        yield tag, data[start:at]


def integer(data: bytes) -> int:
    """The value of an INTEGER's content. Raises ParseError unless it is not negative and minimally encoded."""
    if not data or data[0] & 0x80 or (len(data) > 1 and data[0] == 0 and not data[1] & 0x80):
        raise ParseError("DER INTEGER is negative or not minimal")
    return int.from_bytes(data)


def dotted(data: bytes) -> str:
    """The text of an OBJECT IDENTIFIER's content, of at most 64 bytes. Raises ParseError."""
    if len(data) > _LONGEST_IDENTIFIER:
        raise ParseError("a DER OBJECT IDENTIFIER is too long")
    arcs = [0]
    for position, octet in enumerate(data):
        if octet == 0x80 and (position == 0 or not data[position - 1] & 0x80):
            raise ParseError("DER OBJECT IDENTIFIER is not minimal")
        arcs[-1] = arcs[-1] << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(0)
    if len(arcs) < 2 or data[-1] & 0x80:
        raise ParseError("truncated DER OBJECT IDENTIFIER")
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:-1])))


def encode(tag: int, inner: bytes) -> bytes:
    """One element around `inner`."""
    if len(inner) < 0x80:
        return bytes([tag, len(inner)]) + inner
    length = len(inner).to_bytes((len(inner).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + inner


def integer_element(number: int) -> bytes:
    """An INTEGER with its tag and length."""
    return encode(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, signed=True))
