"""SKF: fragments that do not behave (RFC 7383 section 2.6)."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from ike_sealing import MESSAGE, Forger, blob, ends, header, opened

from ikeclient.errors import IntegrityError, ParseError
from ikeclient.ike.v2.message.envelope import MAX_FRAGMENTS, MAX_MESSAGE, REASSEMBLY_TIME
from ikeclient.wire.encrypted import EncryptedFragmentPayload
from ikeclient.wire.payload import Message, emit_chain
from ikeclient.wire.registry import PayloadType


@pytest.mark.parametrize(("number", "total"), [(0, 3), (4, 3), (1, 0), (0, 0), (65535, 65534)])
def test_impossible_fragment_numbers_are_refused_before_anything_else(number: int, total: int) -> None:
    """K7: fragment 0, number > total, total 0."""
    initiator, _ = ends("aes256gcm16")
    with pytest.raises(ParseError):
        opened(initiator, Forger("aes256gcm16").seal(b"x\0", part=(number, total)))


def test_64_fragments_are_taken_in_any_order_and_65_are_not() -> None:
    """K7: the bound, and total 65535."""
    forger = Forger("aes256gcm16")
    datagrams = forger.parts(blob(6400), MAX_FRAGMENTS)
    for seed in range(5):
        initiator, _ = ends("aes256gcm16")
        shuffled = random.Random(seed).sample(datagrams, len(datagrams))
        assert [opened(initiator, d) for d in shuffled[:-1]] == [None] * 63
        assert opened(initiator, shuffled[-1]) == blob(6400)
    for part in ((1, 65), (65, 65), (1, 65535), (65535, 65535)):
        with pytest.raises(IntegrityError, match="not accepted"):
            opened(initiator, forger.seal(b"x\0", part=part))


def test_three_fragments_in_every_order() -> None:
    """K7: also only the last one, which opens nothing."""
    for order in permutations(Forger("aes256-sha256").parts(MESSAGE, 3)):
        initiator, _ = ends("aes256-sha256")
        assert [opened(initiator, datagram) for datagram in order] == [None, None, MESSAGE]


def test_a_duplicate_changes_nothing() -> None:
    """K7."""
    initiator, _ = ends("aes256gcm16")
    first, second = Forger("aes256gcm16").parts(MESSAGE, 2)
    assert opened(initiator, first) is None
    for _ in range(10):
        assert opened(initiator, first) is None
    other = Forger("aes256gcm16").seal(b"something else\0", inner=PayloadType.NOTIFY, part=(1, 2))
    assert opened(initiator, other) is None  # the first one to come counts
    assert opened(initiator, second) == MESSAGE


def test_a_forged_fragment_takes_no_place() -> None:
    """K7: bad ICV on one; the genuine one of the same number is still taken."""
    initiator, _ = ends("aes256gcm16")
    first, second, third = Forger("aes256gcm16").parts(MESSAGE, 3)
    assert opened(initiator, first) is None
    forged = second[:-1] + bytes((second[-1] ^ 1,))
    with pytest.raises(IntegrityError):
        opened(initiator, forged)
    more = EncryptedFragmentPayload(inner=PayloadType.NONE, number=2, total=60, body=second[36:])
    with pytest.raises(IntegrityError):  # a forged larger total throws nothing away either
        opened(initiator, Message(header=header(initiator=False, response=True), payloads=(more,)).emit())
    assert opened(initiator, third) is None
    assert opened(initiator, second) == MESSAGE


def test_a_larger_total_starts_over_and_a_smaller_one_is_ignored() -> None:
    """K7: inconsistent totals (RFC 7383 section 2.6): a sender may try again with smaller fragments."""
    forger = Forger("aes256gcm16")
    in_two, in_three = forger.parts(MESSAGE, 2), forger.parts(MESSAGE, 3)
    initiator, _ = ends("aes256gcm16")
    assert opened(initiator, in_two[0]) is None
    assert opened(initiator, in_three[1]) is None
    assert opened(initiator, in_two[1]) is None  # ignored: it belongs to the larger fragments
    assert opened(initiator, in_three[0]) is None
    assert opened(initiator, in_three[2]) == MESSAGE


def test_a_whole_message_ends_the_wait_for_its_fragments() -> None:
    """K7: SK and SKF mixed. The fragments collected so far are forgotten, and none of them lingers."""
    forger = Forger("aes256gcm16")
    first, second = forger.parts(MESSAGE, 2)
    initiator, _ = ends("aes256gcm16")
    assert opened(initiator, first) is None
    whole = forger.seal(forger.padded(emit_chain(MESSAGE)), inner=PayloadType.NOTIFY)
    assert opened(initiator, whole) == MESSAGE
    assert opened(initiator, second) is None
    assert opened(initiator, first) == MESSAGE


def test_fragments_without_having_negotiated_them_are_dropped() -> None:
    """K7."""
    initiator, _ = ends("aes256gcm16", fragment=False)
    for datagram in Forger("aes256gcm16").parts(MESSAGE, 2):
        with pytest.raises(IntegrityError, match="not accepted"):
            opened(initiator, datagram)


def test_fragments_expire_after_30_seconds() -> None:
    """K7: 30 s from the first; then the message starts over."""
    first, second = Forger("aes256gcm16").parts(MESSAGE, 2)
    initiator, _ = ends("aes256gcm16")
    assert opened(initiator, first, 100.0) is None
    assert opened(initiator, first, 120.0) is None  # a repetition does not prolong it
    assert opened(initiator, second, 100.0 + REASSEMBLY_TIME) is None
    assert opened(initiator, first, 131.0) == MESSAGE
    assert opened(initiator, first, 200.0) is None
    assert opened(initiator, second, 200.0 + REASSEMBLY_TIME - 0.01) == MESSAGE


def test_a_growing_total_does_not_prolong_the_wait() -> None:
    """K7: whoever keeps enlarging the total cannot keep us collecting for ever."""
    forger = Forger("aes256gcm16")
    initiator, _ = ends("aes256gcm16")
    for now in range(30):
        part = forger.seal(b"x\0", part=(1, 2 + now))
        assert opened(initiator, part, float(now)) is None
    in_two = forger.parts(MESSAGE, 2)  # ignored as long as a larger total is being collected
    assert [opened(initiator, part, 29.9) for part in in_two] == [None, None]
    assert [opened(initiator, part, 30.0) for part in in_two] == [None, MESSAGE]


def test_more_than_64_kilobytes_in_fragments_are_dropped() -> None:
    """K7: bounded 64 KiB; what was collected is freed, and the SA goes on."""
    forger = Forger("aes256gcm16")
    initiator, _ = ends("aes256gcm16")
    piece = bytes(MAX_MESSAGE // 2)
    assert opened(initiator, forger.seal(piece + b"\0", part=(1, 3))) is None
    assert opened(initiator, forger.seal(piece + b"\0", part=(2, 3))) is None
    with pytest.raises(IntegrityError, match="more than 65535"):
        opened(initiator, forger.seal(bytes(2) + b"\0", part=(3, 3)))
    assert opened(initiator, forger.seal(forger.padded(emit_chain(MESSAGE)), inner=PayloadType.NOTIFY)) == MESSAGE


def test_exactly_64_kilobytes_are_taken() -> None:
    forger = Forger("aes256gcm16")
    initiator, _ = ends("aes256gcm16")
    message = (*blob(60_000), *blob(5_535))
    results = [opened(initiator, part) for part in forger.parts(message, 60)]
    assert results[-1] == message


def test_a_request_and_a_response_are_put_together_at_the_same_time() -> None:
    """RFC 7383 section 2.6: both directions have one exchange under way, whose messages may interleave."""
    forger = Forger("aes256gcm16")
    initiator, _ = ends("aes256gcm16")
    response = forger.parts(MESSAGE, 3, message_id=5)
    request = forger.parts(blob(300), 3, message_id=5, response=False)
    mixed = [part for pair in zip(response, request, strict=True) for part in pair]
    assert [opened(initiator, part) for part in mixed] == [None] * 4 + [MESSAGE, blob(300)]


def test_a_new_message_takes_the_place_of_one_that_never_came_whole() -> None:
    """K7: at most one request and one response wait for more."""
    forger = Forger("aes256gcm16")
    initiator, _ = ends("aes256gcm16")
    for message_id in range(1000):
        assert opened(initiator, forger.parts(MESSAGE, 2, message_id=message_id)[0]) is None
    assert len(initiator._reassembly) == 1
    assert opened(initiator, forger.parts(MESSAGE, 2, message_id=998)[1]) is None
