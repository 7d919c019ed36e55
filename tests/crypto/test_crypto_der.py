"""The DER reader takes exactly DER."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.pki import der
from ikeclient.errors import ParseError


@given(tag=st.integers(0, 30), inner=st.binary(max_size=400), rest=st.binary(max_size=5))
def test_what_is_encoded_is_read_back(tag: int, inner: bytes, rest: bytes) -> None:
    encoded = der.encode(tag, inner)
    assert der.element(encoded + rest) == (tag, inner, encoded, rest)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_lengths_are_minimal(length: int) -> None:
    encoded = der.encode(der.SEQUENCE, bytes(length))
    assert der.only(encoded, der.SEQUENCE) == bytes(length)
    with pytest.raises(ParseError):
        der.element(encoded[:-1] if length else encoded[:1])


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "30",
        "3080",
        "30800000",  # indefinite
        "308100",
        "30817f" + "00" * 127,  # the short form would do
        "30820080" + "00" * 128,  # a leading zero
        "30850000000001" + "00",
        "30ff",
        "3081",
        "1f0100",  # a tag of two bytes
        "300201",
    ],
)
def test_what_is_not_der_is_refused(encoded: str) -> None:
    """C12: garbage and indefinite lengths."""
    with pytest.raises(ParseError):
        der.element(bytes.fromhex(encoded))


@pytest.mark.parametrize(("content", "value"), [("00", 0), ("7f", 127), ("0080", 128), ("0100", 256)])
def test_integers(content: str, value: int) -> None:
    assert der.integer(bytes.fromhex(content)) == value


@pytest.mark.parametrize("content", ["", "80", "ff", "007f", "0000"])
def test_negative_and_padded_integers_are_refused(content: str) -> None:
    with pytest.raises(ParseError):
        der.integer(bytes.fromhex(content))


def test_tags_and_leftovers_are_checked() -> None:
    with pytest.raises(ParseError, match="where 0x31 belongs"):
        der.only(b"\x30\x00", der.SET)
    with pytest.raises(ParseError, match="1 bytes follow"):
        der.only(b"\x30\x00\x00", der.SEQUENCE)
    assert list(der.elements(b"\x02\x01\x05\x04\x00")) == [(2, b"\x05"), (4, b"")]


def test_an_object_identifier_that_has_no_end_is_refused() -> None:
    """C12: a number of thousands of digits is no text, and takes long to become one."""
    with pytest.raises(ParseError, match="too long"):
        der.dotted(b"\x2a" + b"\xff" * 3_000 + b"\x01")


@given(st.binary(max_size=60))
def test_arbitrary_bytes_raise_parse_error_and_nothing_else(data: bytes) -> None:
    try:
        _, inner, whole, rest = der.element(data)
    except ParseError:
        return
    assert whole + rest == data
    assert whole.endswith(inner)
