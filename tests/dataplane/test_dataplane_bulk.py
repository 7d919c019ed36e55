"""Flows of long packets that stall, and the errors that make them go on."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import offload_packets as packets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.dataplane.bulk import CEASED, CEASED_LATEST, ENOUGH, LIVELY, QUOTES, REMINDERS, REPEATED, STEP, Bulk
from ikeclient.esp.packet.inner import internet_checksum, locate_transport

HERE = {4: "10.88.0.1", 6: "fd88::1"}
THERE = {4: "10.99.0.1", 6: "fd99::1"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def packet(
    source: str, destination: str, text: int, sequence: int = 1000, *, port: int = 40000, flags: int = 16
) -> bytes:
    """A TCP packet with that much text, "don't fragment" set."""
    tcp = struct.pack(">HHIIBBHHH", port, 80, sequence, 0, 5 << 4, flags, 0, 0, 0) + bytes(text)
    addresses = ip_address(source).packed + ip_address(destination).packed
    if ":" in source:
        return struct.pack(">IHBB", 6 << 28, len(tcp), 6, 64) + addresses + tcp
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + addresses + tcp


def upload(version: int, text: int = 1340, sequence: int = 1000, **more: int) -> bytes:
    return packet(HERE[version], THERE[version], text, sequence, **more)


def download(version: int, text: int = 1340, sequence: int = 1000, **more: int) -> bytes:
    return packet(THERE[version], HERE[version], text, sequence, **more)


def test_a_segment_that_is_sent_again_and_again_is_an_upload_that_stalls() -> None:
    """G8"""
    clock = Clock()
    bulk = Bulk(clock)
    for number in range(REPEATED + 1):
        assert not bulk.stalled()
        data = upload(4)
        bulk.sent(data, len(data))
        clock.now += 0.4 * number
    assert bulk.stalled()
    clock.now += 10
    assert not bulk.stalled(), "given up long ago"


def test_an_upload_that_goes_on_does_not_stall() -> None:
    clock = Clock()
    bulk = Bulk(clock)
    for number in range(500):
        data = upload(4, sequence=number * 1340)
        bulk.sent(data, len(data))
        clock.now += 0.01
        assert not bulk.stalled()


def test_a_download_that_ceases_stalls_for_a_while() -> None:
    """G8: nothing tells its end, or a receiver's pause, from a path that became narrower."""
    clock = Clock()
    bulk = Bulk(clock)
    for number in range(3):
        data = download(4, sequence=number * 1340)
        bulk.received(data, len(data))
    assert not bulk.stalled()
    clock.now += CEASED
    assert bulk.stalled()
    clock.now += CEASED_LATEST - CEASED
    assert bulk.stalled(), "a look before the path became narrower has shown nothing"
    clock.now += 1
    assert not bulk.stalled()


@pytest.mark.parametrize(("length", "enough"), [(ENOUGH - 1, False), (ENOUGH, True)])
def test_the_first_packets_of_a_download_in_one_frame_are_enough(length: int, enough: bool) -> None:
    """G8: what comes after them may be a short packet, again and again, if no acknowledgement arrives."""
    clock = Clock()
    bulk = Bulk(clock)
    bulk.received(download(4), length)
    clock.now += CEASED
    assert bulk.stalled() == enough


@pytest.mark.parametrize("version", [4, 6])
def test_our_kernel_hears_of_the_segment_it_repeats(version: int) -> None:
    """G8, P13"""
    bulk = Bulk(Clock())
    data = upload(version)
    bulk.sent(data, len(data))
    (answer,), theirs = bulk.shrink(1300)
    assert theirs == []
    source, destination, mtu, quoted = opened(answer)
    assert (source, destination, mtu) == (THERE[version], HERE[version], 1300)
    assert quoted == data[: len(quoted)]


@pytest.mark.parametrize("last", [1340, 17])
@pytest.mark.parametrize("version", [4, 6])
def test_the_far_end_hears_of_the_segment_that_did_not_come(version: int, last: int) -> None:
    """G8, P13: also where the last one that came was a short one; sequence numbers wrap."""
    bulk = Bulk(Clock())
    start = 0xFFFFFFF0
    for text in (1340, 1340, last):
        data = download(version, text, start)
        bulk.received(data, len(data))
    ours, answers = bulk.shrink(1300)
    assert ours == []
    for number, answer in enumerate(answers):
        source, destination, mtu, quoted = opened(answer)
        assert (source, destination, mtu) == (HERE[version], THERE[version], 1300)
        _, offset = locate_transport(quoted)
        assert int.from_bytes(quoted[offset + 4 : offset + 8], "big") == (start + last + number * STEP) & 0xFFFFFFFF
        assert quoted[offset : offset + 4] == data[offset : offset + 4]
    assert len(answers) == QUOTES


@pytest.mark.parametrize("unseen", [0, 1, 768, 3 * 768])
def test_the_far_end_is_convinced_where_short_packets_came_after_the_last_long_one(unseen: int) -> None:
    """G8: a nearly full window is filled with a short packet, which passes and is acknowledged unseen."""
    bulk = Bulk(Clock())
    for sequence in (1000, 2340):
        data = download(4, sequence=sequence)
        bulk.received(data, len(data))
    unacknowledged = 3680 + unseen
    under_way = range(unacknowledged, unacknowledged + 1340 + 1)
    _, answers = bulk.shrink(1300)
    assert any(int.from_bytes(opened(answer)[3][24:28], "big") in under_way for answer in answers)


def test_the_far_end_hears_again_until_the_flow_goes_on_or_it_is_in_vain() -> None:
    """G8: what it is told may get lost, too."""
    bulk = Bulk(Clock())
    for port in (1, 2):
        data = download(4, port=port)
        bulk.received(data, len(data))
    _, first = bulk.shrink(1300)
    assert bulk.remind(1300) == first
    data = download(4, 1200, port=1)
    bulk.received(data, len(data))
    assert bulk.remind(1300) == first[QUOTES:]
    assert [opened(answer)[2] for answer in bulk.remind(1250)] == [1250] * QUOTES
    assert REMINDERS == 3
    assert bulk.remind(1300) == []


def test_ipv6_is_never_asked_for_less_than_it_promises() -> None:
    """RFC 8200 section 5"""
    bulk = Bulk(Clock())
    data = upload(6)
    bulk.sent(data, len(data))
    (answer,), _ = bulk.shrink(1100)
    assert opened(answer)[2] == 1280


def test_flows_that_fit_or_are_over_hear_nothing() -> None:
    clock = Clock()
    bulk = Bulk(clock)
    for data in (upload(4, 900), upload(4, 1340, port=1, flags=1), upload(4, 0, port=2)):
        bulk.sent(data, len(data))
    assert bulk.shrink(1300) == ([], [])
    data = download(4)
    bulk.received(data, len(data))
    clock.now += LIVELY + 1
    assert bulk.shrink(1300) == ([], [])


def test_a_flow_hears_once_and_there_are_not_many() -> None:
    bulk = Bulk(Clock())
    for port in range(1, 3000):
        data = upload(4, port=port)
        bulk.sent(data, len(data))
        bulk.received(data, len(data))
    ours, theirs = bulk.shrink(1300)
    assert (len(ours), len(theirs)) == (64, 64 * QUOTES)
    assert bulk.shrink(1200) == ([], [])


UNUSUAL = {  # the packet, and whether its flow can be told
    "options": (packets.ip(packets.tcp(bytes(1340)), 6, extra=b"\x01" * 4), True),
    "the first fragment": (packets.ip(packets.tcp(bytes(1340)), 6, fragment=0x2000), True),
    "a later fragment": (packets.ip(packets.tcp(bytes(1340)), 6, fragment=0x00A8), False),
    "UDP": (packets.ip(packets.udp(bytes(1340)), 17), True),
    "UDP over IPv6": (packets.ip(packets.udp(bytes(1340), addresses=packets.V6), 17, packets.V6), True),
    "an extension header": (
        packets.ip(packets.tcp(bytes(1340), addresses=packets.V6), 6, packets.V6, extra=b"\x06\0\1\4\0\0\0\0", chain=0),
        True,
    ),
    "the end of a stream": (packets.ip(packets.tcp(bytes(1340), flags=0x11), 6), False),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_headers_are_followed_to_the_flow(name: str) -> None:
    data, known = UNUSUAL[name]
    bulk = Bulk(Clock())
    for _ in range(REPEATED + 1):
        bulk.sent(memoryview(data), len(data))
    assert bulk.stalled() == (known and "UDP" not in name), "the same datagram again is no sign of loss"
    answers, _ = bulk.shrink(1300)
    may_fragment = "fragment" in name
    assert [opened(answer)[3][:28] for answer in answers] == ([data[:28]] if known and not may_fragment else [])


def test_of_several_flows_each_is_told_about_its_own_last_packet() -> None:
    """G8"""
    bulk = Bulk(Clock())
    for sequence in (1000, 2340, 3680):
        for port in (1, 2, 3):
            data = download(4, sequence=sequence + port, port=port)
            bulk.received(data, len(data))
    _, answers = bulk.shrink(1300)
    told = {struct.unpack_from(">HxxI", opened(answer)[3], 20) for answer in answers}
    assert told >= {(port, 3680 + port + 1340) for port in (1, 2, 3)}


@given(st.lists(st.binary(min_size=0, max_size=160)), st.integers(68, 9000))
def test_no_packet_from_either_side_hurts(some: list[bytes], mtu: int) -> None:
    """N6: what comes out of the tunnel is the gateway's."""
    bulk = Bulk(Clock())
    for data in some:
        bulk.sent(data, len(data))
        bulk.received(memoryview(data), 60000)
    bulk.stalled()
    bulk.shrink(mtu)
    bulk.remind(mtu)


def opened(error: bytes) -> tuple[str, str, int, bytes]:
    """Source, destination, MTU and quoted packet of an ICMP error."""
    if error[0] >> 4 == 4:
        assert (error[9], error[20], error[21]) == (1, 3, 4)
        assert internet_checksum(error[20:]) == 0
        source, destination = error[12:16], error[16:20]
        return str(ip_address(source)), str(ip_address(destination)), int.from_bytes(error[26:28], "big"), error[28:]
    assert (error[6], error[40]) == (58, 2)
    source, destination = error[8:24], error[24:40]
    return str(ip_address(source)), str(ip_address(destination)), int.from_bytes(error[44:48], "big"), error[48:]
