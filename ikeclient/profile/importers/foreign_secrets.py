"""Secrets of swanctl.conf and ipsec.secrets: who owns them, and how they are written.

In swanctl.conf `0x` starts hexadecimal and `0s` Base64, quoted or not. In ipsec.secrets quoted text is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import NamedTuple

from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.importers.conf import Section
from ikeclient.profile.importers.draft import decode_base64
from ikeclient.profile.importers.identities import AnyIdentity, read_identity
from ikeclient.profile.importers.neighbours import Neighbours
from ikeclient.wire.text import printable

MAX_LINES = 10_000
MAX_DEPTH = 4
_WORD = re.compile(r'"(?P<double>[^"\n]*)"|\'(?P<single>[^\'\n]*)\'|(?P<plain>[^\s"\']+)')
_KIND = re.compile(r":\s*(PSK|RSA|ECDSA|BLISS|PKCS8|PRIV|EAP|XAUTH|P12|NTLM|PIN|PPKS?)(?=\s|[\"'{]|\Z)", re.IGNORECASE)
_SMARTCARD = re.compile(r"%smartcard(?P<slot>\d{0,20})(?:@(?P<module>[\w.+/-]{1,200}))?:(?P<id>[0-9A-Fa-fx:]{1,200})")
_SECTION = re.compile(r"(ike|eap|xauth|private|rsa|ecdsa|pkcs8|pkcs12|token|ntlm|ppk)(?![a-z])")
_KEYS = {"rsa", "ecdsa", "bliss", "pkcs8", "priv", "private"}


class TokenPlace(NamedTuple):
    """A key or a certificate on a PKCS#11 token: its CKA_ID, the slot, and strongSwan's name of the module."""

    id: bytes
    slot: str | None = None
    module: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignSecret:
    """One secret of `kind` psk, eap, key, p12, ppk or token.

    `file` is what a key or container is in; `value` is decoded. With a token the value is its PIN, and `place` is where
    on it the key is.
    """

    kind: str
    owners: tuple[str, ...] = ()
    file: str | None = None
    value: bytes | None = field(default=None, repr=False)
    place: TokenPlace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFile:
    """The secrets of one file, and what in it could not be used."""

    secrets: tuple[ForeignSecret, ...] = ()
    warnings: tuple[str, ...] = ()

    def of(self, kind: str, owners: Sequence[str]) -> bytes | None:
        """The secret that belongs to most of `owners`, else the one that belongs to all."""
        best: tuple[int, bytes | None] = (0, None)
        wanted = {_plain(owner) for owner in owners if owner}
        for secret in self.secrets:
            if secret.kind != kind or secret.value is None:
                continue
            matches = sum(_plain(owner) in wanted or _plain(owner) == "%any" for owner in secret.owners)
            rank = matches + 1 if matches else 1 if not secret.owners else 0
            if rank > best[0]:
                best = (rank, secret.value)
        return best[1]

    def tokens(self) -> list[ForeignSecret]:
        """The keys on tokens."""
        return [secret for secret in self.secrets if secret.kind == "token" and secret.place is not None]

    def files(self, kind: str) -> list[ForeignSecret]:
        """The keys or containers that are named."""
        return [secret for secret in self.secrets if secret.kind == kind and secret.file]


def read_handle(written: str, slot: str | None = None, module: str | None = None) -> TokenPlace:
    """A CKA_ID in hexadecimal as strongSwan writes it, with or without `0x` and colons. Raises ProfileError."""
    digits = written.strip().removeprefix("0x").replace(":", "")
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        raise ProfileError(f"the handle {printable(written, 40)} of a key on a token is not hexadecimal") from None
    if not found:
        raise ProfileError("a key on a token has no handle, which is its CKA_ID")
    return TokenPlace(found, slot if slot and slot.isdigit() and len(slot) <= 20 else None, module or None)


def read_smartcard(written: str) -> TokenPlace | None:
    """`%smartcard[SLOT[@MODULE]]:KEYID` of ipsec.conf and ipsec.secrets, None for others. Raises ProfileError."""
    match = _SMARTCARD.fullmatch(written.strip())
    return None if match is None else read_handle(match["id"], match["slot"], match["module"])


def _plain(owner: str) -> str:
    try:
        found = read_identity(owner)
    except ProfileError:
        return owner
    return "%any" if isinstance(found, AnyIdentity) else found


def swanctl_secrets(section: Section) -> SecretFile:
    """The `secrets` section of a swanctl.conf. Raises ProfileError."""
    found: list[ForeignSecret] = []
    warnings: list[str] = []
    for name, entry in section.sections.items():
        match = _SECTION.match(name)
        kind = match[1] if match else ""
        owners = tuple(value for key, value in entry.values.items() if key.startswith("id"))
        written = entry.values.get("secret")
        value = None if written is None else _decoded(written)
        file = entry.values.get("file")
        match kind:
            case "ike":
                found.append(ForeignSecret(kind="psk", owners=owners, value=value))
            case "eap" | "xauth":
                found.append(ForeignSecret(kind="eap", owners=owners, value=value))
            case "private" | "rsa" | "ecdsa" | "pkcs8":
                found.append(ForeignSecret(kind="key", file=file, value=value))
            case "pkcs12":
                found.append(ForeignSecret(kind="p12", file=file, value=value))
            case "ppk":
                found.append(ForeignSecret(kind="ppk", owners=owners, value=value))
            case "token" if "handle" in entry.values:
                place = read_handle(entry.values["handle"], entry.values.get("slot"), entry.values.get("module"))
                pin = entry.values.get("pin")
                found.append(ForeignSecret(kind="token", value=None if pin is None else pin.encode(), place=place))
            case "token":
                warnings.append(f"not carried over: the secret {printable(name, 80)} (it has no handle)")
            case "ntlm":
                warnings.append(f"not carried over: the secret {name} (a password is needed, not its hash)")
            case _:
                warnings.append(f"not carried over: the secret {printable(name, 80)}")
    return SecretFile(secrets=tuple(found), warnings=tuple(warnings))


def _decoded(secret: str) -> bytes:
    if secret.startswith("0s"):
        return decode_base64(secret[2:], "a secret after 0s")
    if secret.startswith("0x"):
        try:
            return bytes.fromhex(secret[2:])
        except ValueError:
            raise ProfileError("a secret after 0x is not hexadecimal") from None
    return secret.encode()


def is_ipsec_secrets(text: str) -> bool:
    """Whether a text is an ipsec.secrets file."""
    return any(_KIND.search(line.partition("#")[0]) for line in text.splitlines()[:MAX_LINES])


def ipsec_secrets(text: str, place: Neighbours | None = None, depth: int = 0) -> SecretFile:
    """The secrets of an ipsec.secrets file and of those of `place` that it includes. Raises ProfileError."""
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise ProfileError(f"the secrets have more than {MAX_LINES} lines")
    found: list[ForeignSecret] = []
    warnings: list[str] = []
    for entry in _entries(lines):
        if entry.split(None, 1)[0] == "include":
            pattern = entry.split(None, 1)[1].strip().strip('"') if " " in entry.strip() or "\t" in entry else ""
            names = place.matching(pattern) if place is not None and depth < MAX_DEPTH else []
            if not names:
                warnings.append(f"not read: include {printable(pattern, 80)} of ipsec.secrets")
            for name in names:
                inner = ipsec_secrets((place.read(name) or b"").decode("utf-8", "replace"), place, depth + 1)  # type: ignore[union-attr]
                found += inner.secrets
                warnings += inner.warnings
            continue
        secret = _entry(entry, warnings)
        if secret is not None:
            found.append(secret)
    return SecretFile(secrets=tuple(found), warnings=tuple(warnings))


def _entries(lines: Iterable[str]) -> list[str]:
    """Entries without comments; a line that starts with white space goes on with the one before."""
    entries: list[str] = []
    for line in lines:
        line = _without_comment(line)
        if not line.strip():
            continue
        if line[0].isspace() and entries and not entries[-1].startswith("include"):
            entries[-1] += " " + line.strip()
        else:
            entries.append(line.strip())
    return entries


def _without_comment(line: str) -> str:
    quote = ""
    for position, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "#" and (position == 0 or line[position - 1].isspace()):
            return line[:position].rstrip()
    return line.rstrip()


def _entry(entry: str, warnings: list[str]) -> ForeignSecret | None:
    """`[selectors] : KIND ...`; the kind tells the colon from those of addresses and prefixes."""
    match = _KIND.search(entry)
    if match is None:
        warnings.append("a line of ipsec.secrets is not understood")
        return None
    owners = tuple(_value(word)[0] for word in _WORD.finditer(entry[: match.start()]))
    kind = match[1].lower()
    words = [_value(word) for word in _WORD.finditer(entry[match.end() :])]
    match kind:
        case "psk" | "eap" | "xauth":
            value = _secret(*words[0]) if words else None
            return ForeignSecret(kind="psk" if kind == "psk" else "eap", owners=owners, value=value)
        case "p12":
            passphrase = _passphrase(words[1:])
            return ForeignSecret(kind="p12", file=words[0][0] if words else None, value=passphrase)
        case "pin" if words and (place := read_smartcard(words[0][0])) is not None:
            return ForeignSecret(kind="token", value=_passphrase(words[1:]), place=place)
        case "ppk" | "ppks" if len(words) > 1:
            return ForeignSecret(kind="ppk", owners=(words[0][0],), value=_secret(*words[1]))
        case _ if kind in _KEYS and words and words[0][0] != "{":
            return ForeignSecret(kind="key", file=words[0][0], value=_passphrase(words[1:]))
    warnings.append(f"not carried over: a secret of the kind {printable(kind.upper(), 20)}")
    return None


def _value(word: re.Match[str]) -> tuple[str, bool]:
    """A word, and whether it was in quotes."""
    for name in ("double", "single"):
        if word[name] is not None:
            return word[name], True
    return word["plain"], False


def _secret(word: str, quoted: bool) -> bytes:
    if quoted:
        return word.encode()
    return word[2:].encode() if word.startswith("0t") else _decoded(word)


def _passphrase(words: Sequence[tuple[str, bool]]) -> bytes | None:
    return None if not words or words[0] == ("%prompt", False) else _secret(*words[0])
