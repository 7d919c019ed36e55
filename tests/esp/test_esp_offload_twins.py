"""The compiled module and its plain twin do the same to the byte, for valid and for arbitrary input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from offload_packets import TCPV4, TCPV6, UDP_L4, V4, V6, frame, ip, tcp, udp

from ikeclient.esp.codec import plain as plain
from ikeclient.esp.codec.sums import ones_sum

try:
    from ikeclient.esp.codec import _offload as compiled
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("the compiled module is not built, NOTHING was compared (pip install -e .)", allow_module_level=True)

SIZES = st.integers(0, 3000)
SMALL = st.integers(-2, 200)
NEAR = st.sampled_from((0, 0, 0, 0, 0, 0, 1, -1))
BYTES = st.binary(max_size=300).map(bytearray)


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or the kind of error."""
    try:
        return function(*arguments)
    except (ValueError, IndexError, OverflowError) as error:
        return type(error)


def same(name: str, *arguments: Any) -> Any:
    """Call both with copies of the arguments; results and everything they wrote must be equal, unless both refuse."""
    ours = [bytearray(a) if isinstance(a, bytearray) else a for a in arguments]
    theirs = [bytearray(a) if isinstance(a, bytearray) else a for a in arguments]
    expected = outcome(getattr(plain, name), *ours)
    assert outcome(getattr(compiled, name), *theirs) == expected
    if not isinstance(expected, type):
        assert theirs == ours
    return expected


@st.composite
def super_packets(draw: st.DrawFn) -> bytes:
    """Frames of the kernel, all kinds of them, sometimes with a byte or two changed."""
    six, stream = draw(st.booleans()), draw(st.booleans())
    addresses = V6 if six else V4
    payload = draw(st.binary(max_size=40)) * draw(st.integers(1, 40))
    extra = b"\x01" * (4 * draw(st.integers(0, 3))) if not six else b""
    if stream:
        options = bytes(draw(st.lists(st.sampled_from((0, 1, 2, 4, 5, 8, 10, 30)), max_size=16)))
        body = tcp(
            payload,
            addresses=addresses,
            partial=True,
            flags=draw(st.integers(0, 255)),
            sequence=draw(st.integers(0, 2**32 - 1)),
            options=options[: len(options) & ~3],
        )
    else:
        body = udp(payload, addresses=addresses, partial=True)
    packet = ip(body, 6 if stream else 17, addresses, extra=extra, tos=draw(st.integers(0, 255)), id=draw(SIZES))
    whole = draw(st.booleans())
    kind = 0 if whole else (TCPV6 if six else TCPV4) if stream else UDP_L4
    start = len(packet) - len(body)
    data = bytearray(frame(packet, kind=kind, size=draw(st.integers(1, 200)), start=start, offset=16 if stream else 6))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), max_size=2)):
        if at < len(data):
            data[at] = value
    return bytes(data)


@given(st.binary(max_size=70), st.booleans())
def test_sums_in_both_byte_orders(data: bytes, little: bool) -> None:
    """RFC 1071 section 2: a machine of the other byte order reads each pair of octets the other way round.

    An odd octet at the end is the first one of its pair in either order.
    """
    even = len(data) & ~1
    swapped = bytes(data[at ^ 1] for at in range(even)) + data[even:]
    read = data if little == (sys.byteorder == "little") else swapped
    assert compiled.ones_sum(read, little) == ones_sum(data)


@given(st.lists(st.one_of(st.binary(max_size=80), super_packets()), max_size=4), st.data())
def test_review(parts: list[bytes], data: st.DataObject) -> None:
    """Of frames as they are made, and of others."""
    frames, end = [], 0
    for part in parts:
        at, end = end, end + len(part)
        frames.append((at + data.draw(NEAR), end + data.draw(NEAR), data.draw(SMALL), data.draw(SIZES)))
    same("review", b"".join(parts), frames)


@given(st.one_of(st.binary(max_size=120), super_packets()), st.integers(-1, 40))
def test_examination(data: bytes, less: int) -> None:
    same("examine", data, len(data) - less)


@given(super_packets(), st.sampled_from([0, 3, 15]), st.integers(0, 30), st.data())
def test_segmentation(data: bytes, mask: int, gap: int, choice: st.DataObject) -> None:
    count, size, *_ = plain.examine(data, len(data))
    first = choice.draw(st.integers(0, max(count - 1, 0)))
    number = choice.draw(st.integers(1, max(count - first, 1)))
    stride = gap + size + 2 + (-(size + 2) & mask) + choice.draw(st.integers(0, 16))
    out = bytearray(5 + number * stride)
    result = same("segment", data, len(data), out, 5, stride, gap, mask, first, number)
    assert result is None or count == 0


@given(st.binary(max_size=120), SMALL, BYTES, st.lists(SMALL, min_size=6, max_size=6))
def test_segmentation_of_anything_into_anything(data: bytes, length: int, out: bytearray, numbers: list[int]) -> None:
    same("segment", data, length, out, *numbers)


@given(
    st.binary(min_size=3, max_size=4),
    st.integers(16, 60),
    st.integers(0, 20),
    st.integers(0, 2**64 - 30),
    st.booleans(),
)
def test_stamps(salt: bytes, stride: int, count: int, sequence: int, extended: bool) -> None:
    out, nonces = bytearray(stride * count), bytearray(12 * count)
    associated = bytearray(12 * count if extended else 0)
    assert same("stamp", out, stride, count, 0xC0FFEE01, sequence, salt, nonces, associated) is None


@given(BYTES, SMALL, st.integers(-1, 60), st.integers(-1, 10))
def test_surveys_of_anything(arena: bytearray, end: int, stride: int, first: int) -> None:
    same("survey", arena, end, stride, first)


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 3)), min_size=1, max_size=200), st.integers(8, 20))
def test_surveys(packets: list[tuple[int, int]], stride: int) -> None:
    number, arena = 2**32 - 100, bytearray()
    for spi, step in packets:
        number = number + 1 + (step == 3) & 0xFFFFFFFF
        arena += (spi.to_bytes(4, "big") + number.to_bytes(4, "big")).ljust(stride, b"x")
    assert same("survey", arena, len(arena), stride, 0)[0] >= 1


@given(BYTES, st.integers(-1, 60), st.integers(-1, 10), st.integers(-1, 10), st.binary(max_size=4), BYTES)
def test_collections(arena: bytearray, stride: int, first: int, count: int, salt: bytes, nonces: bytearray) -> None:
    same("collect", arena, stride, first, count, salt, nonces)


ACKNOWLEDGED = st.sampled_from([77] * 7 + [78, 2077, 2**31 + 77, 2**32 - 1])
TIMES = [bytes.fromhex("0101080a") + time.to_bytes(4, "big") + bytes(4) for time in (7, 8, 2**32 - 1)]
OPTIONS = st.sampled_from(
    [b""] * 6 + TIMES + [bytes(4), bytes.fromhex("0101050a0000000100000002"), TIMES[0] + bytes(4)]
)


@st.composite
def flows(draw: st.DrawFn) -> list[bytes]:
    """Packets of a few flows, mostly consecutive."""
    sequences = {flow: draw(st.sampled_from([1000, 2**32 - 50])) for flow in range(4)}
    packets = []
    for flow in draw(st.lists(st.integers(0, 3), max_size=20)):
        addresses = V6 if flow % 2 else V4
        payload = b"p" * draw(st.sampled_from([0, 0, 0, 20, 40, 40, 40, 40, 41]))
        if flow < 2:
            flags = draw(st.sampled_from([0x10] * 6 + [0x18, 0x11, 0x12, 0x90]))
            sequence = sequences[flow] + draw(st.sampled_from([0] * 9 + [1])) & 0xFFFFFFFF
            window = draw(st.sampled_from([500] * 9 + [501]))
            body = tcp(
                payload,
                sequence=sequence,
                acknowledgement=draw(ACKNOWLEDGED),
                flags=flags,
                window=window,
                options=draw(OPTIONS),
                addresses=addresses,
            )
            sequences[flow] = sequence + len(payload) & 0xFFFFFFFF
        else:
            body = udp(payload, addresses=addresses)
        options = {"tos": draw(st.sampled_from([0] * 9 + [3])), "ttl": draw(st.sampled_from([64] * 9 + [63]))}
        fragment = draw(st.sampled_from([0x4000] * 8 + [0, 0x2000]))
        packet = bytearray(ip(body, 6 if flow < 2 else 17, addresses, fragment=fragment, id=len(packets), **options))
        if draw(st.integers(0, 19)) == 0:
            packet[draw(st.integers(0, len(packet) - 1))] ^= draw(st.integers(1, 255))
        packets.append(bytes(packet))
    return packets


def slots(packets: list[bytes], gap: int, icv: int) -> tuple[bytearray, int]:
    """Decrypted slots of one stride; the IP packets are followed by TFC padding up to it."""
    longest = max(map(len, packets), default=20)
    arena = bytearray()
    for packet in packets:
        following = b"\x04" if packet[0] >> 4 == 4 else b"\x29"
        arena += bytes(gap) + packet.ljust(longest, b"\0") + b"\x01\x01" + following + bytes(icv)
    return arena, gap + longest + 3 + icv


@given(flows(), st.integers(0, 24), st.integers(0, 16), st.booleans(), st.binary(min_size=20, max_size=20))
def test_coalescing(packets: list[bytes], gap: int, icv: int, merge_udp: bool, states: bytes) -> None:
    arena, stride = slots(packets, gap, icv)
    skip = bytes(int(state > 240) for state in states)
    out = bytearray(len(arena) + 20 * len(packets))
    same("coalesce", arena, len(arena), stride, 0, len(packets), gap, icv, skip, out, merge_udp)


@given(flows(), st.integers(0, 24), st.integers(0, 16), st.data())
def test_coalescing_of_different_lengths(packets: list[bytes], gap: int, icv: int, data: st.DataObject) -> None:
    """Each plaintext ends where its datagram does; the rest of its slot is of no concern."""
    parts = [bytes(gap) + p + b"\0" + (b"\x04" if p[0] >> 4 == 4 else b"\x29") + bytes(icv) for p in packets]
    stride = max(map(len, parts), default=gap + icv + 1) + data.draw(st.integers(0, 9))
    arena = bytearray().join(part.ljust(stride, b"\xee") for part in parts)
    lengths = [len(part) - data.draw(st.sampled_from([0] * 9 + [1, 30])) for part in parts]
    out = bytearray(len(arena) + 20 * len(packets))
    first = data.draw(st.integers(0, min(2, len(parts))))
    count = len(parts) - first
    same("coalesce", arena, len(arena), stride, first, count, gap, icv, bytes(count), out, True, lengths)


@st.composite
def runs(draw: st.DrawFn) -> list[bytes]:
    """A run of TCP or UDP whose counters may wrap around; words that change places are noticed by no checksum."""
    stream = draw(st.booleans())
    addresses, fragment = draw(st.sampled_from([V4, V6])), draw(st.sampled_from([0x4000, 0]))
    size, options = draw(st.sampled_from([1, 2, 41, 1400])), bytes(draw(st.sampled_from([0, 12])))
    sequence, number = draw(st.sampled_from([1000, 2**32 - 4 * size])), draw(st.sampled_from([7, 2**16 - 4]))
    packets = []
    for i in range(draw(st.integers(1, 100))):
        data = bytes((i,)) * size
        if stream:
            body = tcp(data, sequence=(sequence + i * size) % 2**32, options=options, addresses=addresses)
        else:
            body = udp(data, addresses=addresses)
        packet = bytearray(ip(body, 6 if stream else 17, addresses, fragment=fragment, id=(number + i) % 2**16))
        if draw(st.integers(0, 9)) == 0:
            a, b = (2 * draw(st.integers(0, 13)) for _ in range(2))
            packet[a : a + 2], packet[b : b + 2] = packet[b : b + 2], packet[a : a + 2]
        packets.append(bytes(packet))
    return packets


@given(runs(), st.integers(0, 1))
def test_coalescing_of_runs(packets: list[bytes], icv: int) -> None:
    arena, stride = slots(packets, 0, icv)
    out = bytearray(len(arena) + 20 * len(packets))
    same("coalesce", arena, len(arena), stride, 0, len(packets), 0, icv, bytes(len(packets)), out, True)


@given(BYTES, SMALL, st.lists(st.integers(-1, 40), min_size=5, max_size=5), st.binary(max_size=30), BYTES)
def test_coalescing_of_anything(arena: bytearray, end: int, numbers: list[int], states: bytes, out: bytearray) -> None:
    same("coalesce", arena, end, *numbers, states, out, True)


@given(BYTES, st.lists(st.integers(-1, 40), min_size=5, max_size=5), st.lists(SMALL, max_size=50), BYTES)
def test_coalescing_of_any_lengths(arena: bytearray, numbers: list[int], lengths: list[int], out: bytearray) -> None:
    same("coalesce", arena, len(arena), *numbers, bytes(40), out, True, lengths)
