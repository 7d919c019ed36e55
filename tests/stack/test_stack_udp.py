from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from esp_packets import HOST4, HOST6, VIP4, VIP6, ones_complement_sum, pseudo_header

from ikeclient.esp.codec.choice import examine, segment
from ikeclient.stack.interfaces import Sends
from ikeclient.stack.ip.header import UDP, packed
from ikeclient.stack.ip.icmp import IcmpError, Kind
from ikeclient.stack.udp import FIRST_PORT, HEADER, LAST_PORT, MOST_ASSOCIATIONS, QUEUE, Association, NoPort, Udp

H4, H6, V4, V6 = (packed(address) for address in (HOST4, HOST6, VIP4, VIP6))
NAMES = {4: (VIP4, HOST4), 6: (VIP6, HOST6)}


class Outside:
    """An outlet that remembers what is ready."""

    def __init__(self, mtu: int = 1400) -> None:
        self.sources: list[Sends] = []
        self.limit = mtu

    def ready(self, source: Sends) -> None:
        self.sources.append(source)

    def mtu(self, remote: bytes) -> int:
        return self.limit

    def local(self, remote: bytes) -> bytes | None:
        return {4: V4, 16: V6}[len(remote)]


def packets_of(source: Sends) -> list[bytes]:
    """All that wants to leave, as the codec cuts it."""
    frame, found = bytearray(65545), []
    while length := source.fill(memoryview(frame), 0.0):
        count, size, last, _, _ = examine(frame, length)
        assert count, "the codec makes no sense of it"
        out = bytearray(count * (size + 8))
        segment(frame, length, out, 0, size + 8, 0, 0, 0, count)
        starts = range(0, len(out), size + 8)
        found += [bytes(out[at : at + (size if i < count - 1 else last)]) for i, at in enumerate(starts)]
    return found


def an_association(outside: Outside, **options: object) -> tuple[Udp, Association]:
    udp = Udp(outside, Random(1).randbytes)
    return udp, udp.open(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("remote", "version", "start"), [(H4, 4, 20), (H6, 6, 40)])
def test_datagrams_of_one_size_share_a_frame_and_come_out_right(remote: bytes, version: int, start: int) -> None:
    _, association = an_association(Outside())
    sent = [bytes((number,)) * 1000 for number in range(70)] + [b"short", b"after it"]
    for data in sent:
        assert association.send(data, (remote, 53))
    packets = packets_of(association)
    assert [packet[start + HEADER :] for packet in packets] == sent
    for packet in packets:
        assert packet[start : start + 4] == association.port.to_bytes(2, "big") + b"\0\x35"
        pseudo = pseudo_header(*NAMES[version], UDP, len(packet) - start)
        assert ones_complement_sum(pseudo + packet[start:]) == 0xFFFF


def test_what_is_longer_than_the_path_leaves_in_fragments() -> None:
    _, association = an_association(Outside(1280))
    assert association.send(bytes(4000), (H4, 53))
    assert association.send(b"next", (H4, 53))
    packets = packets_of(association)
    assert [bool(packet[6] & 0x20) for packet in packets] == [True, True, True, False, False]
    assert max(map(len, packets)) <= 1280
    assert sum(len(packet) - 20 for packet in packets[:-1]) == 4000 + HEADER


@pytest.mark.parametrize("data", [bytes(65508), bytes(70000)])
def test_a_datagram_is_no_longer_than_any_may_be(data: bytes) -> None:
    _, association = an_association(Outside())
    with pytest.raises(ValueError, match="too long"):
        association.send(data, (H4, 53))


def test_a_full_queue_loses_datagrams_in_both_directions() -> None:
    udp, association = an_association(Outside())
    for _ in range(2 * QUEUE // 1000):
        association.send(bytes(1000), (H4, 53))
    kept = len(packets_of(association))
    assert kept <= QUEUE // 1000
    assert association.lost == 2 * QUEUE // 1000 - kept
    arrived = datagram(association.port, bytes(1000))
    for _ in range(2 * QUEUE // 1000):
        assert udp.deliver(arrived, H4, 0)
    received = 0
    while association.receive() is not None:
        received += 1
    assert received <= QUEUE // 1000
    assert udp.deliver(arrived, H4, 0)
    assert association.receive() == (bytes(1000), (H4, 53))


def datagram(port: int, data: bytes, source: int = 53) -> memoryview:
    return memoryview(b"".join(n.to_bytes(2, "big") for n in (source, port, HEADER + len(data), 0)) + data)


def test_one_who_waits_is_told_once_for_all_that_came() -> None:
    udp, association = an_association(Outside())
    told: list[int] = []
    association.listen(lambda: told.append(1))
    udp.deliver(datagram(association.port, b"abcabcab"), H4, 3)  # merged
    assert told == [1]
    assert [association.receive() for _ in range(4)] == [
        (b"abc", (H4, 53)),
        (b"abc", (H4, 53)),
        (b"ab", (H4, 53)),
        None,
    ]
    udp.deliver(datagram(association.port, b""), H4, 0)
    assert told == [1, 1]
    assert association.receive() == (b"", (H4, 53))


def test_only_the_peer_is_heard() -> None:
    """RFC 5452: an answer from somewhere else is none."""
    udp, association = an_association(Outside(), peer=(H4, 53))
    udp.deliver(datagram(association.port, b"forged"), V4, 0)
    udp.deliver(datagram(association.port, b"forged", source=54), H4, 0)
    udp.deliver(datagram(association.port, b"right"), H4, 0)
    assert association.receive() == (b"right", (H4, 53))
    assert association.receive() is None


def error(udp_source: int, remote: bytes, kind: Kind = Kind.PORT_UNREACHABLE) -> IcmpError:
    quoted = udp_source.to_bytes(2, "big") + b"\0\x35" + bytes(4)
    return IcmpError(kind=kind, mtu=0, source=V4, destination=remote, protocol=UDP, length=99, quoted=quoted)


def test_an_error_is_heard_only_about_what_was_sent() -> None:
    """N24, S3."""
    udp, association = an_association(Outside())
    heard: list[tuple[Kind, tuple[bytes, int]]] = []
    association.listen(lambda: None, lambda kind, end: heard.append((kind, end)))
    assert not udp.failed(error(association.port, H4))
    association.send(b"data", (H4, 53))
    assert not udp.failed(error(association.port ^ 1, H4))
    assert not udp.failed(error(association.port, V4))
    assert udp.failed(error(association.port, H4, Kind.TOO_BIG))
    assert heard == []
    assert udp.failed(error(association.port, H4))
    assert heard == [(Kind.PORT_UNREACHABLE, (H4, 53))]


def test_ports_are_random_of_the_range_and_given_back() -> None:
    """RFC 6056."""
    udp = Udp(Outside(), Random(2).randbytes)
    opened = [udp.open() for _ in range(500)]
    ports = [association.port for association in opened]
    assert len(set(ports)) == 500
    assert all(FIRST_PORT <= port <= LAST_PORT for port in ports)
    assert sum(b - a == 1 for a, b in pairwise(ports)) < 5
    taken = udp.open(5353)
    with pytest.raises(NoPort):
        udp.open(5353)
    taken.close()
    assert not udp.deliver(datagram(5353, b"late"), H4, 0)
    assert udp.open(5353).port == 5353


def test_associations_are_bounded() -> None:
    udp = Udp(Outside(), Random(3).randbytes)
    for _ in range(MOST_ASSOCIATIONS):
        udp.open()
    with pytest.raises(NoPort):
        udp.open()
