"""Name constraints (RFC 5280 section 4.2.1.10): the names an authority may speak for.

A permitted subtree binds only names of its own kind: with one for host names, mailboxes stay free. Case never counts,
for permitted and excluded names alike. A name of a kind we cannot compare is refused as soon as a constraint of that
kind exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

from cryptography import x509

from ikeclient.crypto.certificate import Certificate
from ikeclient.crypto.names import NormalName, mailboxes, name_text, normalise, printable
from ikeclient.errors import ParseError

_Address: TypeAlias = IPv4Address | IPv6Address | IPv4Network | IPv6Network


class _Kind(Enum):
    HOST = auto()
    MAILBOX = auto()
    ADDRESS = auto()
    DIRECTORY = auto()


@dataclass(frozen=True, slots=True)
class _Name:
    """A name or a subtree. `kind` is a class of `cryptography` where we cannot compare names of that kind."""

    kind: _Kind | type[x509.GeneralName]
    value: str | _Address | NormalName | None
    text: str


def violation(constraints: x509.NameConstraints, certificate: Certificate) -> str | None:
    """The first name of `certificate` that `constraints` forbid, in printable words, or None."""
    try:
        permitted = [_general(tree) for tree in constraints.permitted_subtrees or ()]
        excluded = [_general(tree) for tree in constraints.excluded_subtrees or ()]
        names = _names(certificate)
    except ParseError as error:
        return error.message
    for name in names:
        allowed = [tree for tree in permitted if tree.kind == name.kind]
        if allowed and not any(_within(name, tree, excluded=False) for tree in allowed):
            return f"{name.text} is not among the names its authority may speak for"
        if any(_within(name, tree, excluded=True) for tree in excluded if tree.kind == name.kind):
            return f"{name.text} is among the names its authority may not speak for"
    return None


def _names(certificate: Certificate) -> list[_Name]:
    alternative = certificate.extension(x509.SubjectAlternativeName)
    names = [_general(name) for name in alternative or ()]
    subject = normalise(certificate.subject_der)
    if subject:
        names.append(_Name(_Kind.DIRECTORY, subject, certificate.subject))
    if alternative is None:  # only then a mailbox in the subject counts
        names += [_Name(_Kind.MAILBOX, each, printable(each)) for each in mailboxes(certificate.subject_der)]
    return names


def _general(name: x509.GeneralName) -> _Name:
    match name:
        case x509.DNSName():
            return _Name(_Kind.HOST, name.value, printable(name.value))
        case x509.RFC822Name():
            return _Name(_Kind.MAILBOX, name.value, printable(name.value))
        case x509.IPAddress():
            return _Name(_Kind.ADDRESS, name.value, str(name.value))
        case x509.DirectoryName():
            encoded = name.value.public_bytes()
            return _Name(_Kind.DIRECTORY, normalise(encoded), name_text(encoded))
    return _Name(type(name), None, f"a {type(name).__name__}")


def _within(name: _Name, tree: _Name, *, excluded: bool) -> bool:
    match name.kind, name.value, tree.value:
        case _Kind.HOST, str(host), str(base):
            return _host_within(host.lower(), base.lower(), excluded=excluded)
        case _Kind.MAILBOX, str(mailbox), str(base):
            return _mailbox_within(mailbox.lower(), base.lower())
        case _Kind.ADDRESS, IPv4Address() | IPv6Address() as address, IPv4Network() | IPv6Network() as network:
            return address in network
        case _Kind.DIRECTORY, tuple(relatives), tuple(base):
            return relatives[: len(base)] == base
    return excluded  # what we cannot compare is never permitted and always excluded


def _host_within(host: str, base: str, *, excluded: bool) -> bool:
    host, base = host.rstrip("."), base.rstrip(".")
    if not base or host == base or host.endswith("." + base.removeprefix(".")):
        return True
    # A wildcard also stands for the excluded host one label below it.
    return excluded and host.startswith("*.") and base.removeprefix(".").partition(".")[2] == host[2:]


def _mailbox_within(mailbox: str, base: str) -> bool:
    """`base` is one mailbox, a host (its mailboxes alone), or a domain with a dot in front (every host in it)."""
    host = mailbox.rpartition("@")[2]
    if "@" in base:
        return mailbox == base
    if base.startswith("."):
        return host.endswith(base)
    return not base or host == base
