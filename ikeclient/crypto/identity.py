"""Whether the names in a certificate prove an IKE identity (RFC 7296 section 3.5, RFC 4945 section 5.1.3.6, RFC 6125).

A host name is proved by a dNSName only, an address by an iPAddress only, a mailbox by an rfc822Name, a distinguished
name by the subject. The common name proves nothing, and no value is compared before it has the form of its type: a NUL,
a space or an address where a host name belongs match nothing.
"""

from __future__ import annotations

import ipaddress
import re

from ikeclient.crypto.names import name_text, printable, same_name
from ikeclient.wire.registry import IdType

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


def identity_text(id_type: IdType, value: bytes) -> str:
    """An identity for people, escaped; a value that breaks the form of its type is shown in hexadecimal."""
    match id_type:
        case IdType.FQDN | IdType.RFC822_ADDR:
            return printable(value.decode("utf-8", "backslashreplace"))
        case IdType.IPV4_ADDR if len(value) == 4:
            return str(ipaddress.IPv4Address(value))
        case IdType.IPV6_ADDR if len(value) == 16:
            return str(ipaddress.IPv6Address(value))
        case IdType.DER_ASN1_DN:
            return name_text(value)
    return f"{id_type} {value[:64].hex()}"


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
