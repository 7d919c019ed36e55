"""Name constraints: which names lie in which subtrees (RFC 5280 section 4.2.1.10)."""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

import pytest
from certificate_factory import Made, authority, hosts, key, make, name
from cryptography import x509
from cryptography.x509.oid import NameOID

from ikeclient.crypto.pki.budget import Budget
from ikeclient.crypto.pki.name_constraints import Subtrees, violation

ROOT = authority("root")
Trees: TypeAlias = list[x509.GeneralName]


def holder(*alternatives: x509.GeneralName | str, subject: x509.Name | None = None) -> Made:
    names = [each for text in alternatives for each in (hosts(text) if isinstance(text, str) else [text])]
    extensions = [x509.SubjectAlternativeName(names)] if names else []
    return make(subject or name("holder"), ROOT, extensions=extensions, private=key("p256"))


def violated(constraints: x509.NameConstraints, made: Made) -> str | None:
    return violation(Subtrees.of(constraints), made.certificate.names, Budget())


def permits(made: Made, *trees: x509.GeneralName) -> bool:
    constraints = x509.NameConstraints(permitted_subtrees=list(trees), excluded_subtrees=None)
    return violated(constraints, made) is None


def excludes(made: Made, *trees: x509.GeneralName) -> bool:
    constraints = x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=list(trees))
    return violated(constraints, made) is not None


@pytest.mark.parametrize(
    ("host", "tree", "within"),
    [
        ("vpn.example.com", "example.com", True),
        ("example.com", "example.com", True),
        ("VPN.EXAMPLE.COM", "example.com", True),
        ("vpn.example.com", "EXAMPLE.Com", True),
        ("vpn.example.com", "", True),
        ("vpn.example.com", ".example.com", True),
        ("example.com", ".example.com", False),
        ("vpn.example.com.", "example.com", True),
        ("vpn.example.com", "example.com.", True),
        ("badexample.com", "example.com", False),
        ("example.com.evil.test", "example.com", False),
        ("example.com", "vpn.example.com", False),
        ("*.example.com", "example.com", True),
    ],
)
def test_host_names(host: str, tree: str, within: bool) -> None:
    """C9: permitted and excluded compare alike, without regard to case."""
    made = holder(x509.DNSName(host))
    assert permits(made, x509.DNSName(tree)) is within
    assert excludes(made, x509.DNSName(tree)) is within


def test_a_wildcard_reaches_into_an_excluded_host() -> None:
    """C9: *.example.com also names secret.example.com."""
    made = holder(x509.DNSName("*.Example.com"))
    assert excludes(made, x509.DNSName("secret.example.COM"))
    assert not excludes(made, x509.DNSName("a.secret.example.com"))
    assert not excludes(made, x509.DNSName("secret.example.org"))
    assert not permits(made, x509.DNSName("secret.example.com"))


@pytest.mark.parametrize(
    ("mailbox", "tree", "within"),
    [
        ("alice@example.com", "alice@example.com", True),
        ("alice@EXAMPLE.com", "alice@example.COM", True),
        ("alice@example.com", "bob@example.com", False),
        ("alice@example.com", "example.com", True),
        ("alice@Example.com", "example.COM", True),
        ("alice@mail.example.com", "example.com", False),
        ("alice@mail.example.com", ".example.com", True),
        ("alice@example.com", ".example.com", False),
        ("alice@badexample.com", "example.com", False),
    ],
)
def test_mailboxes(mailbox: str, tree: str, within: bool) -> None:
    made = holder(x509.RFC822Name(mailbox))
    assert permits(made, x509.RFC822Name(tree)) is within
    assert excludes(made, x509.RFC822Name(tree)) is within


@pytest.mark.parametrize(
    ("address", "network", "within"),
    [
        ("192.0.2.1", "192.0.2.0/24", True),
        ("192.0.3.1", "192.0.2.0/24", False),
        ("192.0.2.1", "0.0.0.0/0", True),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db9::1", "2001:db8::/32", False),
        ("2001:db8::1", "0.0.0.0/0", False),
    ],
)
def test_addresses(address: str, network: str, within: bool) -> None:
    made = holder(address)
    tree = x509.IPAddress(ipaddress.ip_network(network))
    assert permits(made, tree) is within
    assert excludes(made, tree) is within


def test_directory_names() -> None:
    """The subject counts as one, and only whole leading parts match."""
    made = holder("vpn.example.com")
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "TEST")
    country = x509.NameAttribute(NameOID.COUNTRY_NAME, "CH")
    assert permits(made, x509.DirectoryName(x509.Name([country, organisation])))
    assert excludes(made, x509.DirectoryName(x509.Name([country, organisation])))
    assert not permits(made, x509.DirectoryName(x509.Name([organisation])))
    assert not permits(made, x509.DirectoryName(x509.Name([organisation, country])))
    other = x509.DirectoryName(name("elsewhere"))
    assert not permits(made, other)
    assert not excludes(made, other)
    assert excludes(holder(other), other)


def test_a_mailbox_in_the_subject_counts_when_there_are_no_alternative_names() -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, "eve@evil.test")])
    assert excludes(holder(subject=subject), x509.RFC822Name("EVIL.test"))
    assert not permits(holder(subject=subject), x509.RFC822Name("example.com"))
    assert permits(holder("vpn.example.com", subject=subject), x509.RFC822Name("example.com"))


def test_a_kind_without_constraints_is_free() -> None:
    made = holder("vpn.example.com", "192.0.2.1", "ops@example.com")
    assert permits(made, x509.DNSName("example.com"))
    assert not excludes(made, x509.DNSName("example.org"))


def test_every_name_must_be_permitted() -> None:
    made = holder("vpn.example.com", "vpn.example.org")
    assert not permits(made, x509.DNSName("example.com"))
    assert permits(made, x509.DNSName("example.com"), x509.DNSName("example.org"))
    assert excludes(made, x509.DNSName("example.org"))


def test_excluded_wins_over_permitted() -> None:
    constraints = x509.NameConstraints(
        permitted_subtrees=[x509.DNSName("example.com")], excluded_subtrees=[x509.DNSName("vpn.example.com")]
    )
    assert violated(constraints, holder("www.example.com")) is None
    text = violated(constraints, holder("vpn.example.com"))
    assert text == "vpn.example.com is among the names its authority may not speak for"


def test_kinds_we_cannot_compare_are_refused_once_constrained() -> None:
    link = x509.UniformResourceIdentifier("https://example.com/")
    made = holder(link)
    assert not permits(made, x509.UniformResourceIdentifier("example.com"))
    assert excludes(made, x509.UniformResourceIdentifier("example.org"))
    assert permits(made, x509.DNSName("example.com"))
