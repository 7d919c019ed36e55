import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.errors import ParseError
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.registry import EapCode, EapType

# Packets of a conversation between strongSwan 5.9.8 and itself.
VECTORS = {
    "0100000501": EapPacket(code=EapCode.REQUEST, identifier=0, type=EapType.IDENTITY),
    "0200000a01616c696365": EapPacket(code=EapCode.RESPONSE, identifier=0, type=EapType.IDENTITY, data=b"alice"),
    "028a00061a03": EapPacket(code=EapCode.RESPONSE, identifier=0x8A, type=EapType.MSCHAPV2, data=b"\x03"),
    "038a0004": EapPacket(code=EapCode.SUCCESS, identifier=0x8A),
    "04000004": EapPacket(code=EapCode.FAILURE, identifier=0),
}

PACKETS = st.one_of(
    st.builds(
        EapPacket,
        code=st.sampled_from([EapCode.REQUEST, EapCode.RESPONSE]),
        identifier=st.integers(0, 255),
        type=st.integers(1, 255).map(EapType),
        data=st.binary(min_size=7, max_size=80),
    ),
    st.builds(EapPacket, code=st.sampled_from([EapCode.SUCCESS, EapCode.FAILURE]), identifier=st.integers(0, 255)),
)


@pytest.mark.parametrize("wire", VECTORS)
def test_recorded_packets_are_read_and_written(wire: str) -> None:
    assert EapPacket.parse(bytes.fromhex(wire)) == VECTORS[wire]
    assert VECTORS[wire].emit().hex() == wire


@pytest.mark.parametrize(
    ("wire", "complaint"),
    [
        ("", "0 bytes"),
        ("010000", "3 bytes"),
        ("01000000", "length of 0"),
        ("0100000301", "length of 3"),
        ("0100000601", "length of 6"),
        ("010000050100", "length of 5"),
        ("0000000501", "code 0"),
        ("0500000501", "code 5"),
        ("ff000004", "code 255"),
        ("01000004", "without a type"),
        ("02000004", "without a type"),
        ("0100000500", "without a type"),
        ("03000005ff", "SUCCESS with data"),
        ("04000005ff", "FAILURE with data"),
        ("01000005fe", "expanded"),
        ("0100000bfe000000000000", "expanded"),
    ],
)
def test_a_packet_without_its_structure_is_refused(wire: str, complaint: str) -> None:
    """E3: length below 4 or wrong, code 0 or 5, type 0, truncated expanded type."""
    with pytest.raises(ParseError, match=complaint):
        EapPacket.parse(bytes.fromhex(wire))


def test_a_whole_expanded_type_is_read() -> None:
    """E3: the counterpart, RFC 3748 section 5.7."""
    packet = EapPacket.parse(bytes.fromhex("0107000cfe00013700000001"))
    assert (packet.type, packet.data) == (EapType.EXPANDED, bytes.fromhex("00013700000001"))


def test_an_unknown_type_is_a_value() -> None:
    packet = EapPacket.parse(bytes.fromhex("01000006c8aa"))
    assert packet.type == 200
    assert packet.type is not None
    assert not packet.type.known


@pytest.mark.parametrize(
    "fields",
    [
        {"code": EapCode(9)},
        {"code": EapCode.REQUEST},
        {"code": EapCode.SUCCESS, "type": EapType.IDENTITY},
        {"code": EapCode.SUCCESS, "data": b"x"},
        {"code": EapCode.REQUEST, "type": EapType(256)},
        {"code": EapCode.REQUEST, "type": EapType.EXPANDED, "data": b"short"},
        {"code": EapCode.REQUEST, "type": EapType.GTC, "data": bytes(65531)},
        {"code": EapCode.REQUEST, "type": EapType.GTC, "identifier": 256},
    ],
)
def test_a_packet_that_cannot_be_on_the_wire_cannot_be_made(fields: dict) -> None:
    with pytest.raises(ValueError, match="EAP"):
        EapPacket(**({"identifier": 0} | fields))


def test_the_largest_packet_survives() -> None:
    packet = EapPacket(code=EapCode.REQUEST, identifier=1, type=EapType.GTC, data=bytes(65530))
    assert EapPacket.parse(packet.emit()) == packet


def test_the_data_of_a_response_is_not_in_its_repr() -> None:
    packet = EapPacket(code=EapCode.RESPONSE, identifier=1, type=EapType.GTC, data=b"canary-password")
    assert "canary" not in repr(packet)


@given(PACKETS)
def test_parse_undoes_emit(packet: EapPacket) -> None:
    assert EapPacket.parse(packet.emit()) == packet


@given(PACKETS)
def test_every_proper_prefix_and_every_extension_is_refused(packet: EapPacket) -> None:
    wire = packet.emit()
    for end in range(len(wire)):
        with pytest.raises(ParseError):
            EapPacket.parse(wire[:end])
    with pytest.raises(ParseError):
        EapPacket.parse(wire + b"\0")


@given(PACKETS, st.data())
def test_a_mutation_gives_a_value_that_emits_itself_or_a_parse_error(packet: EapPacket, data: st.DataObject) -> None:
    wire = bytearray(packet.emit())
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        mutated = EapPacket.parse(bytes(wire))
    except ParseError:
        return
    assert mutated.emit() == wire


@given(st.binary(max_size=40))
def test_arbitrary_bytes_give_a_value_or_a_parse_error(wire: bytes) -> None:
    try:
        packet = EapPacket.parse(wire)
    except ParseError:
        return
    assert packet.emit() == wire
