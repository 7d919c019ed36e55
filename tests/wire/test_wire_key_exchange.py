import pytest

from ikeclient.errors import ParseError
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.registry import KeyExchangeId


def test_the_figure_of_section_3_4() -> None:
    payload = KePayload(method=KeyExchangeId.CURVE25519, data=b"\xaa" * 32)
    writer = Writer()
    payload.emit(writer)
    assert writer.bytes() == bytes.fromhex("001f 0000") + b"\xaa" * 32
    assert KePayload.parse(Reader(writer.bytes())) == payload


def test_reserved_bytes_of_a_key_share_are_ignored() -> None:
    """N8."""
    assert KePayload.parse(Reader(bytes.fromhex("001f ffff aa"))).data == b"\xaa"


@pytest.mark.parametrize("size", range(4))
def test_a_key_share_without_a_method_is_refused(size: int) -> None:
    with pytest.raises(ParseError):
        KePayload.parse(Reader(bytes(size)))


def test_an_empty_key_share_is_for_the_key_exchange_to_refuse() -> None:
    """N9: whether data fits the group is decided where the group is known."""
    assert KePayload.parse(Reader(bytes.fromhex("001f0000"))).data == b""


@pytest.mark.parametrize("size", [0, 1, 15, 257, 1000])
def test_a_nonce_outside_16_to_256_bytes_is_refused(size: int) -> None:
    """N10: 0, 15, 257 bytes (RFC 7296 sections 2.10 and 3.9)."""
    with pytest.raises(ParseError, match=f"{size} bytes"):
        NoncePayload.parse(Reader(bytes(size)))


@pytest.mark.parametrize("size", [16, 32, 256])
def test_a_nonce_of_16_to_256_bytes_is_read(size: int) -> None:
    assert NoncePayload.parse(Reader(bytes(size))).nonce == bytes(size)
