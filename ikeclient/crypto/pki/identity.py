"""IKE identities: how people write them, and whether the names in a certificate prove one.

RFC 7296 section 3.5, RFC 4945 section 5.1.3.6, RFC 6125. In text, the form tells the type: an address, `user@domain`,
`C=CH, CN=...`, and everything else is a host name. Prefixes force a type, in the notation of strongSwan and libreswan.
What `identity_text` writes, `parse_identity` reads.

A host name is proved by a dNSName only, an address by an iPAddress only, a mailbox by an rfc822Name, a distinguished
name by the subject. The common name proves nothing, and no value is compared before it has the form of its type: a NUL,
a space or an address where a host name belongs match nothing.
"""

from __future__ import annotations

import binascii
import difflib
import ipaddress
import re

from ikeclient.crypto.pki.names import encode_name, name_text, same_name
from ikeclient.errors import ParseError
from ikeclient.wire.registry import IdType
from ikeclient.wire.text import printable

_HOST = re.compile(rb"(?!.{254})[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.IGNORECASE)
_MAILBOX = re.compile(rb"[!-?A-~]+@[!-?A-~]+")  # printable ASCII with one @


def proves(offered_type: IdType, offered: bytes, wanted_type: IdType, wanted: bytes) -> bool:
    """Whether a certificate's name `offered` proves the identity `wanted`."""
    if offered_type != wanted_type:
        return False
    match wanted_type:
        case IdType.FQDN:
            return _is_host(wanted) and _host_matches(offered.lower(), wanted.lower())
        case IdType.RFC822_ADDR:
            return bool(_MAILBOX.fullmatch(wanted)) and _fold_domain(offered) == _fold_domain(wanted)
        case IdType.IPV4_ADDR:
            return len(wanted) == 4 and offered == wanted
        case IdType.IPV6_ADDR:
            return len(wanted) == 16 and offered == wanted
        case IdType.DER_ASN1_DN:
            return same_name(offered, wanted)
    return False


def parse_identity(text: str) -> tuple[IdType, bytes]:
    """The type and value of the identity that `text` means.

    Raises ValueError whose text completes a sentence that starts with the identity.
    """
    if not text or not text.isprintable():
        raise ValueError("is empty or holds a control character")
    if (match := _NUMBERED.fullmatch(text)) and int(match[1]) <= _LARGEST_TYPE:
        return IdType(int(match[1])), _hexadecimal(match[2])
    for start, end, kind, form in _SIGNS:
        if text.startswith(start) and text.endswith(end):
            return kind, _value(kind, form + text[len(start) : len(text) - len(end)])
    prefix, colon, rest = text.partition(":")
    if colon and prefix.lower() in PREFIXES:
        kind = PREFIXES[prefix.lower()]
        return kind, _value(kind, rest.strip())
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return _unmarked(text, prefix if colon else "")
    return IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed


PREFIXES: dict[str, IdType] = {
    "fqdn": IdType.FQDN,
    "dns": IdType.FQDN,
    "email": IdType.RFC822_ADDR,
    "rfc822": IdType.RFC822_ADDR,
    "userfqdn": IdType.RFC822_ADDR,
    "keyid": IdType.KEY_ID,
    "asn1dn": IdType.DER_ASN1_DN,
    "ipv4": IdType.IPV4_ADDR,
    "ipv6": IdType.IPV6_ADDR,
}
_SIGNS = (  # what a text starts and ends with, the type, and `#` if the rest is hexadecimal; the first that fits counts
    ("@@", "", IdType.RFC822_ADDR, ""),
    ("@#", "", IdType.KEY_ID, "#"),
    ("@~", "", IdType.DER_ASN1_DN, "#"),
    ("@[", "]", IdType.KEY_ID, ""),
    ("@", "", IdType.FQDN, ""),
)
_WRITTEN = {IdType.FQDN: "fqdn", IdType.RFC822_ADDR: "email", IdType.KEY_ID: "keyid", IdType.DER_ASN1_DN: "asn1dn"}
_LARGEST_TYPE = 255
_NUMBERED = re.compile(r"\{([1-9][0-9]{0,2})\}:#(.*)")
_DN = re.compile(r"\s*[A-Za-z]+\s*=")
_NEAR = 0.7  # how alike a word before a colon is to a prefix that was misspelt


def _unmarked(text: str, prefix: str) -> tuple[IdType, bytes]:
    slashes = text.startswith("/") and "=" in text  # as OpenSSL writes a name
    if slashes or _DN.match(text):
        return IdType.DER_ASN1_DN, _name(", ".join(part for part in text.split("/") if part) if slashes else text)
    if text.startswith("%"):
        raise ValueError("is no particular identity")
    if near := difflib.get_close_matches(prefix.lower(), PREFIXES, n=1, cutoff=_NEAR):
        raise ValueError(f"has an unknown type before the colon; did you mean {near[0]}:?")
    return (IdType.RFC822_ADDR if "@" in text else IdType.FQDN), text.encode()


def _value(kind: IdType, text: str) -> bytes:
    if text.startswith("#"):
        value = _hexadecimal(text[1:])
        if len(value) != _LENGTHS.get(kind, len(value)):
            raise ValueError("has the wrong length for an address")
        return value
    match kind:
        case IdType.IPV4_ADDR | IdType.IPV6_ADDR:
            return _address(kind, text)
        case IdType.DER_ASN1_DN:
            return _name(text)
    if not text:
        raise ValueError("has nothing behind its type")
    return text.encode()


def _address(kind: IdType, text: str) -> bytes:
    try:
        packed = ipaddress.ip_address(text).packed
    except ValueError:
        raise ValueError("is not an address") from None
    if len(packed) != _LENGTHS[kind]:
        raise ValueError("is an address of the other family")
    return packed


_LENGTHS = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}


def _name(text: str) -> bytes:
    try:
        return encode_name(text)
    except ParseError as error:
        raise ValueError(f"is no distinguished name: {error}") from None


def _hexadecimal(text: str) -> bytes:
    try:
        value = binascii.unhexlify(text.removeprefix("0x").replace(":", ""))
    except ValueError:
        raise ValueError("is not hexadecimal behind the #") from None
    if not value:
        raise ValueError("has nothing behind the #")
    return value


def identity_text(id_type: IdType, value: bytes) -> str:
    """An identity for people, as `parse_identity` reads it; what cannot be text is hexadecimal, or shown escaped."""
    try:
        plain = _plain(id_type, value)
    except ValueError:  # it breaks the form of its type
        return _in_hexadecimal(id_type, value)
    if id_type == IdType.DER_ASN1_DN:
        return plain
    forms = (plain, f"{_WRITTEN[id_type]}:{plain}") if id_type in (IdType.FQDN, IdType.RFC822_ADDR) else (plain,)
    for form in forms:
        try:
            if parse_identity(form) == (id_type, value):
                return printable(form)
        except ValueError:
            continue
    if id_type == IdType.KEY_ID or plain.isprintable():
        return _in_hexadecimal(id_type, value)
    return printable(plain)


def _plain(id_type: IdType, value: bytes) -> str:
    match id_type:
        case IdType.FQDN | IdType.RFC822_ADDR:
            return value.decode("utf-8", "backslashreplace")
        case IdType.KEY_ID:
            return f"keyid:{value.decode()}"
        case IdType.IPV4_ADDR:
            return str(ipaddress.IPv4Address(value))
        case IdType.IPV6_ADDR:
            return str(ipaddress.IPv6Address(value))
        case IdType.DER_ASN1_DN:
            text = name_text(value)
            if not text or text.startswith("#"):
                raise ValueError("no name")
            return text
    raise ValueError("no text")


def _in_hexadecimal(id_type: IdType, value: bytes) -> str:
    prefix = _WRITTEN.get(id_type, f"{{{int(id_type)}}}")
    return f"{prefix}:#{value[:_MAX_HEX].hex()}" + ("..." if len(value) > _MAX_HEX else "")


_MAX_HEX = 64  # bytes


def _is_host(name: bytes) -> bool:
    # A last label of digits only is an IPv4 address in text, which a dNSName must not stand for.
    return bool(_HOST.fullmatch(name)) and not name.rpartition(b".")[2].isdigit()


def _host_matches(pattern: bytes, host: bytes) -> bool:
    """Both in lower case. A wildcard is the whole left-most label and stands for one label (RFC 6125 section 6.4.3)."""
    if pattern == host:
        return True
    star, _, parent = pattern.partition(b".")
    return star == b"*" and b"." in parent and host.partition(b".")[2] == parent


def _fold_domain(mailbox: bytes) -> tuple[bytes, bytes]:
    local, _, domain = mailbox.rpartition(b"@")
    return local, domain.lower()
