"""DNS messages, as far as a stub resolver needs them (RFC 1035): questions for addresses, and answers to them.

An answer is whatever a stranger sends, so names are bounded in length, and a compressed name only leads backwards.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass

LONGEST_NAME = 253
_HEADER = 12
_RESPONSE, _TRUNCATED, _RECURSION = 0x8000, 0x0200, 0x0100
_OPCODE, _RCODE = 0x7800, 0x000F
_IN = 1
_MOST_RECORDS = 256
_header = Struct(">6H")
_record = Struct(">HHIH")
_two = Struct(">HH")


class Type(IntEnum):
    """Kinds of records."""

    A = 1
    CNAME = 5
    SOA = 6
    AAAA = 28


class Code(IntEnum):
    """Response codes that mean something here; every other one is a failure of the server."""

    NO_ERROR = 0
    NO_NAME = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record: an address as packed bytes, the target of a CNAME, or of SOA how long its absence may be believed."""

    name: str
    type: int
    ttl: int
    address: bytes = b""
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer; names are in lower case. `answers` is the answer section, `negative_ttl` is None without an SOA."""

    identifier: int
    name: str
    type: int
    code: int
    truncated: bool
    answers: tuple[Record, ...]
    negative_ttl: int | None


def encode_name(name: str) -> bytes:
    """The labels of a name. Raises ValueError for what is no name."""
    encoded = b""
    for label in name.rstrip(".").split("."):
        text = label.encode("ascii") if label.isascii() else label.encode("idna")
        if not 0 < len(text) < 64:
            raise ValueError(f"not a name: {name!r}")
        encoded += bytes((len(text),)) + text
    if len(encoded) > LONGEST_NAME + 1:
        raise ValueError(f"too long for a name: {name!r}")
    return encoded + b"\0"


def query(identifier: int, name: str, kind: Type) -> bytes:
    """A question. Raises ValueError for what is no name."""
    return _header.pack(identifier, _RECURSION, 1, 0, 0, 0) + encode_name(name) + _two.pack(kind, _IN)


def parse_response(data: bytes) -> Response:
    """Read an answer to one question. Raises ParseError."""
    try:
        return _parse(data)
    except (IndexError, ValueError) as error:
        raise ParseError("not an answer of a name server") from error


def _parse(data: bytes) -> Response:
    if len(data) < _HEADER:
        raise ValueError("too short")
    identifier, flags, questions, answers, authorities, _ = _header.unpack_from(data)
    if not flags & _RESPONSE or flags & _OPCODE or questions != 1 or answers + authorities > _MOST_RECORDS:
        raise ValueError("not an answer")
    name, at = _read_name(data, _HEADER)
    kind, network = _read(data, at, _two)
    if network != _IN:
        raise ValueError("another class")
    at += _two.size
    truncated = bool(flags & _TRUNCATED)
    found: list[Record] = []
    negative: int | None = None
    for number in range(0 if truncated else answers + authorities):
        record, at = _read_record(data, at)
        if record is None:
            continue
        if number < answers:
            found.append(record)
        elif record.type == Type.SOA:
            negative = record.ttl
    return Response(
        identifier=identifier,
        name=name,
        type=kind,
        code=flags & _RCODE,
        truncated=truncated,
        answers=tuple(found),
        negative_ttl=negative,
    )


def _read(data: bytes, at: int, form: Struct) -> tuple[int, ...]:
    if at + form.size > len(data):
        raise ValueError("cut short")
    return form.unpack_from(data, at)


def _read_record(data: bytes, at: int) -> tuple[Record | None, int]:
    """One record and where the next one begins; None for one that does not matter here."""
    name, at = _read_name(data, at)
    kind, network, ttl, length = _read(data, at, _record)
    at += _record.size
    end = at + length
    if end > len(data):
        raise ValueError("cut short")
    ttl = 0 if ttl >> 31 else ttl  # RFC 2181 section 8
    if network != _IN:
        return None, end
    match kind:
        case Type.A | Type.AAAA:
            if length != (4 if kind == Type.A else 16):
                raise ValueError("an address of another length")
            return Record(name=name, type=kind, ttl=ttl, address=data[at:end]), end
        case Type.CNAME:
            target, behind = _read_name(data, at)
            if behind != end:
                raise ValueError("a name of another length")
            return Record(name=name, type=kind, ttl=ttl, target=target), end
        case Type.SOA if length >= 20:
            minimum = int.from_bytes(data[end - 4 : end], "big")
            return Record(name=name, type=kind, ttl=min(ttl, minimum)), end  # RFC 2308 section 5
    return None, end


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    """A name in lower case, and what follows it."""
    labels: list[str] = []
    behind, size, limit = -1, 0, at
    while length := data[at]:
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | data[at + 1]
            if behind < 0:
                behind = at + 2
            if target >= limit:
                raise ValueError("a name that leads forwards")
            at = limit = target
            continue
        if length > 63 or at + 1 + length > len(data):
            raise ValueError("not a label")
        size += length + 1
        if size > LONGEST_NAME + 1:
            raise ValueError("a name that is too long")
        labels.append(data[at + 1 : at + 1 + length].decode("latin-1").lower().replace(".", "\\."))
        at += 1 + length
    return ".".join(labels), at + 1 if behind < 0 else behind
