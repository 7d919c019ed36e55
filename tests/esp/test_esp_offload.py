"""What segmentation and coalescing do to packets, held against packets built byte by byte in `offload_packets`."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
from offload_packets import ECN, TCPV4, TCPV6, UDP_L4, V4, V6, checksum, frame, ip, tcp, transport_is_right, udp

from ikeclient.esp.codec import choice as offload
from ikeclient.esp.codec import plain as offload_plain

MODULES: list[ModuleType] = [offload_plain]
if offload.ACTIVE == "compiled":
    from ikeclient.esp.codec import _offload

    MODULES.append(_offload)

GAP, ICV, MASK = 16, 16, 3
OTHER = (41000, 443)
OPTIONS = b"\x01\x01\x08\x0a" + bytes(range(8))  # NOP, NOP, timestamps
ROUTER_ALERT = b"\x94\x04\x00\x00"
DESTINATION_OPTIONS = bytes((6, 0, 1, 4, 0, 0, 0, 0))

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))


@pytest.fixture(params=MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def codec(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def cut(codec: ModuleType, data: bytes) -> list[bytes]:
    """The segments of a frame, unpacked from their slots by their trailers."""
    count, size, last, _, _ = codec.examine(data, len(data))
    if not count:
        return []
    stride = GAP + size + 2 + (-(size + 2) & MASK) + ICV
    out = bytearray(stride * count)
    codec.segment(data, len(data), out, 0, stride, GAP, MASK, 0, count)
    packets = []
    for i in range(count):
        length = size if i < count - 1 else last
        text = bytes(out[i * stride + GAP :][: length + 2 + (-(length + 2) & MASK)])
        pad = text[-2]
        assert text[-1] == (4 if data[10] >> 4 == 4 else 41)
        assert text[length:-2] == bytes(range(1, pad + 1))
        assert len(text) == length + pad + 2
        packets.append(text[:length])
    return packets


def big_tcp(payload: bytes, size: int, addresses: tuple[str, str] = V4, **options: int | bytes) -> bytes:
    extra = options.pop("extra", b"")
    head = {name: options.pop(name) for name in ("tos", "id", "chain") if name in options}
    body = tcp(payload, addresses=addresses, partial=True, **options)  # type: ignore[arg-type]
    packet = ip(body, 6, addresses, extra=extra, **head)
    kind = TCPV4 if addresses is V4 else TCPV6
    return frame(packet, kind=kind, size=size, start=len(packet) - len(body), offset=16)


def merge(codec: ModuleType, packets: list[bytes], states: bytes = b"", merge_udp: bool = True) -> list[bytes]:
    """What becomes of decrypted packets: the frames."""
    longest = max(map(len, packets))
    arena = bytearray()
    for packet in packets:
        room = longest - len(packet)
        text = packet + bytes(room) + b"\x00" + (b"\x04" if packet[0] >> 4 == 4 else b"\x29")
        arena += bytes(GAP) + text + bytes(ICV)
    stride = GAP + longest + 2 + ICV
    out = bytearray(len(arena))
    states = states or bytes(len(packets))
    frames, malformed, dummies = codec.coalesce(
        arena, len(arena), stride, 0, len(packets), GAP, ICV, states, out, merge_udp
    )
    assert (malformed, dummies) == (0, 0)
    assert sum(number for _, _, number, _ in frames) == states.count(0)
    assert sum(size for *_, size in frames) == sum(len(p) for p, s in zip(packets, states, strict=True) if not s)
    return [bytes(out[start:end]) for start, end, _, _ in frames]


def stream(
    count: int, size: int = 100, *, start: int = 1000, addresses: tuple[str, str] = V4, **options: int
) -> list[bytes]:
    """Consecutive segments as `ip(tcp(...))` builds them."""
    head = {name: options.pop(name) for name in ("tos", "ttl", "fragment", "label") if name in options}
    ports = options.pop("ports", (40000, 443))
    return [
        ip(
            tcp(bytes([65 + i]) * size, sequence=start + i * size, addresses=addresses, ports=ports, **options),  # type: ignore[arg-type]
            6,
            addresses,
            id=100 + i,
            **head,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
def test_frames_are_reviewed_together(codec: ModuleType, addresses: tuple[str, str]) -> None:
    """What lets one look at addresses and flags do for all frames of a run."""
    others = (addresses[0], "10.99.0.99" if addresses is V4 else "fd99::99")

    def review(*packets: bytes) -> tuple[int, int, bool, bool, int]:
        pieces = [bytes(10) + packet for packet in packets]
        ends = [sum(map(len, pieces[: i + 1])) for i in range(len(pieces))]
        frames = [(end - len(piece), end, 2, 70) for piece, end in zip(pieces, ends, strict=True)]
        result: tuple[int, int, bool, bool, int] = codec.review(memoryview(b"".join(pieces)), frames)
        return result

    first, second = stream(2, addresses=addresses)
    (other,) = stream(1, addresses=others)
    syn = ip(tcp(flags=2, addresses=addresses), 6, addresses)
    assert review() == (0, 0, True, False, 0)
    assert review(first, second) == (4, 140, True, False, 0)
    assert review(first, other) == (4, 140, False, False, 0)
    assert review(second, first, syn) == (6, 210, True, True, 0)
    assert review(stream(1)[0], stream(1, addresses=V6)[0]) == (4, 140, False, False, 0)
    icmp = ip(bytes(40), 1 if addresses is V4 else 58, addresses)  # P17: it needs a look of its own
    assert [review(*frames)[2] for frames in ((icmp,), (first, icmp), (icmp, first))] == [False] * 3
    long = bytearray(first)  # a header that is longer than it seems
    long[0 if addresses is V4 else 6] = 0x46 if addresses is V4 else 0
    assert not review(first, bytes(long))[2]
    for start, end in ((-1, 40), (0, 29), (0, len(first) + 11)):
        with pytest.raises(ValueError, match="no such frames"):
            codec.review(bytes(10) + first, [(start, end, 1, 1)])


@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("options", "selective"),
    [
        ("", 0),
        ("0101 080a 0000000100000002", 0),
        ("0101 050a 0000000100000002", 1),
        ("0101 080a 0000000100000002 0101 050a 0000000300000004", 1),
        ("050a 0000000100000002 0000", 1),
        ("0402 0101", 0),  # permitted, but not there
        ("0005 050a", 0),  # behind the end
        ("0101 0805", 0),  # inside another one
        ("0101 0801", 0),
        ("0800 050a", 0),  # of no length
        ("0101 0108", 0),  # cut off
        ("0101 0105", 1),
    ],
)
def test_selective_acknowledgements_are_seen(
    codec: ModuleType, addresses: tuple[str, str], options: str, selective: int
) -> None:
    """RFC 2018 section 3."""
    packet = ip(tcp(options=bytes.fromhex(options), addresses=addresses), 6, addresses)
    data, end = bytes(10) + packet, 10 + len(packet)
    assert codec.review(data, [(0, end, 1, len(packet))])[4] == selective
    assert codec.review(data, [(0, end - len(options.replace(" ", "")) // 2 - 1, 1, len(packet))])[4] == 0
    other = bytearray(data)
    other[10 + (9 if addresses is V4 else 6)] = 17
    assert codec.review(other, [(0, end, 1, len(packet))])[4] == 0


# From the machine


@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
def test_a_super_packet_becomes_the_packets_that_tcp_would_have_sent(
    codec: ModuleType, addresses: tuple[str, str]
) -> None:
    """Sequence, lengths, IP id and checksums; the last segment is short."""
    payload = bytes(range(256)) * 2
    data = big_tcp(payload, 200, addresses, options=OPTIONS, sequence=2**32 - 100, id=0xFFFF)
    expected = [
        ip(
            tcp(payload[at : at + 200], sequence=(2**32 - 100 + at) % 2**32, options=OPTIONS, addresses=addresses),
            6,
            addresses,
            id=(0xFFFF + i) % 65536,
        )
        for i, at in enumerate(range(0, 512, 200))
    ]
    assert cut(codec, data) == expected


def test_flags_go_to_the_segments_they_belong_to(codec: ModuleType) -> None:
    """FIN and PSH only on the last, CWR only on the first; URG with its pointer, ECE and ACK on all (RFC 3168)."""
    data = bytearray(big_tcp(bytes(300), 100, flags=FIN | PSH | ACK | URG | ECE | CWR, urgent=7))
    data[1] |= ECN
    packets = cut(codec, bytes(data))
    everywhere = ACK | URG | ECE
    assert [packet[33] for packet in packets] == [everywhere | CWR, everywhere, everywhere | FIN | PSH]
    assert {packet[38:40] for packet in packets} == {b"\x00\x07"}
    assert all(map(transport_is_right, packets))


def test_ipv4_options_are_left_alone(codec: ModuleType) -> None:
    packets = cut(codec, big_tcp(bytes(300), 100, extra=ROUTER_ALERT))
    assert len(packets) == 3
    assert {packet[20:24] for packet in packets} == {ROUTER_ALERT}
    assert all(map(transport_is_right, packets))


def test_ipv6_extension_headers_are_left_alone(codec: ModuleType) -> None:
    packets = cut(codec, big_tcp(bytes(300), 100, V6, extra=DESTINATION_OPTIONS, chain=60))
    assert len(packets) == 3
    assert {packet[40:48] for packet in packets} == {DESTINATION_OPTIONS}
    assert all(map(transport_is_right, packets))


@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
def test_a_udp_super_packet_becomes_datagrams(codec: ModuleType, addresses: tuple[str, str]) -> None:
    payload = bytes(range(250))
    body = udp(payload, addresses=addresses, partial=True)
    packet = ip(body, 17, addresses)
    data = frame(packet, kind=UDP_L4, size=100, start=len(packet) - len(body), offset=6)
    expected = [
        ip(udp(payload[at : at + 100], addresses=addresses), 17, addresses, id=100 + i)
        for i, at in enumerate((0, 100, 200))
    ]
    assert cut(codec, data) == expected


@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
def test_a_packet_that_only_lacks_its_checksum_gets_it(codec: ModuleType, addresses: tuple[str, str]) -> None:
    for builder, protocol, offset in ((tcp, 6, 16), (udp, 17, 6)):
        body = builder(b"odd", addresses=addresses, partial=True)
        packet = ip(body, protocol, addresses)
        data = frame(packet, start=len(packet) - len(body), offset=offset)
        assert cut(codec, data) == [ip(builder(b"odd", addresses=addresses), protocol, addresses)]


def test_timestamps_are_merged_only_where_they_are_the_same(codec: ModuleType) -> None:
    """RFC 7323: a later timestamp is news to the sender's clock, so it must not disappear in an earlier segment."""
    later = OPTIONS[:4] + bytes(range(1, 9))
    packets = [
        ip(tcp(bytes(100), sequence=1000 + 100 * n, options=OPTIONS if n < 2 else later), 6, id=n) for n in range(4)
    ]
    assert [cut(codec, data) for data in merge(codec, packets)] == [packets[:2], packets[2:]]


@pytest.mark.parametrize(("protocol", "offset"), [(136, 6), (33, 6), (58, 2), (47, 4)])
@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
def test_any_protocols_partial_checksum_is_completed(
    codec: ModuleType, protocol: int, offset: int, addresses: tuple[str, str]
) -> None:
    """UDP-Lite, DCCP, ICMPv6, GRE: the kernel says where it is, whatever it is (SCTP's CRC is always made there)."""
    body = bytearray(b"\x01\x02\x03\x04\x05\x06\x07\x08" * 3)
    body[offset : offset + 2] = (0x1234).to_bytes(2, "big")  # the pseudo header's sum, as the kernel leaves it
    packet = ip(bytes(body), protocol, addresses)
    (done,) = cut(codec, frame(packet, start=len(packet) - len(body), offset=offset))
    body[offset : offset + 2] = done[-len(body) :][offset : offset + 2]
    assert done == packet[: -len(body)] + body
    body[offset : offset + 2] = b"\0\0"
    total = (checksum(bytes(body)) ^ 0xFFFF) + 0x1234
    expected = ((total & 0xFFFF) + (total >> 16)) ^ 0xFFFF
    assert done[-len(body) :][offset : offset + 2] == expected.to_bytes(2, "big")


def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_ones(codec: ModuleType) -> None:
    """RFC 768: zero means that there is none."""
    for value in range(65536):
        body = udp(value.to_bytes(2, "big"))
        if body[6:8] == b"\xff\xff":
            break
    partial = udp(value.to_bytes(2, "big"), partial=True)
    packet = ip(partial, 17)
    assert cut(codec, frame(packet, start=20, offset=6)) == [ip(body, 17)]


def test_a_complete_packet_goes_through_unchanged(codec: ModuleType) -> None:
    packet = bytearray(ip(tcp(b"x" * 33), 6))
    packet[36] ^= 0xFF  # wrong, and nobody's business
    assert cut(codec, frame(bytes(packet))) == [bytes(packet)]


@pytest.mark.parametrize(
    ("change", "value"),
    [(1, 3), (1, TCPV6), (0, 0), (4, 0), (6, 24), (6, 200), (8, 6), (10, 0x46), (10, 0x55), (42, 0x40), (42, 0)],
)
def test_a_frame_that_makes_no_sense_is_nothing(codec: ModuleType, change: int, value: int) -> None:
    """P11"""
    data = bytearray(big_tcp(bytes(150), 100))
    assert len(cut(codec, bytes(data))) == 2
    data[change] = value
    if change == 4:
        data[5] = 0
    assert cut(codec, bytes(data)) == []


@pytest.mark.parametrize(
    ("packet", "look"),
    [
        (ip(tcp(flags=SYN), 6), True),
        (ip(tcp(), 6), False),
        (ip(udp(), 17), False),
        (ip(udp(), 17, extra=ROUTER_ALERT), True),
        (ip(tcp(flags=SYN, addresses=V6), 6, V6), True),
        (ip(tcp(addresses=V6), 6, V6), False),
        (ip(tcp(addresses=V6), 6, V6, extra=DESTINATION_OPTIONS, chain=60), True),
        (ip(bytes(8), 58, V6), False),
    ],
)
def test_what_may_be_a_syn_gets_a_longer_look(codec: ModuleType, packet: bytes, look: bool) -> None:
    assert codec.examine(frame(packet), len(packet) + 10)[4] is look


# From the network


@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
def test_segments_that_follow_each_other_become_one_and_come_apart_again(
    codec: ModuleType, addresses: tuple[str, str]
) -> None:
    packets = stream(5, addresses=addresses)
    packets.append(ip(tcp(b"end", sequence=1500, flags=ACK | PSH, addresses=addresses), 6, addresses, id=105))
    (merged,) = merge(codec, packets)
    assert cut(codec, merged) == packets


@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
def test_datagrams_of_one_size_become_one_and_come_apart_again(codec: ModuleType, addresses: tuple[str, str]) -> None:
    packets = [
        ip(udp(bytes([i]) * size, addresses=addresses), 17, addresses, id=100 + i)
        for i, size in enumerate((80, 80, 80, 30))
    ]
    (merged,) = merge(codec, packets)
    assert cut(codec, merged) == packets
    assert merge(codec, packets, merge_udp=False) == [frame(packet) for packet in packets]


def test_a_longer_datagram_is_not_appended(codec: ModuleType) -> None:
    packets = [ip(udp(bytes(size)), 17, id=100 + i) for i, size in enumerate((80, 81, 80))]
    assert [cut(codec, merged) for merged in merge(codec, packets)] == [packets[:1], packets[1:]]


def acknowledgement(number: int, *, addresses: tuple[str, str] = V4, **options: int | bytes) -> bytes:
    """A packet without data as `ip(tcp(...))` builds it."""
    head = {name: options.pop(name) for name in ("tos", "ttl", "fragment", "label", "id") if name in options}
    body = tcp(b"", acknowledgement=number % 2**32, addresses=addresses, **options)  # type: ignore[arg-type]
    return ip(body, 6, addresses, **head)  # type: ignore[arg-type]


def at_time(value: int) -> bytes:
    """The options of a TCP header that has a timestamp only."""
    return bytes.fromhex("0101080a") + (value % 2**32).to_bytes(4, "big") + bytes(4)


@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("start", [1000, 2**32 - 300])
@pytest.mark.parametrize("timed", [False, True])
def test_of_acknowledgements_that_say_ever_more_the_last_one_stands_for_all(
    codec: ModuleType, addresses: tuple[str, str], start: int, timed: bool
) -> None:
    packets = [
        acknowledgement(
            start + 200 * n, addresses=addresses, window=500 - n, options=at_time(start + n // 2) if timed else b""
        )
        for n in range(4)
    ]
    assert merge(codec, packets) == [frame(packets[-1])]
    other = acknowledgement(9, addresses=addresses, ports=OTHER)  # type: ignore[arg-type]
    assert merge(codec, [*packets[:2], other, *packets[2:]]) == [frame(packets[-1]), frame(other)]


SECOND: dict[str, bytes] = {
    "the same": acknowledgement(1000, options=at_time(50)),
    "less": acknowledgement(900, options=at_time(50)),
    "half of all numbers more": acknowledgement(1000 + 2**31, options=at_time(50)),
    "an earlier time": acknowledgement(1200, options=at_time(49)),
    "no time": acknowledgement(1200),
    "what is no time": acknowledgement(1200, options=bytes.fromhex("01010112") + bytes(8)),
    "another sequence number": acknowledgement(1200, options=at_time(50), sequence=999),
    "selective": acknowledgement(1200, options=bytes.fromhex("0101050a0000000100000002")),
    "time and selective": acknowledgement(1200, options=at_time(50) + bytes.fromhex("0101050a0000000100000002")),
    "congestion seen": acknowledgement(1200, options=at_time(50), flags=ACK | ECE),
    "PSH": acknowledgement(1200, options=at_time(50), flags=ACK | PSH),
    "FIN": acknowledgement(1200, options=at_time(50), flags=ACK | FIN),
    "another TOS": acknowledgement(1200, options=at_time(50), tos=4),
    "an ECN mark": acknowledgement(1200, options=at_time(50), tos=3),
    "another TTL": acknowledgement(1200, options=at_time(50), ttl=63),
    "data": ip(tcp(b"data", acknowledgement=1200, options=at_time(50)), 6),
    "a wrong checksum": acknowledgement(1200, options=at_time(50))[:-1] + b"\1",
}


@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND.keys())
def test_an_acknowledgement_that_says_anything_else_is_kept(codec: ModuleType, second: bytes) -> None:
    """What three of the same mean, or an echo of congestion, is not lost (RFC 5681 section 3.2, RFC 3168)."""
    packets = [acknowledgement(800, options=at_time(50)), acknowledgement(1000, options=at_time(50)), second]
    assert merge(codec, packets) == [frame(packet) for packet in packets[1:]]


BREAKS: dict[str, list[bytes]] = {
    "a gap in the sequence": stream(3, start=1301),
    "another acknowledgement": stream(3, start=1300, acknowledgement=78),
    "another window": stream(3, start=1300, window=501),
    "another TOS": stream(3, start=1300, tos=4),
    "an ECN mark": stream(3, start=1300, tos=3),
    "another TTL": stream(3, start=1300, ttl=63),
    "fragmentation allowed": stream(3, start=1300, fragment=0),
    "an urgent pointer": stream(3, start=1300, urgent=1),
    "options": [ip(tcp(bytes(100), sequence=1300, options=OPTIONS), 6, id=103)],
    "another timestamp": stream(3, start=1300, options=OPTIONS),  # type: ignore[arg-type]
    "another flow label": stream(3, start=1300, addresses=V6, label=7),
    "another traffic class": stream(3, start=1300, addresses=V6, tos=3),
    "a longer segment": stream(1, 101, start=1300),
    "another port": stream(3, start=1300, ports=OTHER),  # type: ignore[arg-type]
    "another version": stream(3, start=1300, addresses=V6),
}


@pytest.mark.parametrize("tail", BREAKS.values(), ids=BREAKS.keys())
def test_what_differs_in_more_than_its_data_is_not_appended(codec: ModuleType, tail: list[bytes]) -> None:
    six = tail[0][0] >> 4 == 6 and (tail[0][:4] != b"\x60\0\0\0")
    head = stream(3, addresses=V6) if six else stream(3)
    frames = merge(codec, head + tail)
    assert len(frames) == 2
    assert cut(codec, frames[0]) == head
    assert [packet[-50:] for packet in cut(codec, frames[1])] == [packet[-50:] for packet in tail]
    assert all(map(transport_is_right, cut(codec, frames[1])))


@pytest.mark.parametrize("flags", [ACK | flag for flag in (FIN, SYN, RST, URG, ECE, CWR)] + [0])
def test_unusual_flags_stay_alone_and_end_what_came_before(codec: ModuleType, flags: int) -> None:
    packets = stream(2) + stream(1, start=1200, flags=flags) + stream(2, start=1300)
    frames = merge(codec, packets)
    assert [len(cut(codec, data)) for data in frames] == [2, 1, 2]
    assert frames[1] == frame(packets[2])


@pytest.mark.parametrize("at", [-1, 36, 24, 10, 12])
def test_a_segment_with_a_wrong_checksum_stays_alone_and_wrong(codec: ModuleType, at: int) -> None:
    packets = stream(5)
    packets[2] = packets[2][:at] + bytes((packets[2][at] ^ 0x10,)) + packets[2][at:][1:]
    frames = merge(codec, packets)
    assert frame(packets[2]) in frames
    assert sorted(len(cut(codec, data)) for data in frames if data != frame(packets[2])) in ([2, 2], [4])


def test_two_wrong_checksums_do_not_make_up_for_each_other(codec: ModuleType) -> None:
    packets = stream(4)
    wrong = bytearray(packets[2])
    wrong[5] += 1  # of the IPv4 header
    wrong[-1] -= 1
    packets[2] = bytes(wrong)
    assert [len(cut(codec, data)) for data in merge(codec, packets)] == [2, 1, 1]


def test_nothing_moves_past_an_unusual_packet_of_its_flow(codec: ModuleType) -> None:
    packets = stream(2) + stream(1, start=1200, flags=ACK | URG) + stream(2, start=1200)
    assert [len(cut(codec, data)) for data in merge(codec, packets)] == [2, 1, 2]


def test_fragments_and_datagrams_without_checksum_stay_alone(codec: ModuleType) -> None:
    bare = bytearray(udp(bytes(50)))
    bare[6:8] = b"\0\0"
    for packets in (stream(3, fragment=0x2000), stream(3, fragment=0x4001), [ip(bytes(bare), 17)] * 3):
        assert merge(codec, packets) == [frame(packet) for packet in packets]


def test_a_datagram_without_checksum_stays_alone_where_zero_adds_up_as_well(codec: ModuleType) -> None:
    missing = udp(bytes(50))[6:8]  # with that among the data, nothing is missing
    bare = bytearray(udp(missing + bytes(48)))
    assert bare[6:8] == b"\xff\xff"
    bare[6:8] = b"\0\0"
    packets = [ip(udp(bytes(50)), 17), ip(udp(bytes(50)), 17), ip(bytes(bare), 17)]
    assert [len(cut(codec, data)) for data in merge(codec, packets)] == [2, 1]


def test_psh_ends_a_group_and_is_kept(codec: ModuleType) -> None:
    packets = stream(2) + stream(1, start=1200, flags=ACK | PSH) + stream(2, start=1300)
    frames = merge(codec, packets)
    first, second = ([packet[20:] for packet in cut(codec, data)] for data in frames)
    assert first + second == [packet[20:] for packet in packets]
    assert len(first) == 3


def test_a_short_segment_ends_a_group(codec: ModuleType) -> None:
    packets = stream(2) + stream(1, 50, start=1200) + stream(2, 50, start=1250)
    assert [len(cut(codec, data)) for data in merge(codec, packets)] == [3, 2]


def test_interleaved_flows_are_merged_each_for_itself(codec: ModuleType) -> None:
    first, second, third = stream(4), stream(4, ports=OTHER), stream(4, addresses=V6)  # type: ignore[arg-type]
    mixed = [packet for triple in zip(first, second, third, strict=True) for packet in triple]
    assert [cut(codec, data) for data in merge(codec, mixed)] == [first, second, third]


def test_nothing_moves_past_a_packet_whose_flow_cannot_be_told(codec: ModuleType) -> None:
    packets = stream(5)
    packets[2:2] = stream(1, fragment=0x2000)
    assert [len(cut(codec, data)) for data in merge(codec, packets)] == [2, 1, 3]


def test_order_within_a_flow_is_the_order_of_arrival(codec: ModuleType) -> None:
    packets = stream(6)
    mixed = [packets[i] for i in (0, 1, 4, 5, 2, 3)]
    assert [cut(codec, data) for data in merge(codec, mixed)] == [mixed[:2], mixed[2:4], mixed[4:]]


def test_a_bad_packet_in_a_batch_costs_only_itself(codec: ModuleType) -> None:
    packets = stream(5)
    frames = merge(codec, packets, states=bytes((0, 0, 1, 0, 0)))
    assert [cut(codec, data) for data in frames] == [packets[:2], packets[3:]]


def test_a_merged_packet_stays_within_what_ip_can_state(codec: ModuleType) -> None:
    packets = stream(50, 1400)
    frames = merge(codec, packets)
    assert [len(cut(codec, data)) for data in frames] == [46, 4]
    assert max(map(len, frames)) <= 65535 + 10


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x04",
        b"\x05\x04",
        ip(udp(), 17) + b"\x00\x29",
        ip(udp(addresses=V6), 17, V6) + b"\x00\x04",
        ip(udp(), 17)[:19] + b"\x00\x04",
        ip(udp(), 17)[:27] + b"\x00\x04",
        b"\x44" + ip(udp(), 17)[1:] + b"\x00\x04",
        b"\x75" + ip(udp(), 17)[1:] + b"\x00\x04",
        b"\x60" + bytes(39) + b"\x00\x29",
    ],
)
def test_what_is_no_packet_is_counted_and_nothing_else(codec: ModuleType, text: bytes) -> None:
    """P6, P10"""
    arena, out = bytearray(GAP) + text + bytes(ICV), bytearray(200)
    result = codec.coalesce(arena, len(arena), len(arena), 0, 1, GAP, ICV, bytes(1), out, True)
    assert result == ([], 1, 0)


@pytest.mark.parametrize("padding", [b"\x00\x00\x02", b"\x02\x02\x02", b"\x01\x02\x03\xff\x04"])
def test_what_the_padding_says_is_ignored(codec: ModuleType, padding: bytes) -> None:
    """P6, RFC 4303 section 2.4"""
    arena, out = bytearray(GAP) + ip(udp(), 17) + padding + b"\x04" + bytes(ICV), bytearray(200)
    frames, malformed, dummies = codec.coalesce(arena, len(arena), len(arena), 0, 1, GAP, ICV, bytes(1), out, True)
    assert (malformed, dummies, len(frames)) == (0, 0, 1)
    start, end, _, _ = frames[0]
    assert out[start + 10 : end] == ip(udp(), 17)


def test_packets_with_odd_padding_are_merged_all_the_same(codec: ModuleType) -> None:
    """P6: and with those whose padding is as it should be."""
    packets = stream(6, 100)
    arena = bytearray()
    for packet, padding in zip(packets, (b"\0\0", b"\1\2", b"\1\2", b"\7\7", b"\0\0", b"\1\2"), strict=True):
        arena += bytes(GAP) + packet + padding + b"\x02\x04" + bytes(ICV)
    out, stride = bytearray(2000), len(arena) // 6
    frames, malformed, _ = codec.coalesce(arena, len(arena), stride, 0, 6, GAP, ICV, bytes(6), out, True)
    assert (malformed, [count for _, _, count, _ in frames]) == (0, [6])


def test_dummy_packets_vanish(codec: ModuleType) -> None:
    """P6, RFC 4303 section 2.6"""
    arena = bytearray(GAP) + bytes(20) + b"\x00\x3b" + bytes(ICV)
    assert codec.coalesce(arena, len(arena), len(arena), 0, 1, GAP, ICV, bytes(1), bytearray(99), True) == ([], 0, 1)


def test_it_is_said_which_codec_is_in_use() -> None:
    assert offload.ACTIVE in offload.describe()


def test_the_sources_of_the_compiled_module_are_known_by_their_digest() -> None:
    parts = [
        Path(offload.__file__).with_name(name).read_bytes()
        for name in (
            "_offload.pyx",
            "_coalesce.pxi",
            "_evp.pxi",
            "_filter.pxi",
            "_relay.pxi",
            "_run.pxi",
            "_single.pxi",
        )
    ]
    assert sha256(b"".join(parts)).hexdigest()[:16] == offload.SOURCES, "write this into ikeclient/esp/codec/choice.py"


@pytest.mark.parametrize("name", ["SOURCES", "NOTHING"])
def test_a_compiled_module_from_other_sources_is_not_used(name: str) -> None:
    """P17: it may miss checks that came later; one from before there was a digest has none."""
    program = (
        "import sys, types\n"
        "import ikeclient.esp.codec as package\n"
        f"old = types.SimpleNamespace({name}='0123456789abcdef')\n"
        "sys.modules['ikeclient.esp.codec._offload'] = package._offload = old\n"
        "from ikeclient.esp.codec import choice, plain\n"
        "assert choice.coalesce is plain.coalesce and choice.review is plain.review\n"
        "print(choice.ACTIVE, choice.STALE, choice.describe())\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert shown.startswith("plain True plain Python codec (slower; the compiled one was made from other sources")
