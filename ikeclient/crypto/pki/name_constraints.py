"""Name constraints (RFC 5280 section 4.2.1.10): the names an authority may speak for.

A permitted subtree binds only names of its own kind: with one for host names, mailboxes stay free. Case never counts,
for permitted and excluded names alike. A name of a kind we cannot compare is refused as soon as a constraint of that
kind exists. Names and subtrees are decoded when their certificate is; comparing them is paid from a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Self, TypeAlias

from cryptography import x509

from ikeclient.crypto.pki.budget import COMPARISON, Budget
from ikeclient.crypto.pki.names import NormalName, mailboxes, name_text, normalise
from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.text import printable

_Address: TypeAlias = IPv4Address | IPv6Address | IPv4Network | IPv6Network


class _Kind(Enum):
    HOST = auto()
    MAILBOX = auto()
    ADDRESS = auto()
    DIRECTORY = auto()


@dataclass(frozen=True, slots=True)
class Name:
    """A name or a subtree, ready for comparison; `value` is None if we cannot compare it.

    `kind` is a class of `cryptography` for kinds that IKE does not use.
    """

    kind: _Kind | type[x509.GeneralName]
    value: str | _Address | NormalName | None
    shown: object = None  # what `text` is made of; bytes are a DER Name

    @property
    def text(self) -> str:
        """The name for people, escaped."""
        if isinstance(self.shown, bytes):
            return name_text(self.shown)
        return f"a {self.kind.__name__}" if isinstance(self.kind, type) else printable(str(self.shown))


@dataclass(frozen=True, slots=True)
class Subtrees:
    """The nameConstraints of an authority, by kind of name."""

    permitted: dict[object, list[Name]]
    excluded: dict[object, list[Name]]

    @classmethod
    def of(cls, constraints: x509.NameConstraints) -> Self:
        """Decode the extension."""
        return cls(_by_kind(constraints.permitted_subtrees or ()), _by_kind(constraints.excluded_subtrees or ()))


def certificate_names(alternative: x509.SubjectAlternativeName | None, subject: bytes) -> tuple[Name, ...]:
    """Every name of a certificate that constraints apply to; `subject` is its DER Name."""
    names = [_general(name) for name in alternative or ()]
    own = _directory(subject)
    if own.value != ():
        names.append(own)
    if alternative is None:  # only then a mailbox in the subject counts
        try:
            names += [_mailbox(each) for each in mailboxes(subject)]
        except ParseError:
            names.append(Name(_Kind.MAILBOX, None, subject))
    return tuple(names)


def violation(subtrees: Subtrees, names: Sequence[Name], budget: Budget) -> str | None:
    """The first of `names` that `subtrees` forbid, in printable words, or None.

    Raises GatewayNotAuthenticated if the budget does not allow to find out.
    """
    for name in names:
        permitted, excluded = subtrees.permitted.get(name.kind, ()), subtrees.excluded.get(name.kind, ())
        budget.spend(COMPARISON * (1 + len(permitted) + len(excluded)))
        within = _WITHIN.get(name.kind, _never)
        if permitted and not any(within(name.value, tree.value) for tree in permitted):
            return f"{name.text} is not among the names its authority may speak for"
        if name.kind is _Kind.HOST:
            within = _host_touches
        # What we cannot compare is never permitted and always excluded.
        if excluded and (name.value is None or any(t.value is None or within(name.value, t.value) for t in excluded)):
            return f"{name.text} is among the names its authority may not speak for"
    return None


def _by_kind(trees: Iterable[x509.GeneralName]) -> dict[object, list[Name]]:
    found: dict[object, list[Name]] = {}
    for tree in map(_subtree, trees):
        found.setdefault(tree.kind, []).append(tree)
    return found


def _general(name: x509.GeneralName) -> Name:
    match name:
        case x509.DNSName():
            return Name(_Kind.HOST, name.value.lower().rstrip("."), name.value)
        case x509.RFC822Name():
            return _mailbox(name.value)
        case x509.IPAddress():
            return Name(_Kind.ADDRESS, name.value, name.value)
        case x509.DirectoryName():
            return _directory(name.value.public_bytes())
    return Name(type(name), None)


def _subtree(name: x509.GeneralName) -> Name:
    tree = _general(name)
    if tree.kind is _Kind.ADDRESS and not isinstance(tree.value, IPv4Network | IPv6Network):
        return Name(tree.kind, None, tree.shown)
    return tree


def _mailbox(mailbox: str) -> Name:
    return Name(_Kind.MAILBOX, mailbox.lower(), mailbox)


def _directory(encoded: bytes) -> Name:
    try:
        return Name(_Kind.DIRECTORY, normalise(encoded), encoded)
    except ParseError:
        return Name(_Kind.DIRECTORY, None, encoded)


def _host_within(host: str | None, base: str | None) -> bool:
    if host is None or base is None:
        return False
    return not base or host == base or host.endswith(base if base[0] == "." else f".{base}")


def _host_touches(host: str, base: str) -> bool:
    # A wildcard also stands for the excluded host one label below it.
    wildcard = host.startswith("*.") and base.removeprefix(".").partition(".")[2] == host[2:]
    return wildcard or _host_within(host, base)


def _mailbox_within(mailbox: str | None, base: str | None) -> bool:
    """`base` is one mailbox, a host (its mailboxes alone), or a domain with a dot in front (every host in it)."""
    if mailbox is None or base is None:
        return False
    host = mailbox.rpartition("@")[2]
    if "@" in base:
        return mailbox == base
    if base.startswith("."):
        return host.endswith(base)
    return not base or host == base


def _address_within(address: _Address | None, network: _Address | None) -> bool:
    match address, network:
        case IPv4Address(), IPv4Network():
            return address in network
        case IPv6Address(), IPv6Network():
            return address in network
    return False


def _directory_within(name: NormalName | None, base: NormalName | None) -> bool:
    return name is not None and base is not None and name[: len(base)] == base


def _never(name: object, tree: object) -> bool:  # noqa: ARG001 - a kind that is not compared
    return False


_WITHIN: dict[object, Callable[[Any, Any], bool]] = {
    _Kind.HOST: _host_within,
    _Kind.MAILBOX: _mailbox_within,
    _Kind.ADDRESS: _address_within,
    _Kind.DIRECTORY: _directory_within,
}
