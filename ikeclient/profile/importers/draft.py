"""What an importer fills in: a profile's tables, the files that go beside it, and what could not be carried over.

Importers read what strangers wrote. They run nothing, open nothing outside the directory that the user named, and put
secrets nowhere but into attachments, which have no representation. Nothing is invented: what a file does not say stays
unset, and the checks of `connect` then say that it is missing. Whatever is understood but cannot be expressed is a
warning of one of two ranks: a risk if the tunnel would protect less than the file asked for, else a plain warning.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import PurePath
from typing import Any, Literal

from ikeclient.crypto.pki.trust_store import Certificate
from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.importers.algorithms import Dialect, read_proposals
from ikeclient.profile.importers.identities import AnyIdentity, read_identity
from ikeclient.profile.model import values
from ikeclient.profile.model.proposals import DEFAULT_ESP, DEFAULT_IKE
from ikeclient.profile.model.schema import MAX_PROPOSALS
from ikeclient.profile.model.toml_text import toml_lines
from ikeclient.profile.secrets.secrets import Ask
from ikeclient.wire.text import printable

__all__ = ["SECRETS", "Ask", "Attachment", "Draft", "Fields", "MySection", "decode_base64", "pem"]

MAX_WARNINGS = 100
SECRETS = ("psk", "password", "key_passphrase", "secret", "pin")
MySection = Literal["auth", "second_auth"]
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.@+-]+")
_NULL = "AUTH_NULL proves nothing about the other side (RFC 7619), so it is not supported"
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
        sections = ("gateway", "auth", "second_auth", "ppk", "crypto", "network", "session", "when")
        self.tables: dict[str, dict[str, Any]] = {section: {} for section in sections}
        self.attachments: list[Attachment] = []
        self.warnings: list[str] = []
        self.risks: list[str] = []

    def warn(self, text: str) -> None:
        """Note what could not be carried over; without repetition, and not without end."""
        _add(self.warnings, text)

    def risk(self, text: str) -> None:
        """Note what makes the tunnel protect less than the file asked for."""
        _add(self.risks, text)

    def settle(self, part: str) -> None:
        """Forget the warnings that contain `part`: what they said was missing is there now."""
        self.warnings = [text for text in self.warnings if part not in text]

    def settle_risk(self, *starts: str) -> None:
        """Forget the risks that begin with one of `starts`."""
        self.risks = [text for text in self.risks if not text.startswith(starts)]

    def lost(self, keys: Iterable[str], why: str = "there is no such setting here") -> None:
        """Note keys of the other format that have no counterpart."""
        for key in keys:
            self.warn(f"not carried over: {key} ({why})")

    @property
    def method(self) -> str:
        """The authentication method, empty until it is known."""
        return str(self.tables["auth"].get("method", ""))

    @property
    def gateway_method(self) -> str:
        """How the gateway proves itself: psk, certificate or eap."""
        return str(self.tables["gateway"].get("auth", "psk" if self.method == "psk" else "certificate"))

    def section_for(self, fits: Callable[[str], bool]) -> MySection | None:
        """The section of ours whose method fits, the first one if both do."""
        sections: tuple[MySection, ...] = ("auth", "second_auth")
        return next((name for name in sections if fits(str(self.tables[name].get("method", "")))), None)

    def set(self, section: str, key: str, value: object) -> None:
        """Set a key of the profile; None leaves it at its default."""
        if value is not None:
            self.tables[section][key] = value

    def has(self, section: str, key: str) -> bool:
        """Whether the key is set, by a value or by a file beside the profile."""
        return key in self.tables[section] or any(item.key == (section, key) for item in self.attachments)

    def attach(self, section: str, key: str, suffix: str, data: bytes, what: str) -> None:
        """Let `section.key` name a file with this content; a later file takes the place of an earlier one."""
        self.detach(section, key)
        self.attachments.append(Attachment(key=(section, key), suffix=suffix, data=data, what=what))
        self.tables[section].pop(key, None)

    def detach(self, section: str, *keys: str) -> None:
        """Take files away again."""
        gone = {(section, key) for key in keys}
        self.attachments = [item for item in self.attachments if item.key not in gone]

    def identity(
        self, section: Literal["gateway", "auth", "second_auth"], written: str | None, *, key: str = "identity"
    ) -> None:
        """Set an identity that is written as strongSwan and libreswan write it. Raises ProfileError for AUTH_NULL."""
        if written is None or not written.strip():
            return
        if written.strip().lower() in ("%null", "%none"):
            raise ProfileError(f"the identity {written.strip()} is not possible", reason=_NULL)
        try:
            found = read_identity(written)
        except ProfileError as error:
            self.warn(f"not carried over: {error.message}; set {section}.{key}")
            return
        if not isinstance(found, AnyIdentity):
            self.set(section, key, found)
        elif section == "gateway":
            self.any_gateway(found.written)

    def any_gateway(self, written: str) -> None:
        """Take a gateway that may have any identity; `written` is how the file says that."""
        if self.gateway_method == "psk":
            self.set("gateway", "identity", "%any")
            self.risk(
                f"gateway.identity is %any ({written}): anything with the pre-shared key may be the gateway; "
                "name its identity if you know it"
            )
        else:
            self.warn(
                f"gateway.identity is not set ({written}): the gateway's certificate must prove its address; "
                "set it if the gateway has another name"
            )

    def psk(self, secret: bytes | None, section: MySection = "auth") -> None:
        """Attach a pre-shared key, or ask for it; `0x` and `0s` in front are part of the key itself."""
        if secret is None:
            self.set(section, "psk", {"prompt": True})
        else:
            self.attach(section, "psk", _suffix(section, "psk"), _literal(secret), "the pre-shared key")

    def password(self, secret: bytes | None, section: MySection = "auth") -> None:
        """Attach a password, if there is one; otherwise it is asked for."""
        if secret is not None:
            self.attach(section, "password", _suffix(section, "pw"), secret, "the password")

    def passphrase(self, secret: bytes | None, section: MySection = "auth") -> None:
        """Attach the passphrase of our key, if there is one."""
        if secret:
            suffix = _suffix(section, "passphrase")
            self.attach(section, "key_passphrase", suffix, secret, "the passphrase of our key")

    def token(self, section: MySection, uri: str, module: str | None, pin: bytes | None) -> None:
        """Let our key stay on a PKCS#11 token, whose PIN is attached, or asked for if the token wants one."""
        self.set(section, "key", {"pkcs11": uri, **({"module": module} if module else {})})
        if pin is not None:
            self.attach(section, "pin", _suffix(section, "pin"), pin, "the token's PIN")

    def own(self, section: MySection, key: Literal["certificate", "key"], suffix: str, data: bytes, what: str) -> None:
        """Attach our certificate or our key."""
        self.attach(section, key, _suffix(section, suffix), data, what)

    def post_quantum(self, identity: str, secret: bytes | None, *, required: bool) -> None:
        """Use a post-quantum preshared key (RFC 8784); it is asked for if it is not known."""
        self.set("ppk", "id", identity)
        self.set("ppk", "required", required)
        if secret is None:
            self.set("ppk", "secret", {"prompt": True})
            self.warn("the post-quantum preshared key is not in the file: it will be asked for (ppk.secret)")
        else:
            self.attach("ppk", "secret", "ppk", _literal(secret), "the post-quantum preshared key")

    def dns(self, servers: Sequence[str], domains: Sequence[str]) -> None:
        """Name servers instead of the gateway's, and the domains that they are for."""
        for key, texts, check in (
            ("dns_servers", servers, values.name_servers),
            ("dns_domains", domains, values.domains),
        ):
            good: list[str] = []
            for text in texts:
                try:
                    good += [str(item) for item in check([text])]
                except ValueError:
                    self.lost([f"the name server or domain {text}"], "it cannot be one here")
            self.set("network", key, list(dict.fromkeys(good)) or None)

    def authorities(self, encoded: Sequence[bytes]) -> None:
        """Certificates, in DER or PEM, that may vouch for the gateway; damaged ones are warned about."""
        good: list[Certificate] = []
        for each in encoded:
            problems: list[str] = []
            try:
                good += Certificate.load_many(each, problems)
            except ProfileError as error:
                problems = [error.reason or error.message]
            for problem in problems:
                self.risk(f"a certificate of an authority cannot be used: {problem}")
        if good:
            bundle = b"".join(pem(certificate.der) for certificate in dict.fromkeys(good))
            self.attach("gateway", "ca", "ca.pem", bundle, "the gateway's authority")

    def proposals(
        self, kind: Literal["ike", "esp"], texts: Sequence[str], dialect: Dialect = Dialect.STRONGSWAN
    ) -> None:
        """Proposals in another program's keywords: what we can run of each; `default` stands for our own."""
        kept: list[str] = []
        if len(texts) > MAX_PROPOSALS:
            self.warn(f"not carried over: the {kind} proposals beyond the first {MAX_PROPOSALS}")
        for text in texts[:MAX_PROPOSALS]:
            if text == "default":
                kept += _DEFAULTS[kind]
                continue
            found = read_proposals(kind, text, dialect)
            kept += found.usable
            shown = printable(text, 80)
            if not found.usable:
                self.warn(f"not carried over: the {kind} proposal {shown} ({found.why})")
            elif found.left_out:
                self.warn(f"left out of the {kind} proposal {shown}: {', '.join(found.left_out)} (not supported)")
            if found.post_quantum:
                self.risk(f"the {kind} proposal {shown} loses its post-quantum key exchange: it is not supported")
        if texts and not kept:
            self.warn(f"no {kind} proposal is left, so ikeclient's own are offered")
        if kept:
            self.set("crypto", kind, list(dict.fromkeys(kept))[:MAX_PROPOSALS])

    @property
    def slug(self) -> str:
        """The name as a file and a tunnel can have it."""
        text = _NOT_IN_NAMES.sub("-", PurePath(self.name).name or self.name).strip("-.+@")
        return text[:48].rstrip("-.") or "imported"

    def toml(self, stem: str) -> str:
        """The profile whose attachments lie beside it as `stem.suffix`."""
        return self._toml({item.key: f"{stem}.{item.suffix}" for item in self.attachments})

    def leave_out(self) -> None:
        """Forget the attachments; their secrets are asked for."""
        for section, key in [item.key for item in self.attachments]:
            if key in SECRETS:
                _put(self.tables[section], key, {"prompt": True})
        self.attachments = []

    def toml_alone(self) -> tuple[str, list[str]]:
        """The profile without attachments, and a warning for each of them: secrets are to be asked for."""
        warnings = [f"left out: {item.what} (import to a file, not to standard output)" for item in self.attachments]
        return self._toml({}), warnings

    def _toml(self, files: Mapping[tuple[str, str], str]) -> str:
        tables = {name: dict(table) for name, table in self.tables.items()}
        for item in self.attachments:
            section, key = item.key
            secret = key in SECRETS
            if item.key not in files:
                if secret:
                    _put(tables[section], key, {"prompt": True})
                continue
            _put(tables[section], key, {"file": files[item.key]} if secret else files[item.key])
        document = {"version": 1, **{name: table for name, table in tables.items() if table}}
        return "\n".join(toml_lines(document)) + "\n"


def _put(table: dict[str, Any], key: str, value: object) -> None:
    """Set a key; a PIN stands inside of the key that it is for."""
    if key == "pin":
        table["key"] = {**table.get("key", {}), "pin": value}
    else:
        table[key] = value


def _suffix(section: MySection, suffix: str) -> str:
    return suffix if section == "auth" else f"second.{suffix}"


def _literal(secret: bytes) -> bytes:
    """A key as a file holds it: what would be read as another form, or be cut, is hexadecimal."""
    unsafe = secret[:2] in (b"0x", b"0s") or secret.endswith(b"\n")
    return b"0x" + secret.hex().encode() if unsafe else secret


def _add(texts: list[str], text: str) -> None:
    text = printable(text, 300)
    if text not in texts and len(texts) < MAX_WARNINGS:
        texts.append(text)


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
    """A mapping from a stranger, read key by key with the type that is due; `rest` is what was not asked for."""

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
        if isinstance(value, str):
            value = {"true": 1, "yes": 1, "1": 1, "false": 0, "no": 0, "0": 0, "": 0}.get(value.strip().lower(), value)
        if value is not None and value not in (0, 1):
            raise ProfileError(f"{printable(self._where, 80)}: {printable(key, 80)} should be true or false")
        return None if value is None else bool(value)

    def items(self, key: str) -> list[object]:
        """A list; empty where it is missing."""
        value: list[object] | None = self._get(key, list, "a list")
        return value or []

    def words(self, key: str) -> list[str]:
        """A list of texts, or one text with white space or commas between them."""
        self._asked.add(key)
        value = self._values.get(key)
        if isinstance(value, str):
            return value.replace(",", " ").split()
        items = self.items(key)
        if not all(isinstance(item, str) for item in items):
            raise ProfileError(f"{printable(self._where, 80)}: {printable(key, 80)} should be a list of texts")
        return [str(item).strip() for item in items]

    def part(self, key: str) -> Fields | None:
        """A section inside."""
        self._asked.add(key)
        value = self._values.get(key)
        return None if value is None else Fields(value, key)

    def mapping(self, key: str) -> Mapping[str, object]:
        """A section inside as it is, empty where it is missing."""
        self._asked.add(key)
        value = self._values.get(key)
        return value if isinstance(value, Mapping) else {}

    def is_off(self, key: str) -> bool:
        """Whether a key holds nothing that anybody could miss: false, zero, or empty."""
        return not self._values.get(key)

    def ignore(self, *keys: str) -> None:
        """These mean nothing to a tunnel."""
        self._asked.update(keys)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def rest(self) -> list[str]:
        """The keys that were not asked for, sorted."""
        return sorted(printable(key, 80) for key in self._values if key not in self._asked)
