"""How identities are written, and which names of a certificate prove which of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.pki.identity import identity_text, parse_identity, proves
from ikeclient.crypto.pki.names import encode_name
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
        (IdType.RFC822_ADDR, b"\xff@example.com", "email:#ff406578616d706c652e636f6d"),
        (IdType.IPV4_ADDR, bytes([192, 0, 2, 1]), "192.0.2.1"),
        (IdType.IPV4_ADDR, bytes(3), "{1}:#000000"),
        (IdType.IPV6_ADDR, bytes(15) + b"\x01", "::1"),
        (IdType.DER_ASN1_DN, encode_name("C=CH, CN=x"), "C=CH, CN=x"),
        (IdType.KEY_ID, b"group", "keyid:group"),
        (IdType.KEY_ID, b"\0\x01", "keyid:#0001"),
        (IdType(200), b"\x01", "{200}:#01"),
    ],
)
def test_identities_read_well_and_safely(id_type: IdType, value: bytes, text: str) -> None:
    """K10: shown escaped."""
    assert identity_text(id_type, value) == text


WRITTEN = [
    ("vpn.example.com", IdType.FQDN, b"vpn.example.com"),
    ("@vpn.example.com", IdType.FQDN, b"vpn.example.com"),
    ("fqdn:vpn.example.com", IdType.FQDN, b"vpn.example.com"),
    ("dns:vpn.example.com", IdType.FQDN, b"vpn.example.com"),
    ("FQDN: 10.0.0.1", IdType.FQDN, b"10.0.0.1"),
    ("@10.0.0.1", IdType.FQDN, b"10.0.0.1"),
    ("fqdn:alice@example.com", IdType.FQDN, b"alice@example.com"),
    ("@C=CH, CN=x", IdType.FQDN, b"C=CH, CN=x"),
    ("fqdn:#c0ffee", IdType.FQDN, b"\xc0\xff\xee"),
    ("Filiale Zürich", IdType.FQDN, "Filiale Zürich".encode()),
    ("z\u00fcrich.example", IdType.FQDN, "zürich.example".encode()),
    ("拠点7", IdType.FQDN, "拠点7".encode()),
    ("DOMAIN\\alice", IdType.FQDN, b"DOMAIN\\alice"),
    ("branch:7", IdType.FQDN, b"branch:7"),
    ("alice@example.com", IdType.RFC822_ADDR, b"alice@example.com"),
    ("josé@example.com", IdType.RFC822_ADDR, "josé@example.com".encode()),
    ("@@alice", IdType.RFC822_ADDR, b"alice"),
    ("email:alice", IdType.RFC822_ADDR, b"alice"),
    ("rfc822:alice@example.com", IdType.RFC822_ADDR, b"alice@example.com"),
    ("userfqdn:alice@example.com", IdType.RFC822_ADDR, b"alice@example.com"),
    ("keyid:branch-7", IdType.KEY_ID, b"branch-7"),
    ("keyid:Zürich", IdType.KEY_ID, "Zürich".encode()),
    ("keyid:10.0.0.1", IdType.KEY_ID, b"10.0.0.1"),
    ("keyid:#01:02:ff", IdType.KEY_ID, b"\x01\x02\xff"),
    ("@#0102ff", IdType.KEY_ID, b"\x01\x02\xff"),
    ("@#0x0102FF", IdType.KEY_ID, b"\x01\x02\xff"),
    ("@[group one]", IdType.KEY_ID, b"group one"),
    ("192.0.2.1", IdType.IPV4_ADDR, bytes((192, 0, 2, 1))),
    ("ipv4:192.0.2.1", IdType.IPV4_ADDR, bytes((192, 0, 2, 1))),
    ("ipv4:#c0000201", IdType.IPV4_ADDR, bytes((192, 0, 2, 1))),
    ("2001:db8::1", IdType.IPV6_ADDR, bytes.fromhex("20010db8000000000000000000000001")),
    ("ipv6:::1", IdType.IPV6_ADDR, bytes(15) + b"\x01"),
    ("C=CH, CN=x", IdType.DER_ASN1_DN, encode_name("C=CH, CN=x")),
    ("asn1dn:C=CH, CN=Zürich", IdType.DER_ASN1_DN, encode_name("C=CH, CN=Zürich")),
    ("/C=CH/CN=x", IdType.DER_ASN1_DN, encode_name("C=CH, CN=x")),
    ("asn1dn:#3000", IdType.DER_ASN1_DN, b"\x30\x00"),
    ("@~3000", IdType.DER_ASN1_DN, b"\x30\x00"),
    ("{200}:#0102", IdType(200), b"\x01\x02"),
]


@pytest.mark.parametrize(("text", "id_type", "value"), WRITTEN, ids=[text for text, *_ in WRITTEN])
def test_what_people_write_has_one_meaning_and_can_be_written_back(text: str, id_type: IdType, value: bytes) -> None:
    """G16: types by their form, by prefixes and by the signs of strongSwan and libreswan; UTF-8."""
    assert parse_identity(text) == (id_type, value)
    assert parse_identity(identity_text(id_type, value)) == (id_type, value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("\x1b[2J", "control character"),
        ("fqdn:", "nothing behind its type"),
        ("keyid:#", "nothing behind the #"),
        ("@@", "nothing"),
        ("@", "nothing"),
        ("@#zz", "not hexadecimal"),
        ("keyid:#123", "not hexadecimal"),
        ("ipv4:example.com", "not an address"),
        ("ipv4:2001:db8::1", "other family"),
        ("ipv6:192.0.2.1", "other family"),
        ("ipv4:#01", "wrong length"),
        ("asn1dn:vpn.example.com", "not an attribute"),
        ("C=CH, XYZ=1", "not an attribute"),
        ("%any", "no particular identity"),
        ("keydi:branch", "did you mean keyid:"),
        ("fqnd:vpn.example.com", "did you mean fqdn:"),
        ("e-mail:alice@example.com", "did you mean email:"),
    ],
)
def test_what_is_no_identity_says_why(text: str, why: str) -> None:
    """G16"""
    with pytest.raises(ValueError, match=re.escape(why)):
        parse_identity(text)


@given(st.sampled_from([IdType.FQDN, IdType.RFC822_ADDR, IdType.KEY_ID]), st.text(min_size=1, max_size=60))
def test_any_printable_text_of_any_type_can_be_written_back(id_type: IdType, text: str) -> None:
    """G16"""
    shown = identity_text(id_type, text.encode("utf-8", "surrogatepass"))
    assert shown.isprintable()
    if text.isprintable():
        assert parse_identity(shown) == (id_type, text.encode())


@given(st.text(max_size=40))
def test_any_text_is_an_identity_or_none(text: str) -> None:
    try:
        found = parse_identity(text)
    except ValueError:
        return
    assert parse_identity(identity_text(*found)) == found or found[0] == IdType.DER_ASN1_DN
