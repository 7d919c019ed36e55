"""What an importer fills in: a profile's tables, the files that go beside it, and what could not be carried over.

Importers read what strangers wrote. They run nothing, open nothing that a file names, and put secrets nowhere but into
attachments, which have no representation. Whatever they understand but cannot express is a warning, never silence.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal

from ikeclient.crypto.certs import Certificate
from ikeclient.errors import ProfileError
from ikeclient.profile import proposals
from ikeclient.profile.proposals import DEFAULT_ESP, DEFAULT_IKE
from ikeclient.profile.toml_text import toml_lines
from ikeclient.profile.values import Fault
from ikeclient.wire.text import printable

MAX_LENGTH = 4 << 20  # bytes of a file to import
MAX_WARNINGS = 100
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.@+-]+")
_DEFAULTS: dict[str, tuple[str, ...]] = {"ike": DEFAULT_IKE, "esp": DEFAULT_ESP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file beside the profile, called like it with another `suffix`, that the key `auth.psk` or the like names."""

    key: tuple[str, str]
    suffix: str
    data: bytes = field(repr=False)
    what: str


class Draft:
    """A profile in the making. `name` is a suggestion and may be any text."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tables: dict[str, dict[str, Any]] = {"gateway": {}, "auth": {}, "crypto": {}, "network": {}, "session": {}}
        self.attachments: list[Attachment] = []
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Note what could not be carried over; without repetition, and not without end."""
        if text not in self.warnings and len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(printable(text, 300))

    def lost(self, keys: Iterable[str], why: str = "there is no such setting here") -> None:
        """Note keys of the other format that have no counterpart."""
        for key in keys:
            self.warn(f"not carried over: {key} ({why})")

    def set(self, section: str, key: str, value: object) -> None:
        """Set a key of the profile; None leaves it at its default."""
        if value is not None:
            self.tables[section][key] = value

    def attach(self, section: str, key: str, suffix: str, data: bytes, what: str) -> None:
        """Let `section.key` name a file with this content."""
        self.attachments.append(Attachment(key=(section, key), suffix=suffix, data=data, what=what))

    def authorities(self, encoded: Sequence[bytes]) -> None:
        """Certificates, in DER or PEM, that may vouch for the gateway; damaged ones are warned about."""
        good: list[Certificate] = []
        for each in encoded:
            try:
                good += Certificate.load_many(each)
            except ProfileError as error:
                self.warn(f"a certificate cannot be used: {error.message}")
        if good:
            bundle = b"".join(pem(certificate.der) for certificate in dict.fromkeys(good))
            self.attach("gateway", "ca", "ca.pem", bundle, "the gateway's authority")

    def proposals(self, kind: Literal["ike", "esp"], texts: Sequence[str]) -> None:
        """Proposals in swanctl's keywords, those of them that we can make; `default` stands for our own."""
        kept: list[str] = []
        for text in texts:
            if text == "default":
                kept += _DEFAULTS[kind]
                continue
            try:
                proposals.check(kind, [text])
            except (Fault, ValueError) as fault:
                self.warn(f"not carried over: the {kind} proposal {text} ({fault})")
            else:
                kept.append(text)
        if texts and not kept:
            self.warn(f"no {kind} proposal is left, so ikeclient's own are offered")
        if kept:
            self.set("crypto", kind, list(dict.fromkeys(kept)))

    @property
    def slug(self) -> str:
        """The name as a file and a tunnel can have it."""
        text = _NOT_IN_NAMES.sub("-", PurePath(self.name).name or self.name).strip("-.+@")
        return text[:48].rstrip("-.") or "imported"

    def toml(self, stem: str) -> str:
        """The profile whose attachments lie beside it as `stem.suffix`."""
        return self._toml({item.key: f"{stem}.{item.suffix}" for item in self.attachments})

    def toml_alone(self) -> tuple[str, list[str]]:
        """The profile without attachments, and a warning for each of them: secrets are to be asked for."""
        warnings = [f"left out: {item.what} (import to a file, not to standard output)" for item in self.attachments]
        return self._toml({}), warnings

    def _toml(self, files: Mapping[tuple[str, str], str]) -> str:
        tables = {name: dict(table) for name, table in self.tables.items()}
        for item in self.attachments:
            section, key = item.key
            secret = key in ("psk", "password", "key_passphrase")
            if item.key not in files:
                if secret:
                    tables[section][key] = {"prompt": True}
                continue
            tables[section][key] = {"file": files[item.key]} if secret else files[item.key]
        document = {"version": 1, **{name: table for name, table in tables.items() if table}}
        return "\n".join(toml_lines(document)) + "\n"


def pem(der: bytes) -> bytes:
    """A certificate in the text form."""
    text = base64.encodebytes(der).decode().replace("\n", "")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]).encode()


def decode_base64(written: str, what: str) -> bytes:
    """Base64 with white space in it; raises ProfileError that does not quote it."""
    try:
        return base64.b64decode("".join(written.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ProfileError(f"{what} is not Base64") from None


class Fields:
    """A mapping from a stranger, read key by key with the type that is due; `rest` is what nobody asked for."""

    def __init__(self, values: object, where: str) -> None:
        """Raises ProfileError for what is no mapping with names as keys."""
        if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
            raise ProfileError(f"{where} is not what it should be: a section with keys")
        self._values: Mapping[str, object] = values
        self._where = where
        self._asked: set[str] = set()

    def _get(self, key: str, kind: type | tuple[type, ...], name: str) -> Any:
        self._asked.add(key)
        value = self._values.get(key)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise ProfileError(f"{printable(self._where, 80)}: {printable(key, 80)} should be {name}")
        return value

    def text(self, key: str) -> str | None:
        """Text; None where it is empty or missing."""
        value: str | None = self._get(key, str, "text")
        return value.strip() or None if value else None

    def secret(self, key: str) -> bytes | None:
        """Text or bytes that are not touched."""
        value: str | bytes | None = self._get(key, (str, bytes), "text")
        return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value

    def number(self, key: str) -> int | None:
        """A whole number."""
        value: int | None = self._get(key, int, "a number")
        return value

    def flag(self, key: str) -> bool | None:
        """True or false; some write 1 and 0."""
        self._asked.add(key)
        value = self._values.get(key)
        if value is not None and value not in (0, 1):
            raise ProfileError(f"{printable(self._where, 80)}: {printable(key, 80)} should be true or false")
        return None if value is None else bool(value)

    def items(self, key: str) -> list[object]:
        """A list; empty where it is missing."""
        value: list[object] | None = self._get(key, list, "a list")
        return value or []

    def part(self, key: str) -> Fields | None:
        """A section inside."""
        self._asked.add(key)
        value = self._values.get(key)
        return None if value is None else Fields(value, key)

    def ignore(self, *keys: str) -> None:
        """These mean nothing to a tunnel."""
        self._asked.update(keys)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def rest(self) -> list[str]:
        """The keys that were not asked for, sorted."""
        return sorted(printable(key, 80) for key in self._values if key not in self._asked)
