"""Identities as strongSwan, libreswan and their relatives write them, in the notation of profiles.

A prefix is left away if the rest alone means the same in a profile: `@vpn.example.com` and `fqdn:vpn.example.com`
become `vpn.example.com`.
"""

from __future__ import annotations

from ikeclient.crypto.pki.identity import identity_text, parse_identity
from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.model.values import shown
from ikeclient.wire.registry import IdType

ANY = ("%any", "%any6", "%any4", "0.0.0.0", "::", "*", "%")  # noqa: S104 - any identity, nothing is bound
MAX_LENGTH = 1024
_UNWRITABLE = ("ipv4net:", "ipv6net:", "ipv4range:", "ipv6range:", "asn1gn:", "xmppaddr:")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyIdentity:
    """No particular identity, and how it was written."""

    written: str


def read_identity(written: str) -> str | AnyIdentity:
    """The identity for a profile. Raises ProfileError for one that cannot be used."""
    text = written.strip()
    if len(text) > MAX_LENGTH:
        raise ProfileError(f"the identity {shown(text)} has more than {MAX_LENGTH} characters")
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
    try:
        wanted = parse_identity(f"@{text}" if text.startswith("#") else text)
    except ValueError as error:
        raise ProfileError(f"the identity {shown(text)} cannot be read", reason=f"it {error}") from None
    if _kept_as_written(text, wanted):
        return text
    written = identity_text(*wanted)
    try:
        same = parse_identity(written) == wanted
    except ValueError:
        same = False
    if not same and wanted[0] == IdType.DER_ASN1_DN:
        return f"asn1dn:#{wanted[1].hex()}"
    if not same:
        raise ProfileError(f"the identity {shown(text)} cannot be written in a profile")
    return written


def _kept_as_written(text: str, wanted: tuple[IdType, bytes]) -> bool:
    """Whether `text` is a distinguished name in a profile's own form already."""
    return wanted[0] == IdType.DER_ASN1_DN and not text.lower().startswith(("asn1dn:", "@~", "/"))
