import pytest

from ikeclient.errors import ParseError
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.notify import DeletePayload, EapPayload, NotifyPayload, VendorIdPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import NotifyType, ProtocolId


def written(payload: Payload) -> bytes:
    writer = Writer()
    payload.emit(writer)
    return writer.bytes()


def test_the_figure_of_section_3_10() -> None:
    rekey = NotifyPayload(type=NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=bytes.fromhex("c0ffee00"))
    assert written(rekey) == bytes.fromhex("03 04 4009 c0ffee00")
    cookie = NotifyPayload(type=NotifyType.COOKIE, data=b"crumbs")
    assert written(cookie) == bytes.fromhex("00 00 4006") + b"crumbs"
    for payload in (rekey, cookie):
        assert NotifyPayload.parse(Reader(written(payload))) == payload


@pytest.mark.parametrize("body", ["", "00", "0000", "000040", "03044009c0ffee", "00ff4006", "00ff4006" + "00" * 254])
def test_a_notification_shorter_than_it_says_is_refused(body: str) -> None:
    with pytest.raises(ParseError, match="truncated"):
        NotifyPayload.parse(Reader(bytes.fromhex(body)))


def test_a_private_notification_is_a_value() -> None:
    """K15, S11: policy ignores it."""
    notify = NotifyPayload.parse(Reader(bytes.fromhex("0000 a009") + b"\x1b]0;x\x07"))
    assert str(notify.type) == "NotifyType_40969"
    assert not notify.type.is_error


def test_the_figure_of_section_3_11() -> None:
    children = DeletePayload(protocol=ProtocolId.ESP, spi_length=4, spis=(b"\0\0\1\0", b"\0\0\1\1"))
    assert written(children) == bytes.fromhex("03 04 0002 00000100 00000101")
    ike_sa = DeletePayload(protocol=ProtocolId.IKE)
    assert written(ike_sa) == bytes.fromhex("01 00 0000")
    for payload in (children, ike_sa):
        assert DeletePayload.parse(Reader(written(payload))) == payload


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("one SPI more than there is", "03 04 0002 00000100"),
        ("one SPI less", "03 04 0001 00000100 00000101"),
        ("65535 SPIs", "03 04 ffff 00000100"),
        ("SPIs of 255 bytes", "03 ff 0001 00000100"),
        ("an SPI cut short", "03 04 0001 000001"),
        ("SPIs without a length", "01 00 0001"),
        ("65535 SPIs without a length", "03 00 ffff"),
        ("a length without SPIs, but with bytes", "03 04 0000 00000100"),
        ("no count", "03 04 00"),
        ("nothing", ""),
    ],
)
def test_a_delete_that_disagrees_with_its_length_is_refused(what: str, body: str) -> None:
    """S4: SPI count overrun."""
    with pytest.raises(ParseError):
        DeletePayload.parse(Reader(bytes.fromhex(body)))


def test_a_delete_of_any_protocol_and_size_is_a_value() -> None:
    """S4: 65535 SPIs, wrong protocol, wrong size; whether they name anything is for the IKE SA to say."""
    many = DeletePayload.parse(Reader(bytes.fromhex("02 01 ffff") + bytes(65535)))
    assert len(many.spis) == 65535
    assert many.protocol == ProtocolId.AH
    assert DeletePayload.parse(Reader(bytes.fromhex("63 08 0001") + bytes(8))).spis == (bytes(8),)
    assert DeletePayload.parse(Reader(bytes.fromhex("03 04 0000"))).spis == ()


def test_vendor_id_and_eap_are_opaque() -> None:
    for payload, body in ((VendorIdPayload(data=b"strong"), b"strong"), (EapPayload(packet=b"\1\2\0\4"), b"\1\2\0\4")):
        assert written(payload) == body
        assert type(payload).parse(Reader(body)) == payload
    assert VendorIdPayload.parse(Reader(b"")).data == b""


def test_an_eap_packet_does_not_show_in_a_repr() -> None:
    """F12: a response may carry a password."""
    assert "CANARY" not in repr(EapPayload(packet=b"S3cr3t-CANARY"))
