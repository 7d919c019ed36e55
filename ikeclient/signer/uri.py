"""PKCS#11 URIs (RFC 7512): which token and which object a profile means.

Attributes that are not known are refused rather than ignored: one that was meant to tell two keys apart must not be
overlooked. The PIN's place is the profile's business, so `pin-value` and `pin-source` are refused in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from ikeclient.lazy_dataclass import dataclass

MAX_LENGTH = 2048
_TEXTS = ("token", "manufacturer", "serial", "model", "object", "slot-description", "slot-manufacturer")
_LIBRARY = ("library-manufacturer", "library-description", "library-version")
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&/?|-]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUri:
    """What a PKCS#11 URI says: `texts` by attribute, the object's `id`, the slot's number and the module.

    What is not given matches everything.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    id: bytes | None = None
    slot: int | None = None
    module: str | None = None

    def says(self, attribute: str, value: str) -> bool:
        """Whether `value` is what the URI says, or it says nothing; PKCS#11 pads values with spaces."""
        wanted = self.texts.get(attribute)
        return wanted is None or wanted == value.rstrip(" \0")

    def __str__(self) -> str:
        """Name what is looked for, for people."""
        token, thing = self.texts.get("token"), self.texts.get("object")
        which = f" {thing!r}" if thing else f" with id {self.id.hex()}" if self.id is not None else ""
        return f"key{which} on token {token!r}" if token else f"key{which}"


def parse_uri(written: str) -> TokenUri:
    """Return what a PKCS#11 URI says. Raises ValueError, whose text goes on "the URI ..."."""
    if len(written) > MAX_LENGTH:
        raise ValueError(f"has {len(written)} characters, at most {MAX_LENGTH} are possible")
    scheme, colon, rest = written.partition(":")
    if not colon or scheme.lower() != "pkcs11":
        raise ValueError("must begin with `pkcs11:`, as in pkcs11:token=work;object=vpn")
    path, _, query = rest.partition("?")
    given = _attributes(path, ";")
    texts: dict[str, str] = {}
    for name, value in given.items():
        if name in _TEXTS:
            texts[name] = _text(name, value)
        elif name == "type":
            if value not in (b"private", b"cert", b"public"):
                raise ValueError("has a `type` other than private")
        elif name not in ("id", "slot-id", *_LIBRARY):
            raise ValueError(f"has the attribute {name!r}, which is not known")
    slot = given.get("slot-id")
    if slot is not None and not (slot.isdigit() and len(slot) <= 20):
        raise ValueError("has a `slot-id` that is not a number")
    module: str | None = None
    for name, value in _attributes(query, "&").items():
        if name in ("pin-value", "pin-source"):
            raise ValueError(
                f"has a {name}: say where the PIN is with `pin` beside it, as in pin = {{ prompt = true }}"
            )
        if name not in ("module-path", "module-name"):
            raise ValueError(f"has the attribute {name!r}, which is not known")
        text = _text(name, value)
        module = text if name == "module-path" else module or f"{text}.so"
    return TokenUri(texts=texts, id=given.get("id"), slot=int(slot) if slot is not None else None, module=module)


def _attributes(part: str, separator: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for piece in part.split(separator) if part else ():
        name, equals, value = piece.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ValueError("has a part that is not `attribute=value`")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"has a character in `{name}` that must be percent-encoded")
        if name in found:
            raise ValueError(f"has the attribute `{name}` twice")
        found[name] = _PERCENT.sub(lambda match: bytes([int(match[1], 16)]), value.encode())
    return found


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"has a `{name}` that is not UTF-8") from None
    if "\0" in text or not text.isprintable():
        raise ValueError(f"has a `{name}` with control characters")
    return text
