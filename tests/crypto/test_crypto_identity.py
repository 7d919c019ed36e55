"""Which names of a certificate prove which identities of IKE."""

from __future__ import annotations

import pytest

from ikeclient.crypto.identity import identity_text, proves
from ikeclient.crypto.names import encode_name
from ikeclient.wire.registry import IdType

HOSTS = [
    (b"vpn.example.com", b"vpn.example.com", True),
    (b"vpn.example.com", b"VPN.Example.COM", True),
    (b"VPN.example.com", b"vpn.example.com", True),
    (b"vpn.example.com", b"vpn.example.co", False),
    (b"vpn.example.com", b"a.vpn.example.com", False),
    (b"vpn.example.com", b"vpn.example.com.", False),
    (b"vpn.example.com", b"vpn.example.com\0", False),
    (b"vpn.example.com\0", b"vpn.example.com\0", False),
    (b"vpn.example.com\0.evil.test", b"vpn.example.com", False),
    (b"vpn example.com", b"vpn example.com", False),
    (b"vpn\xc3\xa9.example.com", b"vpn\xc3\xa9.example.com", False),
    (b"", b"", False),
    (b"*", b"*", False),
    (b"*.example.com", b"vpn.example.com", True),
    (b"*.EXAMPLE.com", b"vpn.example.COM", True),
    (b"*.example.com", b"example.com", False),
    (b"*.example.com", b"a.b.example.com", False),
    (b"*.example.com", b"*.example.com", False),
    (b"*.com", b"example.com", False),
    (b"*", b"localhost", False),
    (b"*.", b"localhost.", False),
    (b"vpn*.example.com", b"vpn1.example.com", False),
    (b"a.*.example.com", b"a.b.example.com", False),
    (b"*.*.com", b"a.b.com", False),
    (b"192.0.2.1", b"192.0.2.1", False),
    (b"a" * 64 + b".example.com", b"a" * 64 + b".example.com", False),
    (b".".join([b"a" * 60] * 5), b".".join([b"a" * 60] * 5), False),
    (b"localhost", b"localhost", True),
]


@pytest.mark.parametrize(("offered", "wanted", "expected"), HOSTS)
def test_host_names(offered: bytes, wanted: bytes, expected: bool) -> None:
    """C3, K10: ASCII without regard to case, one wildcard at most, and only names that have the form of a host."""
    assert proves(IdType.FQDN, offered, IdType.FQDN, wanted) is expected


@pytest.mark.parametrize(
    ("offered", "wanted", "expected"),
    [
        (b"alice@example.com", b"alice@Example.COM", True),
        (b"alice@example.com", b"Alice@example.com", False),
        (b"alice@example.com", b"bob@example.com", False),
        (b"alice@example.com", b"alice@example.com\0", False),
        (b"alice", b"alice", False),
        (b"a@b@example.com", b"a@b@example.com", False),
    ],
)
def test_mailboxes(offered: bytes, wanted: bytes, expected: bool) -> None:
    assert proves(IdType.RFC822_ADDR, offered, IdType.RFC822_ADDR, wanted) is expected


def test_addresses_have_their_length() -> None:
    """K10: an IPv4 identity of three bytes."""
    assert proves(IdType.IPV4_ADDR, bytes(4), IdType.IPV4_ADDR, bytes(4))
    assert proves(IdType.IPV6_ADDR, bytes(16), IdType.IPV6_ADDR, bytes(16))
    assert not proves(IdType.IPV4_ADDR, bytes(3), IdType.IPV4_ADDR, bytes(3))
    assert not proves(IdType.IPV6_ADDR, bytes(4), IdType.IPV6_ADDR, bytes(4))
    assert not proves(IdType.IPV6_ADDR, bytes(15) + b"\x01", IdType.IPV6_ADDR, bytes(16))


def test_distinguished_names() -> None:
    assert proves(IdType.DER_ASN1_DN, encode_name("CN=Gate"), IdType.DER_ASN1_DN, encode_name("CN=gate"))
    assert not proves(IdType.DER_ASN1_DN, encode_name("CN=Gate"), IdType.DER_ASN1_DN, b"garbage")


@pytest.mark.parametrize("offered", IdType)
@pytest.mark.parametrize("wanted", [*IdType, IdType(77)])
def test_kinds_never_mix(offered: IdType, wanted: IdType) -> None:
    value = b"example.com"
    assert proves(offered, value, wanted, value) is (offered == wanted and wanted in (IdType.FQDN, IdType.DER_ASN1_DN))


@pytest.mark.parametrize(
    ("id_type", "value", "text"),
    [
        (IdType.FQDN, b"vpn.example.com", "vpn.example.com"),
        (IdType.FQDN, b"vpn\0\x1b[31m", "vpn\\x00\\x1b[31m"),
        (IdType.RFC822_ADDR, b"\xff@example.com", "\\xff@example.com"),
        (IdType.IPV4_ADDR, bytes([192, 0, 2, 1]), "192.0.2.1"),
        (IdType.IPV4_ADDR, bytes(3), "IPV4_ADDR 000000"),
        (IdType.IPV6_ADDR, bytes(15) + b"\x01", "::1"),
        (IdType.DER_ASN1_DN, encode_name("C=CH, CN=x"), "C=CH, CN=x"),
        (IdType.KEY_ID, b"group", "KEY_ID 67726f7570"),
    ],
)
def test_identities_read_well_and_safely(id_type: IdType, value: bytes, text: str) -> None:
    """K10: shown escaped."""
    assert identity_text(id_type, value) == text
