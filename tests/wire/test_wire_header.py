from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_values import spis, u8, u32

from ikeclient.errors import ParseError
from ikeclient.wire.header import HEADER_LENGTH, Header
from ikeclient.wire.registry import ExchangeType, PayloadType

VECTOR = bytes.fromhex("0102030405060708 1112131415161718 21 20 22 20 00000000 0000001c")
HEADER = Header(
    spi_i=bytes.fromhex("0102030405060708"),
    spi_r=bytes.fromhex("1112131415161718"),
    next_payload=PayloadType.SA,
    exchange=ExchangeType.IKE_SA_INIT,
    initiator=False,
    response=True,
    message_id=0,
)

headers = st.builds(
    Header,
    spi_i=spis,
    spi_r=spis,
    next_payload=u8.map(PayloadType),
    exchange=u8.map(ExchangeType),
    initiator=st.booleans(),
    response=st.booleans(),
    message_id=u32,
    major=st.integers(0, 15),
    minor=st.integers(0, 15),
)


def test_the_28_bytes_of_section_3_1() -> None:
    assert Header.parse(VECTOR) == HEADER
    assert HEADER.emit() == VECTOR


@given(headers)
def test_a_header_that_was_written_reads_back_the_same(header: Header) -> None:
    assert Header.parse(header.emit()) == header


@pytest.mark.parametrize("size", range(HEADER_LENGTH))
def test_a_datagram_shorter_than_a_header_is_refused(size: int) -> None:
    """N1: 0 to 27 bytes."""
    with pytest.raises(ParseError):
        Header.parse(VECTOR[:size])


@pytest.mark.parametrize("length", [0, 1, 27, 29, 0xFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_length_other_than_the_datagrams_is_refused(length: int) -> None:
    """N2: shorter, longer, 0, 2^32-1."""
    with pytest.raises(ParseError, match="28"):
        Header.parse(VECTOR[:24] + length.to_bytes(4, "big"))


@pytest.mark.parametrize(("version", "major", "minor"), [(0x10, 1, 0), (0x30, 3, 0), (0x2F, 2, 15), (0xFF, 15, 15)])
def test_versions_are_told_not_judged(version: int, major: int, minor: int) -> None:
    """N5: what a foreign version means is decided by who receives it; the minor one never matters."""
    header = Header.parse(VECTOR[:17] + bytes((version,)) + VECTOR[18:])
    assert (header.major, header.minor) == (major, minor)
    assert replace(header, major=2, minor=0) == HEADER


def test_reserved_flags_are_ignored_when_read_and_zero_when_written() -> None:
    """N8: also the bit that tells of a higher version (section 3.1)."""
    for flags in range(256):
        header = Header.parse(VECTOR[:19] + bytes((flags,)) + VECTOR[20:])
        assert header.initiator == bool(flags & 0x08)
        assert header.response == bool(flags & 0x20)
        assert header.emit()[19] == flags & 0x28
