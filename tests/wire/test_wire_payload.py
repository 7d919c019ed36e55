"""The laws that hold for every payload, for chains of them and for whole messages."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors.recordings import DATAGRAMS, RECORDINGS, header_words, in_words
from wire_values import ENVELOPES, EVERY, PAYLOADS, chains, edited, message_of, messages, u8, with_true_length

from ikeclient.errors import ParseError
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.encrypted import EncryptedPayload
from ikeclient.wire.header import HEADER_LENGTH
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import DeletePayload, VendorIdPayload
from ikeclient.wire.payload import (
    MAX_PAYLOADS,
    Message,
    Payload,
    RawPayload,
    emit_chain,
    first_type,
    parse_chain,
    unknown_critical,
)
from ikeclient.wire.registry import KeyExchangeId, PayloadType, ProtocolId
from ikeclient.wire.sa import SaPayload
from ikeclient.wire.selector import TsiPayload, TsrPayload

KINDS = sorted(EVERY)
UNKNOWN = PayloadType(200)


def framed(payload: Payload) -> bytes:
    """One payload as a chain of its own."""
    return emit_chain((payload,))


def body_of(payload: Payload) -> bytes:
    writer = Writer()
    payload.emit(writer)
    return writer.bytes()


# Every kind of payload


@given(st.data())
@settings(max_examples=1)
def test_no_kind_of_payload_is_left_out_here(data: st.DataObject) -> None:
    known = {data.draw(EVERY[kind]).TYPE for kind in KINDS if kind != "RawPayload"}
    assert known == set(PayloadType) - {PayloadType.NONE}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_what_was_written_reads_back_the_same(kind: str, data: st.DataObject) -> None:
    payload = data.draw(EVERY[kind])
    assert parse_chain(framed(payload), payload.TYPE) == (payload,)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_proper_prefix_of_a_framed_payload_is_refused(kind: str, data: st.DataObject) -> None:
    payload = data.draw(EVERY[kind])
    whole = framed(payload)
    for size in range(len(whole)):
        with pytest.raises(ParseError):
            parse_chain(whole[:size], payload.TYPE)


@pytest.mark.parametrize(
    ("kind", "parse"),
    [
        ("SaPayload", SaPayload.parse),
        ("TsiPayload", TsiPayload.parse),
        ("TsrPayload", TsrPayload.parse),
        ("DeletePayload", DeletePayload.parse),
    ],
)
@given(data=st.data())
def test_every_proper_prefix_of_a_body_with_counts_is_refused(
    kind: str, parse: Callable[[Reader], Payload], data: st.DataObject
) -> None:
    """The other kinds end in opaque bytes or a list without a count: a prefix of their body can be legal."""
    body = body_of(data.draw(PAYLOADS[kind]))
    for size in range(len(body)):
        with pytest.raises(ParseError):
            parse(Reader(body[:size]))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_edited_bytes_give_a_value_or_a_parse_error(kind: str, data: st.DataObject) -> None:
    payload = data.draw(EVERY[kind])
    chain = data.draw(edited(framed(payload)))
    try:
        read = parse_chain(chain, payload.TYPE)
    except ParseError:
        return
    assert parse_chain(emit_chain(read), first_type(read)) == read


@pytest.mark.parametrize("kind", sorted(PAYLOADS.keys() - {"RawPayload"}))
@given(data=st.data(), reserved=u8)
def test_reserved_bits_of_the_generic_header_are_ignored_and_written_as_zero(
    kind: str, data: st.DataObject, reserved: int
) -> None:
    """N8; the critical bit too means nothing on a payload that we understand (RFC 7296 section 2.5)."""
    payload = data.draw(PAYLOADS[kind])
    whole = framed(payload)
    assert whole[1] == 0
    assert parse_chain(whole[:1] + bytes((reserved,)) + whole[2:], payload.TYPE) == (payload,)


@given(PAYLOADS["RawPayload"], st.integers(0, 0x7F))
def test_unknown_payloads_survive_byte_for_byte(payload: RawPayload, reserved: int) -> None:
    whole = framed(payload)
    (read,) = parse_chain(whole, payload.TYPE)
    assert emit_chain((read,)) == whole
    # N8: of the flags only the critical bit means anything.
    (read,) = parse_chain(whole[:1] + bytes((whole[1] | reserved,)) + whole[2:], payload.TYPE)
    assert read == payload
    assert emit_chain((read,)) == whole


# Chains


@given(chains())
def test_a_chain_that_was_written_reads_back_the_same(payloads: tuple[Payload, ...]) -> None:
    assert parse_chain(emit_chain(payloads), first_type(payloads)) == payloads


@given(chains(), st.binary(min_size=1, max_size=8))
def test_bytes_after_the_chain_are_refused(payloads: tuple[Payload, ...], more: bytes) -> None:
    with pytest.raises(ParseError):
        parse_chain(emit_chain(payloads) + more, first_type(payloads))


@pytest.mark.parametrize("length", range(4))
@pytest.mark.parametrize("type_", [*PayloadType, UNKNOWN][1:], ids=str)
def test_a_payload_shorter_than_its_own_header_is_refused(type_: PayloadType, length: int) -> None:
    """N6: length < 4."""
    for following in (PayloadType.NONE, type_):
        with pytest.raises(ParseError):
            parse_chain(bytes((following, 0, 0, length)) + bytes(16), type_)


def test_a_payload_past_the_end_is_refused() -> None:
    """N6."""
    with pytest.raises(ParseError, match="a length of 97 where 96 bytes are left"):
        parse_chain(bytes((0, 0, 0, 101)) + bytes(96), PayloadType.VENDOR_ID)


def test_a_chain_that_names_itself_for_ever_ends_with_the_bytes() -> None:
    """N6: the loop is in the types only; every payload has its own bytes."""
    loop = bytes((PayloadType.VENDOR_ID, 0, 0, 4))
    with pytest.raises(ParseError, match="truncated"):
        parse_chain(loop * 100, PayloadType.VENDOR_ID)


def test_255_payloads_are_read_and_one_more_is_refused() -> None:
    """N6: a chain longer than 255."""
    empty = VendorIdPayload(data=b"")
    assert len(parse_chain(emit_chain([empty] * MAX_PAYLOADS), PayloadType.VENDOR_ID)) == 255
    with pytest.raises(ParseError, match="more than 255"):
        parse_chain(emit_chain([empty] * (MAX_PAYLOADS + 1)), PayloadType.VENDOR_ID)


def test_ten_thousand_payloads_are_given_up_at_the_256th() -> None:
    """N6, K8: what lies behind is not even looked at, whether it is an envelope or no payload at all."""
    empty = bytes((UNKNOWN, 0, 0, 4))
    for rest in (empty * 10_000, bytes(10_000), bytes((PayloadType.ENCRYPTED_FRAGMENT, 0, 0, 4)) + bytes(36)):
        with pytest.raises(ParseError, match="more than 255"):
            parse_chain(empty * 255 + rest, UNKNOWN)


def test_nothing_may_follow_an_envelope() -> None:
    """RFC 7296 section 3.14: its Next Payload field names what is inside."""
    sealed = EncryptedPayload(inner=PayloadType.NOTIFY, body=bytes(32))
    with pytest.raises(ParseError, match="8 bytes too many"):
        parse_chain(emit_chain([sealed]) + emit_chain([VendorIdPayload(data=b"1234")]), PayloadType.ENCRYPTED)


@pytest.mark.parametrize("kind", sorted(ENVELOPES))
@given(data=st.data())
def test_an_envelope_keeps_the_type_of_what_is_inside(kind: str, data: st.DataObject) -> None:
    payload = data.draw(ENVELOPES[kind])
    assert framed(payload)[0] == payload.inner  # type: ignore[attr-defined]


def test_the_critical_bit_counts_on_unknown_payloads_alone() -> None:
    """N7, S11: what to do about it is decided by the receiver, from this one function."""
    harmless = RawPayload(TYPE=UNKNOWN, critical=False, body=b"x")
    critical = RawPayload(TYPE=PayloadType(201), critical=True, body=b"")
    assert unknown_critical((VendorIdPayload(data=b""), harmless)) is None
    assert unknown_critical((harmless, critical, RawPayload(TYPE=UNKNOWN, critical=True, body=b""))) == 201
    (read,) = parse_chain(bytes((0, 0x80, 0, 4)), PayloadType.VENDOR_ID)
    assert unknown_critical((read,)) is None


# Messages


@given(messages)
def test_a_message_that_was_written_reads_back_the_same(message: Message) -> None:
    assert Message.parse(message.emit()) == message


@given(messages)
@settings(max_examples=20)
def test_every_proper_prefix_of_a_message_is_refused(message: Message) -> None:
    """N1, N2."""
    whole = message.emit()
    for size in range(len(whole)):
        with pytest.raises(ParseError):
            Message.parse(whole[:size])
        if size >= HEADER_LENGTH:  # and also with a length that agrees
            with pytest.raises(ParseError):
                Message.parse(with_true_length(whole[:size]))


def test_an_empty_message_is_a_header() -> None:
    message = message_of(())
    assert Message.parse(message.emit()) == message
    assert len(message.emit()) == HEADER_LENGTH


def test_length_and_first_type_are_computed_when_a_message_is_written() -> None:
    lying = Message(header=message_of(()).header, payloads=(VendorIdPayload(data=b"1234"),))
    whole = lying.emit()
    assert whole[16] == PayloadType.VENDOR_ID
    assert int.from_bytes(whole[24:28], "big") == len(whole) == HEADER_LENGTH + 8


@given(st.sampled_from(sorted(DATAGRAMS)), st.data(), st.booleans())
@settings(max_examples=300)
def test_an_edited_message_gives_a_value_or_a_parse_error(name: str, data: st.DataObject, honest: bool) -> None:
    datagram = data.draw(edited(DATAGRAMS[name]))
    try:
        message = Message.parse(with_true_length(datagram) if honest else datagram)
    except ParseError:
        return
    assert Message.parse(message.emit()) == message


@given(st.binary(max_size=300), u8)
@settings(max_examples=300)
def test_noise_gives_a_value_or_a_parse_error(noise: bytes, first: int) -> None:
    for data in (noise, with_true_length(bytes(16) + bytes((first,)) + noise)):
        try:
            Message.parse(data)
        except ParseError:
            continue


def _bombs() -> dict[str, tuple[PayloadType, bytes]]:
    """The most structure that 64 KiB can hold, for each payload that has any."""
    proposals = bytes((2, 0, 0, 8, 1, 1, 0, 0)) * 8190 + bytes((0, 0, 0, 8, 1, 1, 0, 0))
    transforms = b"".join(bytes((3 if n < 254 else 0, 0, 0, 8, 1, 0, 0, 12)) for n in range(255))
    attributes = bytes.fromhex("800e0080") * 16_370
    selector = bytes.fromhex("07000010 0000ffff 00000000 ffffffff")
    return {
        "proposals": (PayloadType.SA, proposals),
        "transforms": (
            PayloadType.SA,
            bytes((0, 0, *(8 + len(transforms)).to_bytes(2, "big"), 1, 1, 0, 255)) + transforms,
        ),
        "attributes": (
            PayloadType.SA,
            bytes((0, 0, *(16 + len(attributes)).to_bytes(2, "big"), 1, 1, 0, 1))
            + bytes((0, 0, *(8 + len(attributes)).to_bytes(2, "big"), 1, 0, 0, 12))
            + attributes,
        ),
        "selectors": (PayloadType.TSI, bytes((255, 0, 0, 0)) + selector * 255),
        "configuration": (PayloadType.CONFIGURATION, bytes((2, 0, 0, 0)) + bytes((0, 1, 0, 0)) * 16_380),
        "spis": (PayloadType.DELETE, bytes((3, 1)) + (65_500).to_bytes(2, "big") + bytes(65_500)),
    }


@pytest.mark.parametrize("name", sorted(_bombs()))
def test_the_most_structure_that_fits_is_read_in_a_moment(name: str) -> None:
    """N6, K11, S4: work grows with the bytes, not faster. Processor time, so that a busy machine does not matter."""
    type_, body = _bombs()[name]
    chain = bytes((0, 0)) + (4 + len(body)).to_bytes(2, "big") + body
    before = time.process_time()
    (payload,) = parse_chain(chain, type_)
    assert emit_chain((payload,)) == chain
    assert time.process_time() - before < 1.0


# Real ones


@pytest.mark.parametrize("name", sorted(DATAGRAMS))
def test_recorded_messages_are_written_as_they_were_read(name: str) -> None:
    assert Message.parse(DATAGRAMS[name]).emit() == DATAGRAMS[name]


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_recorded_messages_mean_what_strongswan_says(name: str) -> None:
    for recorded in RECORDINGS[name].messages:
        message = Message.parse(recorded.data)
        assert f"{header_words(message)}: {in_words(message.payloads)}" == recorded.expect


def test_the_key_share_refused_in_a_recording_is_the_one_that_was_sent() -> None:
    """N17: INVALID_KE_PAYLOAD carries the group that the responder wants, in two bytes."""
    first, refusal, second, answer = (
        Message.parse(recorded.data).payloads for recorded in RECORDINGS["invalid-ke"].messages[:4]
    )

    def group(payloads: tuple[Payload, ...]) -> KeyExchangeId:
        return next(p.method for p in payloads if isinstance(p, KePayload))

    assert group(first) == KeyExchangeId.CURVE25519
    (notify,) = refusal
    assert notify.data == KeyExchangeId.ECP_384.to_bytes(2, "big")  # type: ignore[attr-defined]
    assert group(second) == group(answer) == KeyExchangeId.ECP_384


def test_a_recorded_cookie_comes_back_in_front_of_the_same_request() -> None:
    """RFC 7296 section 2.6."""
    first, demand, second = (Message.parse(r.data).payloads for r in RECORDINGS["cookie"].messages[:3])
    assert second == (*demand, *first)
    assert next(p for p in first if isinstance(p, NoncePayload)) in second


def test_a_recorded_offer_has_the_transforms_that_were_configured() -> None:
    """`aes256-sha256-modp2048` in the words of swanctl.conf; section 3.3.1: number 1, no SPI at first."""
    (offer,) = (p for p in Message.parse(RECORDINGS["psk-cbc"].messages[0].data).payloads if isinstance(p, SaPayload))
    (proposal,) = offer.proposals
    assert (proposal.number, proposal.protocol, proposal.spi) == (1, ProtocolId.IKE, b"")
    names = "AES_CBC_256 HMAC_SHA2_256_128 HMAC_SHA2_256 MODP_2048"
    assert " ".join(map(str, proposal.transforms)) == names
