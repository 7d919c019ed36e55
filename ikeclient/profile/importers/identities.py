"""Identities as strongSwan, libreswan and their relatives write them, in the notation of profiles.

A prefix is left away if the rest alone means the same in a profile: `@vpn.example.com` and `fqdn:vpn.example.com`
become `vpn.example.com`.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from ipaddress import ip_address

from ikeclient.crypto.names import encode_name, name_text
from ikeclient.errors import ParseError, ProfileError
from ikeclient.profile.credentials import identity_of
from ikeclient.profile.values import shown
from ikeclient.wire.identity import Identity
from ikeclient.wire.registry import IdType

ANY = ("%any", "%any6", "%any4", "0.0.0.0", "::", "*", "%")  # noqa: S104 - any identity, nothing is bound
_PREFIX = re.compile(
    r"(ipv4|ipv6|email|rfc822|userfqdn|fqdn|dns|keyid|asn1dn|xmppaddr):(.*)", re.DOTALL | re.IGNORECASE
)
_UNWRITABLE = ("ipv4net:", "ipv6net:", "ipv4range:", "ipv6range:", "asn1gn:", "xmppaddr:")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyIdentity:
    """No particular identity, and how it was written."""

    written: str


def read_identity(written: str) -> str | AnyIdentity:
    """The identity for a profile. Raises ProfileError for one that cannot be used."""
    text = written.strip()
    if text.lower() in ANY:
        return AnyIdentity(written=text)
    if text.lower() in ("%fromcert", "%cert"):
        return AnyIdentity(written=text)
    if text.startswith("%"):  # strongSwan: do not send it as IDr, the identity is the rest
        text = text[1:]
    if "*" in text:
        return AnyIdentity(written=text)
    if text.lower().startswith(_UNWRITABLE):
        raise ProfileError(f"the identity {shown(text)} is of a kind that is not possible here")
    wanted, plain = _parse(text)
    return _shortest(wanted, plain, text)


def _parse(text: str) -> tuple[Identity, str]:
    """The identity that `text` means to strongSwan and libreswan, and the text without a prefix."""
    if text.startswith("@@"):
        return _text(IdType.RFC822_ADDR, text[2:]), text[2:]
    if text.startswith("@#"):
        return Identity(type=IdType.KEY_ID, data=_hex(text[2:], text)), text
    if text.startswith("@~"):
        return Identity(type=IdType.DER_ASN1_DN, data=_hex(text[2:], text)), text
    if text.startswith("@[") and text.endswith("]"):
        return _text(IdType.KEY_ID, text[2:-1]), text[2:-1]
    if text.startswith("@"):
        return _text(IdType.FQDN, text[1:]), text[1:]
    if match := _PREFIX.fullmatch(text):
        return _prefixed(match[1].lower(), match[2].strip(), text), match[2].strip()
    if text.startswith("#"):
        return Identity(type=IdType.KEY_ID, data=_hex(text[1:], text)), text
    if text.startswith("/") and "=" in text:  # OpenSSL's way of writing a name
        text = ", ".join(part for part in text.split("/") if part)
    try:
        return identity_of(text, "identity"), text
    except ProfileError:
        raise ProfileError(f"the identity {shown(text)} cannot be read") from None


def _prefixed(prefix: str, rest: str, whole: str) -> Identity:
    match prefix:
        case "ipv4" | "ipv6":
            try:
                packed = ip_address(rest)
            except ValueError:
                raise ProfileError(f"the identity {shown(whole)} is not an address") from None
            kind = IdType.IPV4_ADDR if packed.version == 4 else IdType.IPV6_ADDR
            return Identity(type=kind, data=packed.packed)
        case "email" | "rfc822" | "userfqdn":
            return _text(IdType.RFC822_ADDR, rest)
        case "fqdn" | "dns":
            return _text(IdType.FQDN, rest)
        case "keyid":
            data = _hex(rest[1:], whole) if rest.startswith("#") else rest.encode()
            return Identity(type=IdType.KEY_ID, data=data)
    if rest.startswith("#"):
        return Identity(type=IdType.DER_ASN1_DN, data=_hex(rest[1:], whole))
    try:
        return Identity(type=IdType.DER_ASN1_DN, data=encode_name(rest))
    except ParseError as error:
        raise ProfileError(f"the identity {shown(whole)} is not a distinguished name", reason=str(error)) from None


def _text(kind: IdType, text: str) -> Identity:
    if not text or not text.isprintable():
        raise ProfileError(f"the identity {shown(text)} is empty or holds a control character")
    return Identity(type=kind, data=text.encode())


def _hex(text: str, whole: str) -> bytes:
    try:
        return binascii.unhexlify(text.removeprefix("0x").replace(":", ""))
    except ValueError:
        raise ProfileError(f"the identity {shown(whole)} is not hexadecimal") from None


def _shortest(wanted: Identity, plain: str, written: str) -> str:
    """A text that a profile reads as `wanted`."""
    data = wanted.data
    name = name_text(data) if wanted.type == IdType.DER_ASN1_DN else ""
    decoded = data.decode("utf-8", "replace")
    prefixed = {
        IdType.FQDN: f"fqdn:{decoded}",
        IdType.RFC822_ADDR: f"email:{decoded}",
        IdType.KEY_ID: f"keyid:{decoded}",
    }
    for text in (plain, name, prefixed.get(wanted.type, ""), f"@#{data.hex()}" if wanted.type == IdType.KEY_ID else ""):
        if not text:
            continue
        try:
            if identity_of(text, "identity") == wanted:
                return text
        except ProfileError:
            continue
    raise ProfileError(f"the identity {shown(written)} cannot be written in a profile")
