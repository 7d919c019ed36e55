"""Distinguished names: how they read, and when two are the same."""

from __future__ import annotations

import time

import pytest
from certificate_factory import name
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.pki import der
from ikeclient.crypto.pki.names import encode_name, mailboxes, name_text, normalise, same_name
from ikeclient.errors import ParseError

FULL = "C=CH, O=Example \\+ Sons\\, Inc., OU=Back\\\\slash, CN=vpn.example.com, emailAddress=a@example.com, DC=example"


def one_attribute(kind: str, tag: int, value: bytes) -> bytes:
    pair = der.encode(der.SEQUENCE, der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex(kind)) + der.encode(tag, value))
    return der.encode(der.SEQUENCE, der.encode(der.SET, pair))


def test_a_name_reads_in_its_own_order() -> None:
    assert name_text(name("vpn").public_bytes()) == "C=CH, O=Test, CN=vpn"


def test_text_survives_a_round_trip() -> None:
    assert name_text(encode_name(FULL)) == FULL


def test_written_names_are_the_names_of_certificates() -> None:
    assert encode_name("c=CH,o=Test,cn=vpn") == name("vpn").public_bytes()
    several = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, "Ä"),
                    x509.NameAttribute(NameOID.USER_ID, "u", _type=_ASN1Type.UTF8String),
                ]
            ),
            x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@b.example")]),
        ]
    )
    assert encode_name("UID=u + CN=Ä, E=a@b.example") == several.public_bytes()


@pytest.mark.parametrize(
    "text", ["", "vpn.example.com", "CN=", "XX=1", "CN=a,", "CN=a,,O=b", "=a", "CN=a+", "CN=a\0b=\0,"]
)
def test_what_is_no_name_cannot_be_written(text: str) -> None:
    with pytest.raises(ParseError, match="is not an attribute"):
        encode_name(text)


def test_string_type_case_and_spacing_do_not_matter() -> None:
    """RFC 5280 section 7.1."""
    printable_string = one_attribute("550403", 0x13, b"Example  Gateway ")
    utf8_string = one_attribute("550403", 0x0C, b"example GATEWAY")
    bmp_string = one_attribute("550403", 0x1E, "EXAMPLE gateway".encode("utf-16-be"))
    assert same_name(printable_string, utf8_string)
    assert same_name(printable_string, bmp_string)
    assert not same_name(printable_string, one_attribute("55040a", 0x13, b"Example Gateway"))
    assert not same_name(printable_string, one_attribute("550403", 0x13, b"Example Gatewa"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Z\u00fcrich", "Zu\u0308rich"),
        ("Z\u00fcrich", "ZU\u0308RICH"),
        ("Stra\u00dfe", "STRASSE"),
        ("Example", "Exam\u00adple"),
        ("Example", "\u200bExample\ufeff"),
        ("Example", "\uff25\uff58ample"),
        ("Example AG", "Example\u00a0\u3000AG"),
        ("\ufb01nance", "FINANCE"),
    ],
)
def test_the_form_of_unicode_does_not_matter(one: str, other: str) -> None:
    """C9, RFC 5280 section 7.1: else an excluded name comes back in other clothes."""
    assert same_name(one_attribute("55040a", 0x0C, one.encode()), one_attribute("55040a", 0x0C, other.encode()))
    assert same_name(
        one_attribute("55040a", 0x0C, one.encode()), one_attribute("55040a", 0x1E, other.encode("utf-16-be"))
    )


@pytest.mark.parametrize(("one", "other"), [("Z\u00fcrich", "Zurich"), ("Example", "Ex ample"), ("vpn", "\u0475pn")])
def test_other_letters_do(one: str, other: str) -> None:
    assert not same_name(one_attribute("55040a", 0x0C, one.encode()), one_attribute("55040a", 0x0C, other.encode()))


def test_marks_in_disorder_cost_little() -> None:
    """C19: 20,000 of them took 0.6 seconds to put into order."""
    marks = one_attribute("55040a", 0x0C, ("\u0301" * 10_000 + "\u0316" * 10_000).encode())
    before = time.process_time()
    normalise(marks)
    assert time.process_time() - before < 0.1


def test_order_matters_between_parts_but_not_within_one() -> None:
    assert not same_name(encode_name("O=a, CN=b"), encode_name("CN=b, O=a"))
    assert same_name(encode_name("O=a + CN=b"), encode_name("CN=b+O=a"))


def test_a_value_that_cannot_be_decoded_equals_no_text() -> None:
    broken = one_attribute("550403", 0x0C, b"\xff\xfe")
    assert not same_name(broken, one_attribute("550403", 0x0C, name_text(broken).partition("=")[2].encode()))
    assert same_name(broken, broken)
    assert name_text(broken) == "CN=#0cfffe"


def test_garbage_equals_nothing_and_prints_as_hexadecimal() -> None:
    """K10: a distinguished name that is garbage."""
    assert not same_name(b"garbage", name("vpn").public_bytes())
    assert not same_name(name("vpn").public_bytes(), b"")
    assert name_text(b"garbage") == "#" + b"garbage".hex()
    for broken in (b"", b"\x30\x02\x31\x00", b"\x31\x00", name("vpn").public_bytes() + b"\0"):
        with pytest.raises(ParseError):
            normalise(broken)


def test_hostile_values_are_escaped() -> None:
    """K15."""
    text = name_text(one_attribute("550403", 0x0C, "\x1b[2J\r\n\u202egnp.exe".encode()))
    assert text == "CN=\\x1b[2J\\r\\n\\u202egnp.exe"
    assert name_text(encode_name(f"CN={'x' * 300}")) == "CN=" + "x" * 252 + "\u2026"


def test_mailboxes_are_found() -> None:
    assert mailboxes(encode_name("CN=a, E=a@example.com, E=b@example.com")) == ["a@example.com", "b@example.com"]


@given(st.binary(max_size=60))
def test_arbitrary_bytes_never_raise_while_printing_or_comparing(data: bytes) -> None:
    assert name_text(data).isprintable()
    assert not same_name(data, encode_name("CN=x"))
