"""Sequence numbers, options, headers, initial numbers and ports."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.esp.codec.choice import examine
from ikeclient.stack.interfaces import GSO_ECN, GSO_TCPV4, GSO_TCPV6
from ikeclient.stack.tcp.frame import Flow
from ikeclient.stack.tcp.numbers import FIRST_PORT, LAST_PORT, Numbers
from ikeclient.stack.tcp.options import Options, of_segment, of_syn, parse
from ikeclient.stack.tcp.segment import ACK, CWR, FIN, PSH, SYN, Segment
from ikeclient.stack.tcp.sequence import MASK, is_before, unwrap
from ikeclient.stack.tcp.timestamps import Timestamps

NUMBERS = st.integers(0, MASK)
V4 = bytes((10, 0, 0, 2, 10, 0, 0, 1)) + bytes.fromhex("01bb8235")
V6 = b"\xfd" + bytes(14) + b"\2" + b"\xfd" + bytes(14) + b"\1" + bytes.fromhex("01bb8235")


@given(st.integers(0, 1 << 40), st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_position_is_found_again_from_its_number(near: int, distance: int) -> None:
    assert unwrap((near + distance) & MASK, near) == near + distance


@given(NUMBERS, st.integers(1, (1 << 31) - 1))
def test_one_number_precedes_another(first: int, distance: int) -> None:
    second = (first + distance) & MASK
    assert is_before(first, second)
    assert not is_before(second, first)
    assert not is_before(first, first)


PAIRS = st.tuples(NUMBERS, NUMBERS)


@given(st.none() | PAIRS, st.lists(PAIRS, max_size=5))
def test_options_of_a_segment_survive(timestamps: tuple[int, int] | None, blocks: list[tuple[int, int]]) -> None:
    text = of_segment(timestamps, blocks)
    assert len(text) % 4 == 0
    assert len(text) <= 40
    found = parse(memoryview(text))
    assert found == Options(timestamps=timestamps, blocks=tuple(blocks[: 3 if timestamps else 4]))


@given(st.integers(64, 65535), st.none() | st.integers(0, 14), st.booleans(), st.none() | PAIRS)
def test_options_of_a_syn_survive(mss: int, scale: int | None, sack: bool, timestamps: tuple[int, int] | None) -> None:
    text = of_syn(mss, scale, sack, timestamps)
    assert len(text) % 4 == 0
    assert parse(memoryview(text)) == Options(mss=mss, scale=scale, sack_permitted=sack, timestamps=timestamps)


@given(st.binary(max_size=40))
def test_any_options_are_read(text: bytes) -> None:
    found = parse(memoryview(text))
    assert found.scale is None or found.scale <= 14
    assert len(found.blocks) <= 4


def test_a_scale_above_14_counts_as_14() -> None:
    """RFC 7323 section 2.3."""
    assert parse(memoryview(bytes((3, 3, 200)))).scale == 14


@pytest.mark.parametrize("key", [V4, V6], ids=["IPv4", "IPv6"])
def test_a_frame_is_what_the_codec_takes(key: bytes) -> None:
    flow = Flow(key)
    frame = memoryview(bytearray(66000))
    options = of_segment((1, 2), [])
    at = flow.write(frame, 1 << 33 | 5, 7, ACK | CWR, 100, options, 30_000, 1000, 2)
    end = at + 30_000
    assert at == 10 + flow.overhead + len(options)
    count, size, last, tos, look = examine(bytearray(frame[:end]), end)
    assert (count, size, last, tos, look) == (30, at - 10 + 1000, at - 10 + 1000, 2, False)
    assert frame[1] == (GSO_TCPV4 if len(key) == 12 else GSO_TCPV6) | GSO_ECN
    segment = Segment()
    l4 = 10 + flow.overhead - 20
    assert segment.read(frame[l4:end], 0, 1000)
    assert (segment.sequence, segment.acknowledgment, segment.flags, segment.window) == (5, 7, ACK | CWR, 100)
    assert (segment.length, segment.count, segment.stamped) == (30_000, 30, True)
    assert segment.value_and_echo == (1, 2)


def test_a_flow_knows_both_ends() -> None:
    assert Flow(V4).remote == (bytes((10, 0, 0, 2)), 443)
    assert Flow(V4).local == (bytes((10, 0, 0, 1)), 33333)
    assert Flow(V6).local == (V6[16:32], 33333)


@pytest.mark.parametrize(
    ("flags", "data", "length"),
    [(ACK, b"", 0), (SYN, b"", 1), (FIN | ACK, b"ab", 3), (SYN | FIN, b"", 2), (PSH, b"a", 1)],
)
def test_the_length_of_a_segment_counts_syn_and_fin(flags: int, data: bytes, length: int) -> None:
    """SEG.LEN, RFC 9293 section 3.4."""
    segment = Segment()
    assert segment.read(memoryview(bytes(12) + bytes((0x50, flags)) + bytes(6) + data), 0, 0)
    assert segment.length == length


@pytest.mark.parametrize("text", [b"", bytes(19), bytes(12) + b"\x40" + bytes(7), bytes(12) + b"\xf0" + bytes(27)])
def test_what_is_no_header_is_refused(text: bytes) -> None:
    assert not Segment().read(memoryview(text), 0, 0)


def test_initial_numbers_grow_with_time_and_differ_by_connection() -> None:
    """RFC 6528 section 3."""
    numbers = Numbers(Random(1).randbytes)
    first = numbers.sequence(V4, 100.0)
    assert (numbers.sequence(V4, 101.0) - first) & MASK == 250_000
    other = V4[:-1] + b"\x36"
    assert numbers.sequence(other, 100.0) != first
    assert Numbers(Random(2).randbytes).sequence(V4, 100.0) != first


def test_ports_are_each_tried_once_and_not_in_an_order_of_another_destination() -> None:
    """RFC 6056 section 3.3.4."""
    numbers = Numbers(Random(1).randbytes)
    ports = list(numbers.ports(V4[:8], 443))
    assert sorted(ports) == list(range(FIRST_PORT, LAST_PORT + 1))
    assert next(numbers.ports(V4[:8], 443)) != next(numbers.ports(V4[:8], 80))


def test_old_timestamps_are_seen_across_the_wrap() -> None:
    """PAWS, RFC 7323 section 5."""
    stamps = Timestamps(0)
    stamps.begin(MASK - 5, 0.0)
    assert stamps.is_old(MASK - 6, 1.0)
    assert not stamps.is_old(3, 1.0)
    stamps.update(3, 2.0)
    assert stamps.is_old(MASK - 5, 3.0)
    stamps.update(MASK, 4.0)
    assert stamps.recent == 3
    assert not stamps.is_old(MASK - 5, 2.0 + 25 * 86400)


def test_an_echo_tells_when_it_was_sent() -> None:
    stamps = Timestamps(MASK - 100)
    value = stamps.value(1000.0)
    assert stamps.when(value, 1000.5) == pytest.approx(1000.0, abs=0.001)
    assert stamps.when(value + 5000 & MASK, 1000.5) is None
