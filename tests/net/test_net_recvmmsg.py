"""Many datagrams with one system call: whatever arrives in whatever mixture, nothing is lost, cut or reordered."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from fake_transport import FrameTun
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.dataplane.bulk import Bulk
from ikeclient.dataplane.fast_path import FastReceive
from ikeclient.dataplane.limits import Limits
from ikeclient.esp.sa.table import SaTable
from ikeclient.net.transport.recvmmsg import SLOTS, Recvmmsg
from ikeclient.net.transport.udp import UdpSocket

STRIDE, SHORTEST = 200, 8
ADDRESS = {4: "127.0.0.1", 6: "::1"}
Seen = tuple[bytes, int, int]  # data, port of the sender, TOS octet

datagrams = st.lists(
    st.tuples(
        st.sampled_from([STRIDE, STRIDE, STRIDE, STRIDE, 0, 1, 8, STRIDE - 1, STRIDE + 1, 3000]),
        st.sampled_from([0, 0, 0, 1]),  # which of two senders
        st.sampled_from([0, 0, 0, 2]),  # TOS octet
        st.sampled_from([1, 1, 1, 5]),  # as so many in one call, which may arrive merged
    ),
    max_size=40,
)


class Pair:
    """A socket of ours and two that send to it, on the loopback interface."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.receiver = UdpSocket(version=version, local_address=ADDRESS[version])
        self.receiver.enable_merging()
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        self.senders = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        self.sent: list[Seen] = []
        for sender in self.senders:
            sender.bind((ADDRESS[version], 0))
            sender.connect(self.receiver.local)

    def send(self, size: int, who: int, tos: int, times: int) -> None:
        sender = self.senders[who]
        level, option = (
            (socket.IPPROTO_IP, socket.IP_TOS) if self.version == 4 else (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
        )
        sender.setsockopt(level, option, tos)
        sender.setsockopt(17, 103, size if size and times > 1 else 0)  # UDP_SEGMENT
        parts = [bytes([len(self.sent) + i & 0xFF]) * size for i in range(times if size else 1)]
        sender.send(b"".join(parts))
        self.sent += [(part, sender.getsockname()[1], tos) for part in parts]

    def close(self) -> None:
        for each in (self.receiver, *self.senders):
            each.close()


@pytest.fixture(params=[4, 6])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    made = Pair(request.param)
    yield made
    made.close()


@pytest.fixture
def many() -> Recvmmsg:
    return Recvmmsg(bytearray(3 * 65536), SHORTEST)


def test_datagrams_that_are_alike_lie_one_behind_the_other(pair: Pair, many: Recvmmsg) -> None:
    for _ in range(10):
        pair.send(STRIDE, 0, 0, 1)
    [arrival] = pair.receiver.recvmmsg(many, STRIDE, 3, SLOTS)
    data, length, size, source, tos = arrival
    assert (data, length, size, tos) == (None, 10 * STRIDE, STRIDE, 0)
    assert source[:2] == pair.senders[0].getsockname()[:2]
    assert bytes(many._arena[3 * STRIDE : 13 * STRIDE]) == b"".join(part for part, _, _ in pair.sent)
    assert pair.receiver.recvmmsg(many, STRIDE, 0, SLOTS) == []


def test_what_is_different_comes_with_its_own_data(pair: Pair, many: Recvmmsg) -> None:
    for size, who, tos in ((STRIDE, 0, 0), (STRIDE, 0, 0), (STRIDE, 1, 0), (STRIDE, 0, 2), (5000, 0, 0), (7, 0, 0)):
        pair.send(size, who, tos, 1)
    first, *others = pair.receiver.recvmmsg(many, STRIDE, 0, SLOTS)
    assert first[:3] == (None, 2 * STRIDE, STRIDE)
    assert [(data, source[1], tos) for data, _, _, source, tos in others] == pair.sent[2:]


def test_those_that_follow_each_other_come_together_wherever_they_begin(pair: Pair, many: Recvmmsg) -> None:
    """A short one or a mark in between does not make one arrival of each that follows."""
    plan = [(STRIDE, 0)] * 3 + [(9, 0)] + [(STRIDE, 0)] * 4 + [(STRIDE, 2)] * 5
    for size, tos in plan:
        pair.send(size, 0, tos, 1)
    arrivals = pair.receiver.recvmmsg(many, STRIDE, 0, SLOTS)
    assert [length // size for _, length, size, _, _ in arrivals] == [3, 1, 4, 5]
    assert [tos for *_, tos in arrivals] == [0, 0, 0, 2]
    assert b"".join(data for data, *_ in arrivals if data) == b"".join(part for part, _, _ in pair.sent[3:])
    assert many.exhausted
    assert not many.merged


def test_those_that_differ_in_length_only_come_together_unless_one_is_too_short(pair: Pair, many: Recvmmsg) -> None:
    sizes = [STRIDE, SHORTEST, 90, STRIDE]
    for size in sizes:
        pair.send(size, 0, 0, 1)
    [(data, length, size, _, _)] = pair.receiver.recvmmsg(many, STRIDE, 2, SLOTS)
    assert (data, length, size, many.lengths) == (None, 4 * STRIDE, STRIDE, sizes)
    at = [(2 + i) * STRIDE for i in range(4)]
    parts = [bytes(many._arena[start : start + size]) for start, size in zip(at, sizes, strict=True)]
    assert parts == [part for part, _, _ in pair.sent]
    for size in (90, SHORTEST - 1):
        pair.send(size, 0, 0, 1)
    arrivals = pair.receiver.recvmmsg(many, STRIDE, 0, SLOTS)
    assert [data for data, *_ in arrivals] == [part for part, _, _ in pair.sent[4:]]
    assert many.lengths == []


def test_nothing_of_an_earlier_call_is_left(pair: Pair, many: Recvmmsg) -> None:
    """Marks and lengths of what lay in the same slots, and of another stride."""
    for stride, tos, sizes in ((STRIDE, 2, [STRIDE] * 30), (90, 0, [90] * 4), (STRIDE, 0, [STRIDE] * 9 + [50] * 20)):
        for size in sizes:
            pair.send(size, 0, tos, 1)
        [(data, length, size, _, seen)] = pair.receiver.recvmmsg(many, stride, 0, SLOTS)
        assert (data, length, size, seen) == (None, len(sizes) * stride, stride, tos)
        assert (many.lengths or [stride] * len(sizes)) == sizes


def test_no_more_is_taken_than_there_are_slots(pair: Pair, many: Recvmmsg) -> None:
    for _ in range(SLOTS + 8):
        pair.send(STRIDE, 0, 0, 1)
    assert pair.receiver.recvmmsg(many, STRIDE, SLOTS, SLOTS) == []
    assert pair.receiver.recvmmsg(many, STRIDE, SLOTS - 2, SLOTS)[0][1] == 2 * STRIDE
    assert pair.receiver.recvmmsg(many, STRIDE, 5, 3)[0][1] == 3 * STRIDE
    assert pair.receiver.recvmmsg(many, STRIDE, 0, SLOTS)[0][1] == SLOTS * STRIDE


def test_an_error_of_an_earlier_datagram_is_no_arrival(many: Recvmmsg) -> None:
    """N24: nobody listens there, and the kernel says so on the socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = nobody.getsockname()
    ours = UdpSocket(version=4, local_address="127.0.0.1")
    ours.send(b"x", address)
    assert ours.recvmmsg(many, STRIDE, 0, SLOTS) == []
    ours.close()


@pytest.mark.parametrize("version", [4, 6])
@given(plan=datagrams)
def test_the_pump_sees_every_datagram_as_it_was_sent_and_in_order(
    version: int, plan: list[tuple[int, int, int, int]]
) -> None:
    """With merging on, and with every way of receiving taking turns."""
    pair = Pair(version)
    try:
        see_everything(pair, plan)
    finally:
        pair.close()


def test_the_pump_sees_more_than_a_run_has_room_for(pair: Pair) -> None:
    """Full datagrams, now and then a short or a marked one."""
    plan = [(1430, 0, 2 if n % 61 == 60 else 0, 1) if n % 97 else (90, 0, 0, 1) for n in range(400)]
    see_everything(pair, plan)


def see_everything(pair: Pair, plan: list[tuple[int, int, int, int]]) -> None:
    for each in plan:
        pair.send(*each)
    seen: list[tuple[bytes, int]] = []
    inbound = FastReceive(
        SaTable(),
        FrameTun(),
        lambda: None,
        lambda: None,
        lambda data, source, _: seen.append((data, source[1])),
        Limits(clamp_mss=False),
        Bulk(lambda: 0.0),
    )
    again = False
    while inbound.receiver.drain(pair.receiver, 64 if again else 500, again=again):
        again = not again
    assert seen == [(data, port) for data, port, _ in pair.sent]


def test_the_memory_of_what_was_longer_than_its_slot_is_given_back(pair: Pair, many: Recvmmsg) -> None:
    """A page for each slot, and more for those that came merged, would stay once the sizes have changed."""
    for used in (40, 0):  # of the second time it is too much
        for _ in range(40):
            pair.senders[0].send(b"1" * 3000)
        arrivals = pair.receiver.recvmmsg(many, STRIDE, 0, SLOTS)
        assert [data for data, *_ in arrivals] == [b"1" * 3000] * 40
        assert sum(many._spill[slot * 65535] != 0 for slot in range(SLOTS)) == used
