"""Two channels talk over a wire that loses, repeats, delays and forges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from ike_sealing import SPI_I, SPI_R, Forger, keys_of, stream, suite_of

from ikeclient.errors import ParseError
from ikeclient.ike.events import Datagram, Path
from ikeclient.ike.v2.keying import Keying
from ikeclient.ike.v2.message.channel import Channel
from ikeclient.ike.v2.message.payloads import Request
from ikeclient.wire.encrypted import EncryptedPayload
from ikeclient.wire.notify import DeletePayload, NotifyPayload, VendorIdPayload
from ikeclient.wire.payload import Message, Payload, RawPayload
from ikeclient.wire.registry import ExchangeType, NotifyType, PayloadType, ProtocolId

SUITE = "aes256gcm16"
PATH = Path(ip_address("192.0.2.2"), 4500, ip_address("192.0.2.1"), 4500)
BACK = Path(ip_address("192.0.2.1"), 4500, ip_address("192.0.2.2"), 4500)
MOVED = Path(ip_address("192.0.2.1"), 4500, ip_address("198.51.100.9"), 61234)
PATH_IPV6 = Path(ip_address("2001:db8::2"), 4500, ip_address("2001:db8::1"), 4500)
SMALL = (NotifyPayload(type=NotifyType.INITIAL_CONTACT),)
LARGE = (VendorIdPayload(data=bytes(3000)),)
REPLY = (DeletePayload(protocol=ProtocolId.IKE),)


def channels(
    name: str = SUITE, *, fragment: bool = True, size: int = 1280, path: Path = PATH, first: int = 0
) -> tuple[Channel, Channel]:
    """The initiator's channel and the responder's."""
    suite = suite_of(name)
    keying = Keying(spi_i=SPI_I, spi_r=SPI_R, suite=suite, keys=keys_of(suite), initiator=True, fragmentation=fragment)
    return (
        Channel(keying, path, stream("initiator"), fragment_size=size, first_request=first),
        Channel(replace(keying, initiator=False), BACK, stream("responder"), fragment_size=size, first_response=first),
    )


def asked(payloads: Sequence[Payload]) -> Request:
    return Request(exchange=ExchangeType.INFORMATIONAL, payloads=tuple(payloads))


def sent(channel: Channel) -> list[Datagram]:
    datagrams = list(channel.outbox)
    channel.outbox.clear()
    return datagrams


def taken(channel: Channel, datagram: Datagram, path: Path = BACK, now: float = 0.0) -> tuple[Payload, ...] | None:
    """Give a request to the channel that answers."""
    return channel.incoming(datagram.data, Message.parse(datagram.data), path, now)


def answered(channel: Channel, datagram: Datagram, now: float = 0.0) -> tuple[Payload, ...] | None:
    """Give an answer to the channel that asked."""
    return channel.response(datagram.data, Message.parse(datagram.data), now)


def exchanged(initiator: Channel, responder: Channel) -> tuple[Datagram, Datagram]:
    """A small request that was taken, and its answer that is on its way."""
    initiator.request(asked(SMALL), 0.0, 15.0)
    (request,) = sent(initiator)
    taken(responder, request)
    responder.answer(Message.parse(request.data).header, REPLY, BACK)
    (answer,) = sent(responder)
    return request, answer


@pytest.mark.parametrize("request_payloads", [SMALL, LARGE, ()])
@pytest.mark.parametrize("reply", [REPLY, LARGE, ()])
def test_a_request_is_answered_once(request_payloads: tuple[Payload, ...], reply: tuple[Payload, ...]) -> None:
    initiator, responder = channels()
    for message_id in range(3):
        initiator.request(asked(request_payloads), 0.0, 15.0)
        *parts, last = sent(initiator)
        assert [taken(responder, part) for part in parts] == [None] * len(parts)
        assert taken(responder, last) == request_payloads
        header = Message.parse(last.data).header
        assert (header.message_id, header.response, header.initiator) == (message_id, False, True)
        assert (header.spi_i, header.spi_r, header.exchange) == (SPI_I, SPI_R, ExchangeType.INFORMATIONAL)
        responder.answer(header, reply, BACK)
        *parts, last = sent(responder)
        assert [answered(initiator, part) for part in parts] == [None] * len(parts)
        assert answered(initiator, last) == reply
        header = Message.parse(last.data).header
        assert (header.message_id, header.response, header.initiator) == (message_id, True, False)
        assert initiator.requests.pending is None


@pytest.mark.parametrize("name", [SUITE, "aes256-sha256"])
@pytest.mark.parametrize("path", [PATH, PATH_IPV6])
def test_a_probe_fills_the_packet_it_is_about(name: str, path: Path) -> None:
    """RFC 8899: as nearly as the cipher's blocks allow, and in one piece although fragments are agreed on."""
    headers = (20 if path is PATH else 40) + 8 + 4
    for asked_for in (1280, 1500, 4000):
        initiator, responder = channels(name, path=path)
        padding, size = initiator.padding(asked_for)
        assert asked_for - 16 < size <= asked_for
        initiator.request(replace(asked((padding,)), dont_fragment=True), 0.0, 15.0)
        (datagram,) = sent(initiator)
        assert datagram.dont_fragment
        assert len(datagram.data) + headers == size
        assert taken(responder, datagram) == (padding,)


@pytest.mark.parametrize("arrives", ["at once", "the empty one", "both", "both, the long one first"])
def test_a_probe_that_is_lost_is_followed_by_something_that_passes(arrives: str) -> None:
    """The same message ID asks for the same answer; whichever comes first is the request."""
    initiator, responder = channels()
    padding, _ = initiator.padding(1500)
    initiator.request(replace(asked((padding,)), dont_fragment=True), 0.0, 15.0)
    (first,) = sent(initiator)
    if arrives == "at once":
        arriving = [first]
    else:
        initiator.resend(0.5)
        long, short = sent(initiator)
        assert long.data == first.data
        assert len(short.data) < 100
        assert not long.dont_fragment
        arriving = {"the empty one": [short], "both": [short, long], "both, the long one first": [long, short]}[arrives]
    answers = []
    for datagram in arriving:
        if taken(responder, datagram) is not None:
            responder.answer(Message.parse(datagram.data).header, (), BACK)
        answers += sent(responder)
    assert len(answers) == len(arriving)
    assert len({answer.data for answer in answers}) == 1
    assert answered(initiator, answers[0]) == ()
    assert initiator.requests.repeated == (arrives != "at once")


def test_fragments_follow_what_the_path_carries_but_not_beyond_the_configuration() -> None:
    """RFC 7383 section 2.5.1"""
    for size, expected in ((600, 600), (1100, 1100), (9000, 1280)):
        initiator, responder = channels()
        initiator.set_path_mtu(size)
        initiator.request(asked(LARGE), 0.0, 15.0)
        *parts, last = sent(initiator)
        assert max(len(part.data) for part in (*parts, last)) + 32 == expected
        assert [taken(responder, part) for part in parts] == [None] * len(parts)
        assert taken(responder, last) == LARGE


def test_a_lost_request_is_sent_again_byte_for_byte_along_the_present_path() -> None:
    """RFC 7296 section 2.1: a retransmission is the identical message, whatever became of the path."""
    initiator, _ = channels()
    initiator.request(asked(LARGE), 0.0, 15.0)
    first = sent(initiator)
    assert len(first) == 3
    initiator.resend(0.4)
    assert sent(initiator) == []
    initiator.resend(0.5)
    assert sent(initiator) == first
    initiator.path = PATH_IPV6
    initiator.resend(1.4)
    assert sent(initiator) == [Datagram(datagram.data, PATH_IPV6) for datagram in first]


def test_after_a_move_a_pending_request_is_sent_again_at_once() -> None:
    """RFC 4555 section 3.5: identical, from the new address; the pauses go on growing from there."""
    initiator, _ = channels()
    initiator.move(MOVED, 0.0)
    assert sent(initiator) == []  # nothing waits for an answer
    initiator.move(PATH, 0.0)
    initiator.request(asked(LARGE), 0.0, 15.0)
    first = sent(initiator)
    initiator.move(MOVED, 0.1)
    assert sent(initiator) == [Datagram(datagram.data, MOVED) for datagram in first]
    initiator.resend(0.9)
    assert sent(initiator) == []
    initiator.resend(1.0)
    assert sent(initiator) == [Datagram(datagram.data, MOVED) for datagram in first]


@pytest.mark.parametrize("reply", [REPLY, LARGE])
def test_a_repeated_request_gets_the_identical_answer_and_is_not_executed(reply: tuple[Payload, ...]) -> None:
    """S1: duplicate request, replayed old request."""
    initiator, responder = channels()
    initiator.request(asked(SMALL), 0.0, 15.0)
    (request,) = sent(initiator)
    assert taken(responder, request) == SMALL
    responder.answer(Message.parse(request.data).header, reply, BACK)
    answer = sent(responder)
    for _ in range(3):
        assert taken(responder, request) is None
        assert sent(responder) == answer
    assert answered(initiator, answer[-1]) == (reply if len(answer) == 1 else None)


def test_a_repetition_is_answered_to_where_it_came_from() -> None:
    """S13: a NAT may have rebound in between; the path of the SA does not follow unasked."""
    initiator, responder = channels()
    request, answer = exchanged(initiator, responder)
    assert taken(responder, request, MOVED) is None
    assert sent(responder) == [Datagram(answer.data, MOVED)]
    assert responder.path == BACK


def test_of_a_repeated_fragmented_request_only_the_first_fragment_counts() -> None:
    """S1, K7: RFC 7383 section 2.6.1: one answer for the whole repetition."""
    initiator, responder = channels()
    initiator.request(asked(LARGE), 0.0, 15.0)
    parts = sent(initiator)
    for part in parts:
        result = taken(responder, part)
    assert result == LARGE
    responder.answer(Message.parse(parts[0].data).header, REPLY, BACK)
    answer = sent(responder)
    for part in (*parts, *reversed(parts)):
        assert taken(responder, part) is None
    assert sent(responder) == answer * 2


def test_a_forged_repetition_is_not_answered() -> None:
    """S1, P1: no reflector for whoever knows the SPIs."""
    initiator, responder = channels()
    request, _ = exchanged(initiator, responder)
    forged = request.data[:-1] + bytes((request.data[-1] ^ 1,))
    assert taken(responder, Datagram(forged, PATH)) is None
    plain = Message(header=Message.parse(request.data).header, payloads=SMALL).emit()
    assert taken(responder, Datagram(plain, PATH)) is None
    assert sent(responder) == []


@pytest.mark.parametrize("ahead", [1, 2, 1000, 0xFFFFFFFF])
def test_a_request_ahead_of_the_window_is_dropped(ahead: int) -> None:
    """S2: genuine, but out of order; the one that is due is still taken."""
    initiator, responder = channels()
    early, _ = channels(first=ahead)
    early.request(asked(REPLY), 0.0, 15.0)
    (datagram,) = sent(early)
    assert taken(responder, datagram) is None
    assert sent(responder) == []
    initiator.request(asked(SMALL), 0.0, 15.0)
    assert taken(responder, sent(initiator)[0]) == SMALL


def test_a_request_older_than_the_last_is_dropped() -> None:
    """S1: its answer is no longer kept."""
    initiator, responder = channels()
    old = None
    for _ in range(2):
        request, answer = exchanged(initiator, responder)
        old = old or request
        answered(initiator, answer)
    assert old is not None
    assert taken(responder, old) is None
    assert sent(responder) == []


def test_only_the_answer_to_the_pending_request_is_taken() -> None:
    """K5: wrong message ID, replay of an old answer, an answer to nothing."""
    initiator, responder = channels()
    answers = []
    for _ in range(2):
        answers.append(exchanged(initiator, responder)[1])
        if len(answers) == 1:
            assert answered(initiator, answers[0]) == REPLY
            assert answered(initiator, answers[0]) is None
    assert answered(initiator, answers[0]) is None
    assert answered(initiator, answers[1]) == REPLY


def test_a_forged_answer_changes_nothing() -> None:
    """K1, K3: bad ICV, clear text; the genuine answer is still taken."""
    initiator, responder = channels()
    _, answer = exchanged(initiator, responder)
    forged = answer.data[:-1] + bytes((answer.data[-1] ^ 1,))
    header = Message.parse(answer.data).header
    plain = Message(header=header, payloads=(NotifyPayload(type=NotifyType.AUTHENTICATION_FAILED),)).emit()
    for data in (forged, plain, Message(header=header, payloads=()).emit()):
        before = replace(initiator.requests.pending)  # type: ignore[type-var]
        assert answered(initiator, Datagram(data, PATH)) is None
        assert initiator.requests.pending == before
    assert answered(initiator, answer) == REPLY


def test_a_genuine_message_that_is_malformed_inside_is_an_error_to_act_on() -> None:
    """K2, S11: told apart from forgeries in both directions."""
    initiator, _ = channels()
    initiator.request(asked(SMALL), 0.0, 15.0)
    for response in (True, False):
        datagram = Forger(SUITE).seal(b"\xff\xff\xff\xff\0", inner=PayloadType.NOTIFY, message_id=0, response=response)
        with pytest.raises(ParseError):
            answered(initiator, Datagram(datagram, PATH)) if response else taken(initiator, Datagram(datagram, PATH))
    sent(initiator)
    request = Message.parse(datagram).header
    initiator.answer(request, (NotifyPayload(type=NotifyType.INVALID_SYNTAX),), PATH)
    assert len(sent(initiator)) == 1


@pytest.mark.parametrize("name", [SUITE, "aes256-sha512"])
@pytest.mark.parametrize(("path", "headers"), [(PATH, 20 + 8 + 4), (PATH_IPV6, 40 + 8 + 4)])
@pytest.mark.parametrize("size", [576, 1280, 1500])
def test_no_packet_is_larger_than_the_fragment_size(name: str, path: Path, headers: int, size: int) -> None:
    """Counting the IP and UDP headers and the non-ESP marker; 1280 is what IPv6 carries everywhere."""
    initiator, responder = channels(name, size=size, path=path)
    initiator.request(asked(LARGE), 0.0, 15.0)
    responder.answer(Message.parse(sent(initiator)[0].data).header, LARGE, path)  # as large as its way back allows
    initiator.request(asked(LARGE), 0.0, 15.0)
    for datagrams in (sent(responder), sent(initiator)):
        assert len(datagrams) > 1
        assert all(len(datagram.data) + headers <= size for datagram in datagrams)
        assert all(len(datagram.data) + headers > size - 16 for datagram in datagrams[:-1])


def test_without_fragmentation_large_messages_go_out_whole() -> None:
    initiator, _ = channels(fragment=False)
    initiator.request(asked(LARGE), 0.0, 15.0)
    (datagram,) = sent(initiator)
    assert len(datagram.data) > 3000


def test_fragments_of_an_answer_that_are_lost_come_again() -> None:
    """Half of the answer in the first try, the other half after a retransmission."""
    initiator, responder = channels()
    initiator.request(asked(SMALL), 0.0, 15.0)
    (request,) = sent(initiator)
    taken(responder, request)
    responder.answer(Message.parse(request.data).header, LARGE, BACK)
    first, second, third = sent(responder)
    assert answered(initiator, first) is None
    initiator.resend(0.5)
    assert taken(responder, sent(initiator)[0]) is None
    repeated = sent(responder)
    assert repeated == [first, second, third]
    assert answered(initiator, repeated[2], 0.6) is None
    assert answered(initiator, repeated[1], 0.7) == LARGE


def test_a_protected_message_is_nothing_without_its_envelope() -> None:
    """K6: an empty message, or one whose last payload is not the envelope."""
    _, responder = channels()
    unknown = RawPayload(TYPE=PayloadType(200), critical=True, body=b"")
    for payloads in ((), (unknown,), (EncryptedPayload(inner=PayloadType.NONE, body=b""),)):
        request = Message(
            header=Message.parse(Forger(SUITE, initiator=True).seal(b"\0", message_id=0, response=False)).header,
            payloads=payloads,
        )
        assert responder.incoming(request.emit(), Message.parse(request.emit()), BACK, 0.0) is None
    assert sent(responder) == []
