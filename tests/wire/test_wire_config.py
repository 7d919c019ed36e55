import pytest

from ikeclient.errors import ParseError
from ikeclient.wire.config import ConfigAttribute, ConfigPayload
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.registry import ConfigAttributeType, ConfigType

VECTOR = bytes.fromhex("02 000000 0001 0004 0a580001 0019 000c") + b"corp.example"
PAYLOAD = ConfigPayload(
    type=ConfigType.REPLY,
    attributes=(
        ConfigAttribute(type=ConfigAttributeType.INTERNAL_IP4_ADDRESS, value=bytes((10, 88, 0, 1))),
        ConfigAttribute(type=ConfigAttributeType.INTERNAL_DNS_DOMAIN, value=b"corp.example"),
    ),
)


def test_the_figures_of_section_3_15() -> None:
    writer = Writer()
    PAYLOAD.emit(writer)
    assert writer.bytes() == VECTOR
    assert ConfigPayload.parse(Reader(VECTOR)) == PAYLOAD


def test_reserved_bits_are_ignored() -> None:
    """N8: three bytes of the payload and the top bit of every attribute's type."""
    body = VECTOR[:1] + b"\xff\xff\xff\x80" + VECTOR[5:]
    assert ConfigPayload.parse(Reader(body)) == PAYLOAD


def test_a_request_without_values_asks_for_anything() -> None:
    payload = ConfigPayload.parse(Reader(bytes.fromhex("01 000000 0001 0000 0008 0000")))
    assert payload.type == ConfigType.REQUEST
    assert [attribute.value for attribute in payload.attributes] == [b"", b""]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "02",
        "020000",
        "02000000 00",
        "02000000 0001",
        "02000000 000100",
        "02000000 00010004 0a5800",
        "02000000 0001ffff",
    ],
)
def test_an_attribute_past_the_end_is_refused(body: str) -> None:
    """K12, N6."""
    with pytest.raises(ParseError):
        ConfigPayload.parse(Reader(bytes.fromhex(body)))


def test_attributes_of_any_length_and_type_are_values() -> None:
    """K12: what an address of five bytes means is decided where addresses are."""
    payload = ConfigPayload.parse(Reader(bytes.fromhex("63000000 0001 0005 0a58000100 7fff 0001 41")))
    assert payload.type == ConfigType(99)
    assert payload.attributes[0].value == bytes.fromhex("0a58000100")
    assert str(payload.attributes[1].type) == "ConfigAttributeType_32767"
