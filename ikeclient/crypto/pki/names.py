"""Distinguished names: how they look to people, and when two are the same (RFC 5280 section 7.1).

They are handled as DER, because an ID_DER_ASN1_DN payload is compared with what stands in a certificate. Two names are
the same when their attributes are, whatever string type, case, spacing and form of Unicode they are written in.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TypeAlias

from ikeclient.crypto.pki import der
from ikeclient.errors import ParseError
from ikeclient.wire.text import printable

_EMAIL_ADDRESS = "2a864886f70d010901"
_TYPES: dict[str, str] = {  # object identifiers as the hex of their DER content
    "550403": "CN",
    "550404": "SN",
    "550405": "serialNumber",
    "550406": "C",
    "550407": "L",
    "550408": "ST",
    "550409": "street",
    "55040a": "O",
    "55040b": "OU",
    "55040c": "title",
    "55042a": "GN",
    "0992268993f22c640101": "UID",
    "0992268993f22c640119": "DC",
    _EMAIL_ADDRESS: "emailAddress",
}
_ENCODINGS: dict[int, str] = {
    0x0C: "utf-8",
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, as everybody reads it
    0x16: "ascii",  # IA5String
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
_UTF8_STRING, _PRINTABLE_STRING, _IA5_STRING = 0x0C, 0x13, 0x16
_UNDECODED = "\udc00"  # no decoded string holds a lone surrogate, so that none equals an undecodable value
_MAX_COMPOSED = 256  # characters; to put marks into order takes time that grows with the square (RFC 5280: 64 at most)

Attribute: TypeAlias = tuple[str, str]
NormalName: TypeAlias = tuple[frozenset[Attribute], ...]


def clause(error: Exception) -> str:
    """What the cryptographic library says in `error`, to go into a text of ours: one line without a full stop."""
    said, _, _ = str(error).partition(": ParseError {")  # which is for those who write the library
    return printable(said).removesuffix(".")


def normalise(name: bytes) -> NormalName:
    """A DER Name as a value that is equal for equal names. Raises ParseError."""
    return tuple(frozenset((oid, _prepared(value)) for oid, value in relative) for relative in _relative_names(name))


def _prepared(value: str) -> str:
    """A string as it is compared (RFC 4518 section 2): letters may be composed in several ways, and some are unseen."""
    if not value.isascii() and len(value) <= _MAX_COMPOSED:
        seen = "".join(character for character in value if unicodedata.category(character) != "Cf")
        value = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return " ".join(value.split()).casefold()


def name_key(name: bytes) -> NormalName | bytes:
    """A DER Name as the key of a dictionary: equal for equal names, and the bytes themselves if they are no Name."""
    try:
        return normalise(name)
    except ParseError:
        return name


def same_name(first: bytes, second: bytes) -> bool:
    """Whether two DER Names name the same thing; bytes that are no Name equal nothing but themselves."""
    return first == second or name_key(first) == name_key(second)


def name_text(name: bytes) -> str:
    """A DER Name in the order it is encoded, as in `C=CH, O=Example, CN=vpn.example.com`, escaped for printing."""
    try:
        relatives = _relative_names(name)
    except ParseError:
        return f"#{name[:64].hex()}"
    return printable(", ".join("+".join(_attribute_text(*attribute) for attribute in r) for r in relatives))


def mailboxes(name: bytes) -> list[str]:
    """The emailAddress attributes of a DER Name. Raises ParseError."""
    return [value for relative in _relative_names(name) for oid, value in relative if oid == _EMAIL_ADDRESS]


def encode_name(text: str) -> bytes:
    """The DER Name that `text` writes in the form of `name_text`. Raises ParseError where it is not in that form.

    A comma, plus or backslash inside a value is written with a backslash in front.
    """
    relatives = []
    for piece in re.split(r"(?<!\\),", text):
        attributes = []
        for pair in re.split(r"(?<!\\)\+", piece):
            type_name, separator, value = pair.partition("=")
            oid = _OIDS.get(type_name.strip().lower())
            value = re.sub(r"\\(.)", r"\1", value.strip())
            if not separator or oid is None or not value:
                raise ParseError(f"{printable(pair.strip())!r} is not an attribute of a distinguished name")
            attributes.append(
                der.encode(
                    der.SEQUENCE,
                    der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex(oid)) + der.encode(_tag(oid), value.encode()),
                )
            )
        relatives.append(der.encode(der.SET, b"".join(sorted(attributes))))
    return der.encode(der.SEQUENCE, b"".join(relatives))


_OIDS = {name.lower(): oid for oid, name in _TYPES.items()} | {"e": _EMAIL_ADDRESS, "s": "550408"}


def _tag(oid: str) -> int:
    match _TYPES[oid]:
        case "C" | "serialNumber":
            return _PRINTABLE_STRING
        case "DC" | "emailAddress":
            return _IA5_STRING
    return _UTF8_STRING


def _attribute_text(oid: str, value: str) -> str:
    escaped = re.sub(r"([,+\\])", r"\\\1", value.removeprefix(_UNDECODED))
    return f"{_TYPES.get(oid, oid)}={escaped}"


def _relative_names(name: bytes) -> list[list[Attribute]]:
    """Name ::= SEQUENCE OF SET OF SEQUENCE { type OBJECT IDENTIFIER, value ANY }."""
    relatives = []
    for tag, relative in der.elements(der.only(name, der.SEQUENCE)):
        if tag != der.SET or not relative:
            raise ParseError("a distinguished name is made of non-empty sets")
        attributes = []
        for pair_tag, pair in der.elements(relative):
            if pair_tag != der.SEQUENCE:
                raise ParseError("an attribute of a distinguished name is a sequence")
            oid, rest = der.content(pair, der.OBJECT_IDENTIFIER)
            value_tag, value, _, rest = der.element(rest)
            if rest:
                raise ParseError("an attribute of a distinguished name has one value")
            attributes.append((oid.hex(), _decode(value_tag, value)))
        relatives.append(attributes)
    return relatives


def _decode(tag: int, value: bytes) -> str:
    try:
        return value.decode(_ENCODINGS[tag])
    except (KeyError, UnicodeDecodeError):
        return f"{_UNDECODED}#{tag:02x}{value.hex()}"
