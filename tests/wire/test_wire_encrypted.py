import pytest

from ikeclient.errors import ParseError
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.encrypted import EncryptedFragmentPayload, EncryptedPayload
from ikeclient.wire.registry import PayloadType


def test_the_figure_of_rfc_7383_section_2_5() -> None:
    payload = EncryptedFragmentPayload(inner=PayloadType.IDI, number=2, total=3, body=b"sealed")
    writer = Writer()
    payload.emit(writer)
    assert writer.bytes() == bytes.fromhex("0002 0003") + b"sealed"
    assert EncryptedFragmentPayload.parse(Reader(writer.bytes()), PayloadType.IDI) == payload


@pytest.mark.parametrize(("number", "total"), [(0, 1), (0, 0), (1, 0), (2, 1), (65535, 0), (65535, 65534), (0, 65535)])
def test_a_fragment_number_outside_1_to_total_is_refused(number: int, total: int) -> None:
    """K7: fragment 0, number > total, total 0 (RFC 7383 section 2.6)."""
    body = number.to_bytes(2, "big") + total.to_bytes(2, "big") + bytes(32)
    with pytest.raises(ParseError, match=f"fragment {number} of {total}"):
        EncryptedFragmentPayload.parse(Reader(body), PayloadType.NONE)


def test_a_total_of_65535_is_a_value_for_policy_to_refuse() -> None:
    """K7."""
    fragment = EncryptedFragmentPayload.parse(Reader(bytes.fromhex("ffff ffff")), PayloadType.NONE)
    assert (fragment.number, fragment.total, fragment.body) == (65535, 65535, b"")


@pytest.mark.parametrize("size", range(4))
def test_a_fragment_without_its_numbers_is_refused(size: int) -> None:
    with pytest.raises(ParseError):
        EncryptedFragmentPayload.parse(Reader(b"\1" * size), PayloadType.NONE)


def test_an_empty_encrypted_payload_is_for_the_cipher_to_refuse() -> None:
    """K2."""
    assert EncryptedPayload.parse(Reader(b""), PayloadType.NONE).body == b""
