"""A packet that comes alone, opened or sealed with one call: the same window, judgement and bytes as in Python."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial

import pytest
from esp_packets import HOST4, HOST6, VIP4, ipv4, ipv6, number, udp
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite
from ikeclient.dataplane.cipher import choose_cipher
from ikeclient.esp.codec import plain, run_cipher
from ikeclient.esp.codec.run import Run
from ikeclient.esp.codec.send import SendRun
from ikeclient.esp.codec.single import ACCEPTED, CARRIED, NOTHING, UNOPENED, Received, Sent, Unsent, frame_writer
from ikeclient.esp.codec.slots import Slots
from ikeclient.esp.sa.pair import InboundSa, OutboundSa
from ikeclient.esp.sa.replay import ReplayWindow
from ikeclient.esp.sa.selectors import PacketFilter, Selector
from ikeclient.net.transport import sockaddr
from ikeclient.net.transport.udp import UdpSocket

try:
    from ikeclient.esp.codec._offload import (
        Filter,
        Window,
        open_single,
        open_slots,
        pack,
        receive_single,
        relay,
        send_single,
    )
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("the compiled module is not built, NOTHING was compared (pip install -e .)", allow_module_level=True)

SentFrames = tuple[int, int, int, int, Unsent | None]

SIZE = 64
LAST = (1 << 64) - 1
EMPTY = Filter(b"", b"", b"", b"", b"", b"")
NEAR = st.integers(-70, 70)
STEPS = st.lists(
    st.one_of(NEAR, st.integers(-(1 << 33), 1 << 33), st.sampled_from([1 << 32, -(1 << 32), (1 << 31) - 1])),
    max_size=60,
)
SUITES = [
    EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None, esn=False),
    EspSuite(encryption=ENCRYPTION["chacha20poly1305"], integrity=None, esn=True),
    EspSuite(encryption=ENCRYPTION["aes256"], integrity=INTEGRITY["sha256"], esn=True),
]


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    choose_cipher({})
    if run_cipher.version() is None:
        pytest.skip("this machine has no OpenSSL to be opened, NOTHING was compared")
    yield
    run_cipher.load(())


@given(extended=st.booleans(), start=st.sampled_from([1, 50, SIZE, 1 << 31, (1 << 32) - 5, LAST - 100]), steps=STEPS)
def test_the_compiled_window_is_the_one_in_python(extended: bool, start: int, steps: list[int]) -> None:
    """P1: by single packets and by runs, across the ends of the numbers and far jumps (RFC 4303 appendix A)."""
    ours, theirs = Window(SIZE, extended=extended), ReplayWindow(SIZE, extended=extended)
    if extended or start < 1 << 32:
        assert ours.commit(start) == theirs.commit(start)
    for step in steps:
        low = (theirs.top + step) % (1 << 32)
        assert ours.check(low) == theirs.check(low)
        count = abs(step) % 50 + 1
        first = theirs.check_run(low, count)
        if first and step % 3 == 0 and first + count <= LAST:
            for number in range(first, first + count):
                assert ours.check(number % (1 << 32)) == number
                assert ours.commit(number)
            theirs.commit_run(first, count)
        elif sequence := theirs.check(low):
            assert ours.commit(sequence) == theirs.commit(sequence) is True
            assert ours.commit(sequence) == theirs.commit(sequence) is False
        assert ours.top == theirs.top


def keys_for(suite: EspSuite) -> DirectionKeys:
    return DirectionKeys(
        encryption=bytes(suite.encryption.key_length + suite.encryption.salt_length),
        integrity=bytes(suite.integrity.key_length if suite.integrity else 0),
    )


def top(sa: InboundSa) -> int:
    """The highest number that was genuine."""
    return sa._window.top if sa._opener is None else sa._opener.window.top


def selector(version: int, start: str, end: str) -> Selector:
    return Selector(version=version, start=number(start), end=number(end))


def ports(version: int, protocol: int, first: int, last: int) -> Selector:
    """Every address, with a protocol and ports; ICMP's are type and code."""
    end = (1 << (32 if version == 4 else 128)) - 1
    return Selector(version=version, start=0, end=end, protocol=protocol, start_port=first, end_port=last)


FILTERS = [
    PacketFilter(sources=sources, destinations=destinations, own=own, inbound=True)
    for sources, destinations, own in (
        ((selector(4, "0.0.0.0", "255.255.255.255"),), (selector(4, VIP4, VIP4),), ()),
        ((selector(4, HOST4, HOST4), selector(6, "::", "ff::")), (selector(4, "0.0.0.0", "255.255.255.255"),), ()),
        ((selector(4, "0.0.0.0", "255.255.255.255"),), (selector(4, VIP4, VIP4),), ((4, number(HOST4)),)),
        ((selector(6, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),), (selector(6, "fd00::", "fdff::"),), ()),
        (
            (selector(6, HOST6, HOST6), selector(6, "fd00::7", "fd00::9")),
            (selector(6, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),),
            ((6, number("fd00::8")),),
        ),
        ((), (), ()),
        ((ports(4, 17, 53, 53),), (selector(4, VIP4, VIP4),), ()),
        ((ports(4, 0, 50, 60), ports(6, 17, 53, 53)), (ports(4, 17, 0, 65535), ports(6, 0, 65535, 0)), ()),
        ((ports(4, 17, 65535, 0), ports(4, 1, 0x0800, 0x08FF)), (ports(4, 0, 0, 65535),), ()),
        ((ports(6, 58, 0x8100, 0x8100), ports(6, 6, 0, 1023)), (ports(6, 0, 0, 65534),), ()),
    )
]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@given(data=st.data())
def test_every_packet_is_judged_as_in_python(suite: EspSuite, data: st.DataObject) -> None:
    """P1, P2, P10: whatever it is, damaged before or after it was sealed, marked, repeated or too short."""
    choose_cipher({})
    packets = data.draw(st.sampled_from(FILTERS))
    keys = keys_for(suite)
    sender = OutboundSa(256, suite, keys, filter=packets, entropy=os.urandom)
    ours = InboundSa(256, suite, keys, filter=packets)
    run_cipher.load(())
    theirs = InboundSa(256, suite, keys, filter=packets)
    assert ours._opener is not None
    assert theirs._opener is None
    for _ in range(data.draw(st.integers(1, 8))):
        inner = bytearray(
            data.draw(
                st.sampled_from(
                    [
                        ipv4(udp(b"x" * 30)),
                        ipv4(udp(), options=b"\1\1\1\1"),
                        ipv4(bytes(40), protocol=6),
                        ipv4(bytes(8), protocol=1),
                        ipv4(udp(), source="127.0.0.1"),
                        ipv4(udp(), source=VIP4, destination=HOST4),
                        ipv4(b"\x08" + bytes(7), protocol=1),
                        ipv4(b"\x05" + bytes(7), protocol=1),
                        ipv6(bytes(8)),
                        ipv6(udp()),
                        ipv6(b"\x81" + bytes(7), next_header=58),
                        ipv6(b"\x86" + bytes(7), next_header=58),
                        b"E" * 3,
                    ]
                )
            )
        )
        for _ in range(data.draw(st.integers(0, 2))):
            inner[data.draw(st.integers(0, min(len(inner), 24) - 1))] = data.draw(st.integers(0, 255))
        if inner[0] >> 4 not in (4, 6):
            inner[0] = 0x45
        (sealed,) = sender.seal([bytes(inner) + bytes(data.draw(st.integers(0, 20)))])
        match data.draw(st.sampled_from(["whole", "whole", "whole", "damaged", "short", "twice"])):
            case "damaged":
                at = data.draw(st.integers(4, len(sealed) - 1))
                sealed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            case "short":
                sealed = sealed[: data.draw(st.integers(8, len(sealed)))]
            case "twice":
                theirs.open_one(sealed, 0)
                ours.open_one(sealed, 0)
        ecn = data.draw(st.integers(0, 3))
        expected = theirs.open_one(sealed, ecn)
        buffer = bytearray(b"\xee" * 7 + sealed + b"\xee" * 9)
        assert ours.open_at(buffer, 7, len(sealed), ecn) == expected
        assert ours.counters == theirs.counters
        assert (ours.authenticated, top(ours)) == (theirs.authenticated, top(theirs))


@pytest.mark.parametrize(("at", "length"), [(-1, 60), (0, 10_000), (90, 60), (1 << 62, 60)])
def test_nothing_outside_the_buffer_is_read(at: int, length: int) -> None:
    """P17"""
    suite = SUITES[0]
    cipher = run_cipher.run_cipher(suite, keys_for(suite), 256, os.urandom, sealing=False)
    assert cipher is not None
    with pytest.raises(IndexError):
        open_single(cipher, Window(), EMPTY, 4, bytes(100), at, length, True)
    with pytest.raises(IndexError):
        receive_single(cipher, Window(), EMPTY, 4, bytearray(), -1, -1, True, True)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@given(data=st.data())
def test_a_run_of_different_lengths_is_opened_as_its_packets_are(suite: EspSuite, data: st.DataObject) -> None:
    """Forged, replayed, misshapen and marked ones among them, and whatever else is in the slots."""
    choose_cipher({})
    keys, anything = keys_for(suite), FILTERS[0]
    sender = OutboundSa(256, suite, keys, filter=anything, entropy=os.urandom)
    mixed, singly = (InboundSa(256, suite, keys, filter=anything, window=SIZE) for _ in range(2))
    assert mixed.mixes
    sizes = data.draw(st.lists(st.sampled_from([0, 1, 40, 40, 500]), min_size=2, max_size=30))
    sealed = [bytearray(packet) for packet in sender.seal([ipv4(udp(bytes(size))) for size in sizes])]
    for packet in sealed:
        match data.draw(st.sampled_from(["whole"] * 6 + ["damaged", "short", "again"])):
            case "damaged":
                packet[data.draw(st.integers(4, len(packet) - 1))] ^= 1
            case "short":
                del packet[data.draw(st.integers(8, len(packet) - 1)) :]
            case "again":
                packet[:] = sealed[0]
    stride, ecn = max(map(len, sealed)), data.draw(st.sampled_from([0, 2, 2, 1, 3]))
    run = Run(Slots(2 * stride + stride * len(sealed)))
    run.slots.buffer[2 * stride :] = b"".join(packet.ljust(stride, b"\xee") for packet in sealed)
    lengths = [8, 9, *map(len, sealed)]
    run.fill(len(lengths) * stride, stride, ("192.0.2.1", 4500), ecn, lengths)
    run.narrow(2, len(sealed))
    out = memoryview(bytearray(2 * len(run.slots.buffer)))
    frames, _ = mixed.open_run(run, out, low=1, rising=False, merge_udp=False)
    got = [bytes(out[start + 10 : end]) for start, end, _, _ in frames]
    assert got == [bytes(packet) for packet in singly.open([bytes(packet) for packet in sealed], ecn)]
    assert mixed.counters == singly.counters
    assert (mixed.authenticated, top(mixed)) == (singly.authenticated, top(singly))


@pytest.mark.parametrize(
    ("end", "stride", "first", "count", "lengths", "states"),
    [
        (401, 100, 0, 4, [], 4),
        (400, 0, 0, 4, [], 4),
        (400, 100, -1, 4, [], 4),
        (400, 100, 0, -1, [], 0),
        (400, 100, 1 << 62, 1, [], 1),
        (400, 100, 0, 4, [], 3),
        (400, 100, 0, 4, [101, 90, 90, 90], 4),
        (400, 100, 1, 4, [90] * 5, 4),
        (400, 100, 0, 4, [90] * 3, 4),
        (400, 1, 0, 257, [], 257),
    ],
)
def test_no_slots_of_a_run_lead_outside_the_buffer(
    end: int, stride: int, first: int, count: int, lengths: list[int], states: int
) -> None:
    """P17"""
    suite = SUITES[0]
    cipher = run_cipher.run_cipher(suite, keys_for(suite), 256, os.urandom, sealing=False)
    assert cipher is not None
    with pytest.raises((ValueError, IndexError)):
        open_slots(cipher, Window(), 4, bytearray(400), end, stride, first, count, lengths, bytearray(states))


def test_a_run_wants_a_cipher_that_opens() -> None:
    suite = SUITES[0]
    cipher = run_cipher.run_cipher(suite, keys_for(suite), 256, os.urandom, sealing=True)
    assert cipher is not None
    with pytest.raises(ValueError, match="other direction"):
        open_slots(cipher, Window(), 4, bytearray(400), 400, 100, 0, 4, [], bytearray(4))


@pytest.mark.parametrize("size", [0, 32, 63, 65, 1 << 32])
def test_a_window_has_a_size_that_a_ring_can_have(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Window(size)


def marked(packet: bytes, tos: int) -> bytes:
    """The packet with another TOS octet; its header's checksum is wrong then, which nobody here looks at."""
    return packet[:1] + bytes([tos]) + packet[2:]


def frames() -> st.SearchStrategy[bytes]:
    """Frames of one packet as the kernel gives them, of every kind, some of them damaged."""
    packets = [
        ipv4(udp(b"x" * 30)),
        ipv4(udp(b"x" * 31, source_port=55, destination_port=53)),
        marked(ipv4(udp(b"x" * 1300)), 3),
        ipv4(udp(), options=b"\1\1\1\1"),
        ipv4(bytes(12) + b"\x50\x10" + bytes(30), protocol=6),
        ipv4(bytes(12) + b"\x50\x02" + bytes(30), protocol=6),
        ipv4(b"\x08" + bytes(7), protocol=1),
        ipv4(b"\x05" + bytes(7), protocol=1),
        ipv6(udp(b"y" * 44)),
        ipv6(b"\x81" + bytes(7), next_header=58),
    ]
    headers = [bytes(10), bytes((1, 0, 0, 0, 0, 0, 20, 0, 6, 0)), bytes((1, 1, 40, 0, 8, 0, 20, 0, 16, 0))]

    def damaged(frame: bytes, damage: list[tuple[int, int]]) -> bytes:
        data = bytearray(frame)
        for at, value in damage:
            data[at % len(data)] = value
        return bytes(data)

    damage = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 255)), max_size=2)
    whole = st.builds(bytes.__add__, st.sampled_from(headers), st.sampled_from(packets))
    return st.one_of(st.builds(damaged, whole, damage), st.binary(max_size=80))


def sealed_in_steps(sa: OutboundSa, frame: bytes, mtu: int) -> tuple[bytes | None, int] | None:
    """What the steps make of a frame that are taken where there is no such call."""
    count, size, _, tos, look = plain.examine(frame, len(frame))
    if count != 1 or look or size > mtu or sa.filter.measure(frame[10:], size) != size:
        return None
    text = bytearray(sa.layout.text_length(size))
    plain.segment(frame, len(frame), text, 0, len(text), 0, sa.layout.alignment - 1, 0, 1)
    return sa.seal_text(memoryview(text), size), tos


def of_python(packets: PacketFilter) -> PacketFilter:
    """The same filter without the compiled one."""
    found = copy(packets)
    found.quick = None
    return found


def sealed_at_once(sa: OutboundSa, frame: bytes | bytearray, mtu: int) -> tuple[bytes, int] | None:
    """What one call makes of a frame that has been read, where there is no descriptor to send by."""
    what, length, payload, tos = send_frame(sa, bytearray(frame), len(frame), mtu)
    assert length == len(frame)
    return (payload, tos) if what == ACCEPTED else None


def send_frame(
    sa: OutboundSa, frame: bytearray, length: int, mtu: int, *, device: int = -1, transport: int = -1, name: bytes = b""
) -> Sent:
    """What one call makes of a frame, with a number that is given back if it was not used."""
    assert sa.frames is not None
    number = sa.take_number()
    if not number:
        return UNOPENED, length, b"", 0
    sent = sa.frames.single(number, frame, length, mtu, device, transport, name)
    if sent[0] == UNOPENED:
        sa.give_back(number)
    else:
        sa.count_frame(sent[1])
    return sent


def receive(sa: InboundSa, buffer: bytearray, transport: int, device: int, *, clamp: bool) -> Received:
    """What one call makes of the next datagram, with the packet as it is after a longer look."""
    call = sa.receiver(buffer, transport, device, clamp=clamp)
    assert call is not None
    what, opened, length, size, tos, name = call()
    packet = None if what in (UNOPENED, NOTHING) else sa.received(what, opened, tos)
    return what, packet, length, size, tos, name  # type: ignore[return-value]


@given(st.sampled_from(FILTERS), frames(), st.integers(-3, 3))
def test_the_compiled_filter_says_what_the_one_in_python_says_or_nothing(
    packets: PacketFilter, frame: bytes, more: int
) -> None:
    """P2, P7: addresses, protocols and ports of both families."""
    packet = frame[10:]
    available = min(len(packet) + more, len(packet))
    assert packets.quick is not None
    quick = packets.quick.measure(packet, available)
    assert quick in (0, of_python(packets).measure(packet, available))


def test_plain_packets_are_judged_without_python() -> None:
    """Otherwise the comparisons here would compare nothing."""
    anywhere, dns, ping = FILTERS[0], FILTERS[6], FILTERS[8]
    packet = ipv4(udp(b"x", source_port=53))
    assert all(each.quick is not None for each in FILTERS)
    assert [each.quick and each.quick.measure(packet, len(packet)) for each in (anywhere, dns, ping)] == [29, 29, -1]
    echo = ipv4(b"\x08" + bytes(7), protocol=1)
    assert [each.quick and each.quick.measure(echo, len(echo)) for each in (anywhere, dns, ping)] == [28, -1, 28]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@given(packets=st.sampled_from(FILTERS), some=st.lists(frames(), max_size=5), mtu=st.sampled_from([58, 1400]))
def test_single_frames_are_sealed_as_in_steps(
    suite: EspSuite, packets: PacketFilter, some: list[bytes], mtu: int
) -> None:
    choose_cipher({})
    ours, theirs = (OutboundSa(256, suite, keys_for(suite), filter=packets, entropy=bytes) for _ in range(2))
    for frame in some:
        sealed = sealed_at_once(ours, frame, mtu)
        if sealed is not None:
            assert sealed == sealed_in_steps(theirs, frame, mtu)
        assert (ours.sequence, ours.counters) == (theirs.sequence, theirs.counters)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_usual_frames_are_sealed_with_one_call_and_numbers_end(suite: EspSuite) -> None:
    """P6: no number is used twice, and none after the last one."""
    keys = keys_for(suite)
    sa = OutboundSa(256, suite, keys, filter=FILTERS[0], entropy=os.urandom, last_sequence=3)
    receiver = InboundSa(256, suite, keys, filter=FILTERS[0])
    packet = marked(ipv4(udp(b"x" * 100)), 7)
    frame, unusual = bytearray(bytes(10) + packet), bytearray(bytes(10) + ipv4(udp(), options=b"\1\1\1\1"))
    sealed = [sealed_at_once(sa, each, 1400) for each in (frame, unusual, frame, frame, frame)]
    assert [found and found[1] for found in sealed] == [7, None, 7, 7, None]
    assert receiver.open([found[0] for found in sealed if found]) == [packet] * 3
    assert sa.sequence == 3


SEGMENT = bytes(12) + b"\x50\x10" + bytes(6)
CUT = bytes((1, 1, 40, 0, 38, 0, 20, 0, 16, 0))  # TCP over IPv4 in segments of 38 bytes, as long as the datagrams here
STARTS = [bytes(10) + ipv4(udp(b"x" * 30)), CUT + ipv4(SEGMENT + bytes(38), protocol=6)]


def super_packet(size: int, count: int) -> bytes:
    """TCP over IPv4 in segments of so many bytes."""
    header = bytes((1, 1, 40, 0, size & 0xFF, size >> 8, 20, 0, 16, 0))
    return header + ipv4(SEGMENT + bytes(size * count), protocol=6)


LONG = st.builds(super_packet, st.integers(900, 1400), st.integers(30, 45))
ALIKE = st.integers(1, 200).map(lambda size: CUT + ipv4(SEGMENT + bytes(size), protocol=6))


@given(
    packets=st.sampled_from(FILTERS),
    first=st.sampled_from(STARTS),
    some=st.lists(st.one_of(frames(), ALIKE, st.sampled_from(STARTS)), max_size=6),
    mtu=st.sampled_from([58, 1400]),
)
def test_runs_grow_as_they_are_filled(packets: PacketFilter, first: bytes, some: list[bytes], mtu: int) -> None:
    """The call that appends packets like those before does what the steps do."""
    suite = SUITES[0]
    choose_cipher({})
    sa = OutboundSa(256, suite, keys_for(suite), filter=packets, entropy=os.urandom)
    ours, theirs = SendRun(), SendRun()
    for run in (ours, theirs):
        run.add(sa, bytearray(first), len(first), plain.examine(first, len(first)), 0)
    for frame in some:
        before = ours.count
        if not ours.grow(bytearray(frame), len(frame), mtu):
            assert ours.count == before
            continue
        examined = plain.examine(frame, len(frame))
        assert examined[1] <= mtu
        assert not examined[4]
        assert of_python(packets).measure(frame[10:], len(frame) - 10) == len(frame) - 10
        assert theirs.add(sa, bytearray(frame), len(frame), examined, 0) == examined[0]
    assert (ours.count, ours.last, ours._bytes) == (theirs.count, theirs.last, theirs._bytes)
    assert ours.slots.buffer == theirs.slots.buffer
    ours.clear()
    assert not ours.grow(bytearray(first), len(first), mtu), "an empty run is of no SA"


def test_super_packets_make_a_run_grow_as_long_as_they_fit() -> None:
    """Six segments each, the last of them shorter at the end."""
    sa = OutboundSa(256, SUITES[0], keys_for(SUITES[0]), filter=FILTERS[0], entropy=os.urandom)
    whole, shorter = (bytearray(CUT + ipv4(SEGMENT + bytes(size), protocol=6)) for size in (6 * 38, 5 * 38 + 7))
    run = SendRun()
    run.add(sa, whole, len(whole), plain.examine(whole, len(whole)), 0)
    grown = [run.grow(frame, len(frame), 1400) for frame in (*[whole] * 8, shorter, whole)]
    assert grown == [True] * 9 + [False]
    assert run.count == 60
    assert run.last == sa.layout.sealed_length(47)


def send_frames(sa: OutboundSa, run: SendRun, frame: bytearray, length: int, mtu: int, **other: object) -> SentFrames:
    """`OutboundSa.send_frames`, by default with nothing to read from, and nothing to send by."""
    device, transport, name, most, room, runs = (
        other.get(key, default)
        for key, default in {"device": -1, "transport": -1, "name": b"", "most": 9, "room": 1 << 20, "runs": 9}.items()
    )
    return sa.send_frames(frame, length, mtu, run.slots, (device, transport, name), (most, room, runs))  # type: ignore[arg-type]


def in_steps(sa: OutboundSa, packets: PacketFilter, frame: bytes, mtu: int) -> SendRun:
    """A frame's packets, sealed by the steps that Python takes."""
    examined = plain.examine(frame, len(frame))
    assert examined[1] <= mtu
    assert not examined[4]
    assert of_python(packets).measure(frame[10:], len(frame) - 10) == len(frame) - 10
    steps = SendRun()
    assert steps.add(sa, bytearray(frame), len(frame), examined, 0) == examined[0]
    assert steps.seal()
    return steps


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@given(
    packets=st.sampled_from(FILTERS),
    some=st.lists(st.one_of(frames(), ALIKE, LONG), max_size=5),
    mtu=st.sampled_from([58, 1400]),
)
def test_frames_are_sealed_as_in_steps(suite: EspSuite, packets: PacketFilter, some: list[bytes], mtu: int) -> None:
    choose_cipher({})
    ours, theirs = (OutboundSa(256, suite, keys_for(suite), filter=packets, entropy=bytes) for _ in range(2))
    for frame in some:
        run, steps = SendRun(), SendRun()
        count, done, taken, left, unsent = send_frames(ours, run, bytearray(frame), len(frame), mtu)
        assert (count > 0) == (unsent is not None) == (left == 0 < len(frame))
        if unsent is not None:
            steps = in_steps(theirs, packets, frame, mtu)
            run.hold(unsent)
            assert (done, taken) == (1, len(frame))
        assert (run.count, run.end, run.tos) == (steps.count, steps.end, steps.tos)
        assert run.slots.buffer[: run.end] == steps.slots.buffer[: run.end]
        assert (ours.sequence, ours.counters) == (theirs.sequence, theirs.counters)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_usual_super_packets_are_sealed_with_one_call_and_numbers_end(suite: EspSuite) -> None:
    """P6: a call may use as many numbers as a run has packets, so the last ones are left to the steps."""
    frame = bytearray(super_packet(1300, 40))
    sa = OutboundSa(256, suite, keys_for(suite), filter=FILTERS[0], entropy=os.urandom, last_sequence=110)
    assert [send_frames(sa, SendRun(), frame, len(frame), 1400)[0] for _ in range(3)] == [40, 40, 0]
    assert sa.sequence == 80
    too_long = bytearray(super_packet(1300, 48))
    assert send_frames(sa, SendRun(), too_long, len(too_long), 1400) == (0, 0, 0, len(too_long), None)
    assert send_frames(sa, SendRun(), frame, len(frame), 1300) == (0, 0, 0, len(frame), None)
    assert sa.sequence == 80


FITTING = {
    "40 segments": super_packet(1300, 40),
    "20 segments": super_packet(1300, 20),
    "13 shorter segments": super_packet(1200, 13),
    "a rest": super_packet(1300, 3)[:-1] + b"\0",
    "short": bytes(10) + ipv4(udp(b"x" * 30)),
    "shorter": bytes(10) + ipv4(udp(b"x" * 5)),
    "marked": bytes(10) + marked(ipv4(udp(b"x" * 30)), 3),
}
OTHERS = {
    "too long for a run": super_packet(1300, 48),
    "of another protocol": super_packet(1300, 40)[:19] + b"\x2f" + super_packet(1300, 40)[20:],
}


def in_runs(
    sa: OutboundSa, some: Sequence[bytes], limits: tuple[int, int, int], *, sending: bool
) -> tuple[list[SendRun], int]:
    """The runs that frames make by the steps that Python takes, and of how many frames they are."""
    most, room, runs = limits
    made: list[SendRun] = []
    run, done, taken = SendRun(), 0, 0
    for frame in some:
        if frame in OTHERS.values() or (done and (done >= most or taken >= room)):
            break
        examined = plain.examine(frame, len(frame))
        whole = run.count + examined[0] <= run._room
        if run.count and not (whole and run.add(sa, bytearray(frame), len(frame), examined, 0)):
            made.append(run)
            run = SendRun()
            if len(made) == runs or not sending:
                break
        if not run.count:
            assert run.add(sa, bytearray(frame), len(frame), examined, 0) == examined[0]
        done += 1
        taken += len(frame)
    made += [run] if run.count else []
    assert all(each.seal() for each in made)
    return made, done


@given(
    kinds=st.lists(st.sampled_from([*FITTING] * 2 + [*OTHERS]), min_size=1, max_size=9),
    most=st.integers(1, 9),
    room=st.sampled_from([1, 90_000, 1 << 20]),
    runs=st.sampled_from([1, 2, 99]),
    sending=st.booleans(),
)
def test_frames_that_wait_are_sent_as_runs(
    path: Path, kinds: list[str], most: int, room: int, runs: int, *, sending: bool
) -> None:
    """Those that are alike share one, up to what was not sent, needs a longer look, or is too much for one call."""
    choose_cipher({})
    some = [(FITTING | OTHERS)[kind] for kind in kinds]
    ours, theirs = (OutboundSa(256, SUITES[0], keys_for(SUITES[0]), filter=FILTERS[0], entropy=bytes) for _ in range(2))
    expected, done = in_runs(theirs, some, (most, room, runs), sending=sending)
    with contextlib.closing(Waiting(some[1:])) as waiting:
        buffer, run = bytearray(some[0].ljust(70_000, b"\0")), SendRun()
        where = {"device": waiting.descriptor, "most": most, "room": room, "runs": runs}
        where |= {"transport": path.far.descriptor if sending else -1, "name": sockaddr.pack(path.near.local)}
        count, frames, taken, left, unsent = send_frames(ours, run, buffer, len(some[0]), 1400, **where)
        assert (frames, taken) == (done, sum(map(len, some[:done])))
        assert (unsent is None) == (sending or not expected)
        if unsent is not None:
            run.hold(unsent)
        arrived = list(received(path.near)) if sending else [bytes(run.slots.buffer[: run.end])] if unsent else []
        assert arrived == [bytes(steps.slots.buffer[: steps.end]) for steps in expected]
        assert count == sum(steps.count for steps in expected)
        assert (ours.sequence, ours.counters) == (theirs.sequence, theirs.counters)
        rest = [bytes(buffer[:left])] if left > 0 else []
        assert [*some[:done], *rest, *waiting.rest()] == some
        assert left != -1 or done == len(some)


def test_a_descriptor_that_fails_is_left_to_who_reads_next() -> None:
    sa = OutboundSa(256, SUITES[0], keys_for(SUITES[0]), filter=FILTERS[0], entropy=os.urandom)
    frame = bytearray(bytes(10) + ipv4(udp(b"x" * 30)))
    waiting = Waiting([bytes(frame)])
    waiting.close()
    count, frames, taken, left, unsent = send_frames(sa, SendRun(), frame, len(frame), 1400, device=waiting.descriptor)
    assert (count, frames, taken, left, unsent is not None) == (1, 1, len(frame), -1, True)


def test_no_frame_is_read_beyond_its_buffer() -> None:
    """P17"""
    sa = OutboundSa(256, SUITES[0], keys_for(SUITES[0]), filter=FILTERS[0], entropy=os.urandom)
    frame = bytearray(bytes(10) + ipv4(udp(b"x" * 30)))
    with contextlib.closing(Waiting([bytes(frame) + bytes(500)])) as waiting:
        # What lies behind the packet is cut off, as read(2) does.
        found = send_frames(sa, SendRun(), frame, len(frame), 1400, device=waiting.descriptor)
    assert found[:4] == (2, 2, 2 * len(frame), -1)


def received(socket: UdpSocket) -> Iterator[bytes]:
    """What has arrived, each run by itself."""
    buffer = bytearray(1 << 16)
    while (arrived := socket.receive_into(buffer)) is not None:
        yield bytes(buffer[: arrived[0]])


def test_frames_are_written_up_to_one_that_is_refused() -> None:
    """That one is for the caller, who goes on behind it."""
    write, out = frame_writer(), bytearray(range(100))
    assert write is not None
    pieces = [(0, 10, 1, 0), (10, 40, 1, 0), (90, 100, 2, 0)]
    with contextlib.closing(Waiting([])) as device:
        assert write(device.descriptor, out, pieces, 0) == 3
        assert write(device.descriptor, out, pieces, 2) == 3
        expected = [out[start:end] for start, end, _, _ in (*pieces, pieces[2])]
        assert device.taken() == expected
        with pytest.raises(IndexError):
            write(device.descriptor, out, [(0, 10, 1, 0), (90, 101, 1, 0)], 0)
        assert device.taken() == [out[:10]]
    assert write(device.descriptor, out, pieces, 1) == 1


def test_a_run_grows_until_it_is_full() -> None:
    sa = OutboundSa(256, SUITES[0], keys_for(SUITES[0]), filter=FILTERS[0], entropy=os.urandom)
    first = bytearray(bytes(10) + ipv4(udp(b"x" * 30)))
    run = SendRun()
    run.add(sa, first, len(first), plain.examine(first, len(first)), 0)
    assert [run.grow(first, len(first), 1400) for _ in range(64)] == [True] * 63 + [False]
    assert run.count == 64


class Waiting:
    """Frames that wait behind a descriptor, as a device has them."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._there, self._here = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for frame in frames:
            self._there.send(frame)
        self._here.setblocking(False)
        self._there.setblocking(False)
        self.descriptor = self._here.fileno()

    def taken(self) -> list[bytes]:
        """The frames that were written to the descriptor."""
        frames = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frames.append(self._there.recv(1 << 17))
        return frames

    def rest(self) -> Iterator[bytes]:
        with contextlib.suppress(BlockingIOError):
            while True:
                yield self._here.recv(1 << 17)

    def close(self) -> None:
        self._there.close()
        self._here.close()


@pytest.mark.parametrize(("stride", "count"), [(0, 0), (-1, 0), (92, -1), (92, 2), (92, 1 << 55)])
def test_nothing_is_written_outside_the_buffer(stride: int, count: int) -> None:
    """P17"""
    packets = FILTERS[0].quick
    assert packets is not None
    frame = bytes(10) + ipv4(udp(b"x" * 30))
    out = bytearray(92 * 2)
    with pytest.raises((ValueError, IndexError)):
        pack(packets, out, stride, 16, 3, 16, 0, 1 << 62, 1 << 62, count, frame, len(frame), 1400)
    assert not any(out)
    cipher = run_cipher.run_cipher(SUITES[0], keys_for(SUITES[0]), 256, os.urandom, sealing=False)
    assert cipher is not None
    with pytest.raises(ValueError, match="other direction"):
        send_single(cipher, packets, 3, 1, bytearray(frame), len(frame), 1400, -1, -1, b"")


# From one descriptor to the other

LOOPBACK = {4: "127.0.0.1", 6: "::1"}


class Path:
    """Two sockets that can send to each other."""

    def __init__(self, version: int, port: int = 0) -> None:
        self.near, self.far = (UdpSocket(version=version, local_address=LOOPBACK[version], port=p) for p in (port, 0))
        self.near.enable_merging()

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture(scope="module", params=[4, 6], ids=["over IPv4", "over IPv6"])
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    with contextlib.closing(Path(request.param)) as made:
        yield made


@given(
    packets=st.sampled_from(FILTERS), some=st.lists(frames().filter(len), max_size=5), mtu=st.sampled_from([58, 1400])
)
def test_frames_are_read_sealed_and_sent_as_in_steps(
    path: Path, packets: PacketFilter, some: list[bytes], mtu: int
) -> None:
    """With the TOS octet, and nothing else leaves."""
    choose_cipher({})
    suite = SUITES[0]
    ours, theirs = (OutboundSa(256, suite, keys_for(suite), filter=packets, entropy=bytes) for _ in range(2))
    buffer = bytearray(70_000)
    where = {"transport": path.far.descriptor, "name": sockaddr.pack(path.near.local)}
    with contextlib.closing(Waiting(some)) as waiting:
        for frame in some:
            what, length, payload, tos = send_frame(ours, buffer, 0, mtu, device=waiting.descriptor, **where)
            assert buffer[:length] == frame
            arrived = path.near.receive_batch(9)
            if what == UNOPENED:
                assert not arrived
                continue
            assert (what, payload) == (CARRIED, b"")
            expected = sealed_in_steps(theirs, frame, mtu)
            assert expected is not None
            assert [(data, octet) for data, _, octet in arrived] == [expected]
            assert tos == expected[1]
        assert send_frame(ours, buffer, 0, mtu, device=waiting.descriptor, **where) == (UNOPENED, 0, b"", 0)
    assert (ours.sequence, ours.counters) == (theirs.sequence, theirs.counters)


@pytest.mark.parametrize("name", [b"", b"x", bytes(28), sockaddr.pack(("127.0.0.1", 0))])
def test_what_the_kernel_does_not_take_is_handed_back_and_can_be_sent(name: bytes) -> None:
    suite = SUITES[0]
    sa = OutboundSa(256, suite, keys_for(suite), filter=FILTERS[0], entropy=bytes)
    receiver = InboundSa(256, suite, keys_for(suite), filter=FILTERS[0])
    frame = bytearray(bytes(10) + ipv4(udp(b"x" * 100)))
    with contextlib.closing(Path(4)) as made:
        made.near.close()
        for descriptor in (made.near.descriptor, made.far.descriptor):
            what, length, payload, _ = send_frame(sa, frame, len(frame), 1400, transport=descriptor, name=name)
            assert (what, length, receiver.open([payload])) == (ACCEPTED, len(frame), [frame[10:]])
    assert sa.sequence == sa.counters.packets == 2


SYN = bytes(12) + b"\x60\x02" + bytes(6) + b"\2\4\5\xb4"
INNER = st.sampled_from(
    [
        ipv4(udp(b"x" * 30)),
        ipv4(udp(b"x" * 1300)),
        ipv4(udp(), options=b"\1\1\1\1"),
        ipv4(SYN, protocol=6),
        ipv4(SYN[:12] + b"\x60\x10" + SYN[14:], protocol=6),
        ipv4(SYN[:20], protocol=6),
        ipv4(b"\x08" + bytes(7), protocol=1),
        ipv4(udp(), source="127.0.0.1"),
        ipv6(udp()),
        ipv6(SYN, next_header=6),
        ipv6(b"\x81" + bytes(7), next_header=58),
    ]
)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@given(data=st.data())
def test_datagrams_are_received_opened_and_written_as_in_python(
    path: Path, suite: EspSuite, data: st.DataObject
) -> None:
    """P1, P2, P10: damaged, repeated, marked or too short; and only what Python has accepted reaches the device."""
    choose_cipher({})
    packets, clamp = data.draw(st.sampled_from(FILTERS)), data.draw(st.booleans())
    keys = keys_for(suite)
    sender = OutboundSa(256, suite, keys, filter=packets, entropy=os.urandom)
    ours = InboundSa(256, suite, keys, filter=packets)
    run_cipher.load(())
    theirs = InboundSa(256, suite, keys, filter=packets)
    buffer = bytearray(70_000)
    written = 0
    with contextlib.closing(Waiting([])) as device:
        for _ in range(data.draw(st.integers(1, 6))):
            inner = data.draw(INNER)
            (sealed,) = sender.seal([inner + bytes(data.draw(st.integers(0, 20)))])
            times, tos = data.draw(st.sampled_from([1, 1, 2])), data.draw(st.sampled_from([0, 0, 1, 2, 3, 0xB8]))
            if data.draw(st.integers(0, 4)) == 0:
                at = data.draw(st.integers(4, len(sealed) - 1))
                sealed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            elif data.draw(st.integers(0, 4)) == 0:
                sealed = sealed[: data.draw(st.integers(8, len(sealed)))]
            for _ in range(times):
                assert path.far.send_batch([sealed], path.near.local, tos) == 1
                what, packet, length, size, octet, name = receive(
                    ours, buffer, path.near.descriptor, device.descriptor, clamp=clamp
                )
                assert (buffer[:length], length, octet) == (sealed, size, tos)
                assert sockaddr.unpack(name)[:2] == path.far.local
                assert packet == theirs.open_one(sealed, tos & 3)
                if what == CARRIED:
                    written += 1
                    assert device.taken() == [bytes(10) + bytes(packet or b"")]
                    assert not (clamp and packet in (ipv4(SYN, protocol=6), ipv6(SYN, next_header=6)))
                assert device.taken() == []
        assert receive(ours, buffer, path.near.descriptor, device.descriptor, clamp=clamp)[0] == NOTHING
    assert ours.counters == theirs.counters
    assert (ours.authenticated, top(ours)) == (theirs.authenticated, top(theirs))


def test_what_is_not_of_the_sa_is_left_in_the_buffer(path: Path) -> None:
    """Another SPI, what is too short for one, several that the kernel has merged, and nothing at all."""
    suite = SUITES[0]
    sender = OutboundSa(257, suite, keys_for(suite), filter=FILTERS[0], entropy=os.urandom)
    same = OutboundSa(256, suite, keys_for(suite), filter=FILTERS[0], entropy=os.urandom)
    ours = InboundSa(256, suite, keys_for(suite), filter=FILTERS[0])
    buffer = bytearray(70_000)
    packet = ipv4(udp(b"x" * 30))
    for payload in (*sender.seal([packet]), b"", b"\xff", bytes(4) + b"ike"):
        assert path.far.send(payload, path.near.local)
        what, opened, length, size, _, name = receive(ours, buffer, path.near.descriptor, -1, clamp=True)
        assert (what, opened, buffer[:length], size) == (UNOPENED, None, payload, length)
        assert sockaddr.unpack(name)[:2] == path.far.local
    merged = b"".join(same.seal([packet] * 3))
    assert path.far.send_run(merged, len(merged) // 3, path.near.local) == 3
    what, opened, length, size, _, _ = receive(ours, buffer, path.near.descriptor, -1, clamp=True)
    if path.near.merges and length > size:
        assert (what, opened, buffer[:length], size) == (UNOPENED, None, merged, len(merged) // 3)
        assert not ours.authenticated


def test_nothing_from_port_500_is_taken_for_esp() -> None:
    """N25"""
    suite = SUITES[0]
    sender = OutboundSa(256, suite, keys_for(suite), filter=FILTERS[0], entropy=os.urandom)
    ours = InboundSa(256, suite, keys_for(suite), filter=FILTERS[0])
    with contextlib.closing(Path(4, 500)) as made:
        if made.near.local[1] != 500:
            pytest.skip("port 500 is taken")
        assert made.near.send(sender.seal([ipv4(udp())])[0], made.far.local)
        assert receive(ours, bytearray(2000), made.far.descriptor, -1, clamp=True)[:2] == (UNOPENED, None)


def test_a_packet_that_a_device_does_not_take_is_handed_back(path: Path) -> None:
    suite = SUITES[0]
    sender = OutboundSa(256, suite, keys_for(suite), filter=FILTERS[0], entropy=os.urandom)
    ours = InboundSa(256, suite, keys_for(suite), filter=FILTERS[0])
    device = Waiting([])
    device.close()
    packet = ipv4(udp(b"x" * 30))
    for descriptor in (device.descriptor, -1):
        assert path.far.send(sender.seal([packet])[0], path.near.local)
        assert receive(ours, bytearray(2000), path.near.descriptor, descriptor, clamp=True)[:2] == (ACCEPTED, packet)
    assert ours.counters.packets == 2


def test_a_number_is_given_back_only_if_no_other_has_been_taken() -> None:
    """P6: a number that was used meanwhile is never used again."""
    sa = OutboundSa(256, SUITES[0], keys_for(SUITES[0]), filter=FILTERS[0], entropy=os.urandom, last_sequence=3)
    first = sa.take_number()
    sa.give_back(first)
    assert (first, sa.take_number(), sa.take_number()) == (1, 1, 2)
    sa.give_back(1)
    assert (sa.take_number(), sa.take_number()) == (3, 0)


# Waiting


class Two:
    """Two descriptors that are waited for, and what happens when one of them has something."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self.pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
        self.first, self.second = (here.fileno() for here, _ in self.pairs)
        for descriptor in (self.first, self.second):
            self.poll.register(descriptor, select.EPOLLIN)
        self.called: list[int] = []
        self.result = CARRIED

    def tell(self, descriptor: int, times: int = 1) -> None:
        for _ in range(times):
            self.pairs[descriptor == self.second][1].send(b"x")

    def calls(self, *, then: int | None = None) -> dict[int, Callable[[], tuple[int, int]]]:
        """Take one each; what the first takes makes the descriptor `then` readable."""

        def take(descriptor: int) -> tuple[int, int]:
            self.called.append(descriptor)
            self.pairs[descriptor == self.second][0].recv(9)
            if then is not None and len(self.called) == 1:
                self.tell(then)
            return self.result, len(self.called)

        return {each: partial(take, each) for each in (self.first, self.second)}

    def close(self) -> None:
        self.poll.close()
        for pair in self.pairs:
            for end in pair:
                end.close()


@pytest.fixture
def two() -> Iterator[Two]:
    with contextlib.closing(Two()) as made:
        yield made


def test_what_one_packet_causes_is_carried_before_anything_else(two: Two) -> None:
    two.tell(two.first)
    results = {two.first: (CARRIED, 1), two.second: (CARRIED, 2)}
    assert relay(two.poll.fileno(), -1, two.calls(then=two.second)) == ([], results, False)


def test_a_packet_that_causes_nothing_is_told_of_after_a_moment(two: Two) -> None:
    two.tell(two.second)
    assert relay(two.poll.fileno(), -1, two.calls()) == ([], {two.second: (CARRIED, 1)}, True)
    two.tell(two.second)
    assert relay(two.poll.fileno(), 0, two.calls()) == ([], {two.second: (CARRIED, 2)}, False)


def test_more_of_the_same_is_left(two: Two) -> None:
    two.tell(two.first, 2)
    ready = [(two.first, select.EPOLLIN)]
    assert relay(two.poll.fileno(), -1, two.calls()) == (ready, {two.first: (CARRIED, 1)}, False)


@pytest.mark.parametrize("result", [ACCEPTED, UNOPENED, NOTHING])
def test_nobody_waits_while_there_is_something_left_to_do(two: Two, result: int) -> None:
    two.result = result
    two.tell(two.first)
    assert relay(two.poll.fileno(), -1, two.calls(then=two.second)) == ([], {two.first: (result, 1)}, False)


def test_several_at_once_and_strangers_are_left(two: Two) -> None:
    two.tell(two.first)
    calls = two.calls()
    del calls[two.first]
    assert relay(two.poll.fileno(), -1, calls) == ([(two.first, select.EPOLLIN)], {}, False)
    two.tell(two.second)
    ready, results, later = relay(two.poll.fileno(), -1, two.calls())
    assert (sorted(ready), results, later) == (
        sorted((each, select.EPOLLIN) for each in (two.first, two.second)),
        {},
        False,
    )


def test_nothing_comes_in_time(two: Two) -> None:
    assert relay(two.poll.fileno(), 0, two.calls()) == relay(two.poll.fileno(), 2, two.calls()) == ([], {}, False)
    two.poll.close()
    assert relay(-1, -1, two.calls()) == ([], {}, False)


def test_an_error_of_a_call_leaves_it(two: Two) -> None:
    def fail() -> None:
        raise OSError("no")

    two.tell(two.first)
    with pytest.raises(OSError, match="no"):
        relay(two.poll.fileno(), -1, {two.first: fail})
