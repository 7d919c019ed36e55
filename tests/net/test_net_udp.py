from __future__ import annotations

import errno
import os
import select
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest
from thread_namespace import fresh_namespace, named_namespace

from ikeclient.errors import PlatformError
from ikeclient.net.transport import udp as module
from ikeclient.net.transport.icmp_errors import PathHint
from ikeclient.net.transport.path import local_address_for
from ikeclient.net.transport.udp import UdpSocket


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pair() -> Iterator[tuple[UdpSocket, UdpSocket]]:
    first, second = UdpSocket(local_address="127.0.0.1"), UdpSocket(local_address="127.0.0.1")
    yield first, second
    first.close()
    second.close()


@pytest.fixture
def closed_port() -> tuple[str, int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return ("127.0.0.1", probe.getsockname()[1])


def wait(udp: UdpSocket) -> None:
    poll = select.poll()
    poll.register(udp, select.POLLIN)
    assert poll.poll(5000)


def test_datagrams_travel_in_batches_with_their_sources(pair: tuple[UdpSocket, UdpSocket]) -> None:
    first, second = pair
    payloads = [bytes([n]) * n for n in range(5)]
    assert (
        first.send_batch([payloads[0], bytearray(payloads[1]), memoryview(payloads[2]), *payloads[3:]], second.local)
        == 5
    )
    assert second.receive_batch(3) == [(payload, first.local, 0) for payload in payloads[:3]]
    assert second.receive_batch(10) == [(payload, first.local, 0) for payload in payloads[3:]]
    assert second.receive_batch(10) == []


def test_what_waits_and_what_found_no_room_is_told() -> None:
    """P14: whether an answer may have got lost on this side."""
    sockets = UdpSocket(local_address="127.0.0.1", buffer_size=4096), UdpSocket(local_address="127.0.0.1")
    with closing(sockets[0]) as receiver, closing(sockets[1]) as sender:
        assert receiver.receive_queue() == (0, 0)
        sender.send_batch([bytes(100)] * 3, receiver.local)
        waiting, lost = receiver.receive_queue()
        assert waiting >= 300
        assert lost == 0
        sender.send_batch([bytes(100)] * 1000, receiver.local)
        received = 0
        while taken := len(receiver.receive_batch(64)):
            received += taken
        assert receiver.receive_queue() == (0, 1003 - received)
        assert received < 1003


def test_ipv6_datagrams_have_address_and_port_first() -> None:
    first, second = (UdpSocket(version=6, local_address="::1") for _ in range(2))
    assert first.send(b"hello", second.local)
    ((data, source, _),) = second.receive_batch(10)
    assert (data, source[:2]) == (b"hello", first.local)
    first.close()
    second.close()


def test_the_longest_datagram_is_received_whole(pair: tuple[UdpSocket, UdpSocket]) -> None:
    first, second = pair
    payload = os.urandom(65507)
    assert first.send(payload, second.local)
    assert second.receive_batch(1)[0][0] == payload


def test_a_port_in_use_gives_an_ephemeral_one() -> None:
    """O2"""
    first = UdpSocket(local_address="127.0.0.1")
    second = UdpSocket(local_address="127.0.0.1", port=first.local[1])
    assert second.local[1] not in (0, first.local[1])
    first.close()
    second.close()


def test_an_address_that_is_not_ours_is_an_error_of_the_platform() -> None:
    with pytest.raises(PlatformError, match=r"192\.0\.2\.77"):
        UdpSocket(local_address="192.0.2.77")


def test_no_ipv6_on_the_machine_is_an_error_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """O2"""

    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(module.socket, "socket", refuse)
    with pytest.raises(PlatformError, match="IPv6"):
        UdpSocket(version=6)


class _NoRights(socket.socket):
    def setsockopt(self, *arguments: object) -> None:
        if arguments[1] in (socket.SO_MARK, 32, 33):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        super().setsockopt(*arguments)  # type: ignore[call-overload]


def test_missing_rights_for_mark_and_buffers_are_tolerated_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.socket, "socket", _NoRights)
    udp = UdpSocket(local_address="127.0.0.1", mark=77)
    assert not udp.marked
    assert udp.receive_buffer > 0
    assert udp.send_buffer > 0
    udp.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="marks need CAP_NET_ADMIN")
def test_mark_and_buffers_are_set_where_the_kernel_lets_us() -> None:
    udp = UdpSocket(local_address="127.0.0.1", mark=77)
    assert udp.marked
    assert udp.receive_buffer >= 7 << 20
    assert udp.send_buffer >= 7 << 20
    udp.close()


def test_without_a_mark_nothing_is_missing() -> None:
    udp = UdpSocket()
    assert udp.marked
    assert udp.local[0] == "0.0.0.0"
    udp.close()


def test_a_closed_port_is_a_hint_and_stops_nothing(closed_port: tuple[str, int]) -> None:
    """N24: ICMP port unreachable"""
    hints: list[PathHint] = []
    udp = UdpSocket(local_address="127.0.0.1", on_hint=hints.append)
    peer = UdpSocket(local_address="127.0.0.1")
    assert udp.send(b"knock", closed_port)
    wait(udp)
    assert udp.receive_batch(10) == []
    assert [(hint.kind, hint.errno) for hint in hints] == [("refused", errno.ECONNREFUSED)]
    assert udp.send(b"on", peer.local)
    assert peer.receive_batch(1)[0][0] == b"on"
    udp.close()
    peer.close()


def test_an_error_leaves_the_descriptor_quiet(closed_port: tuple[str, int]) -> None:
    """N24: an undrained error queue would keep the event loop awake for ever."""
    udp = UdpSocket(local_address="127.0.0.1")
    for _ in range(3):
        udp.send(b"knock", closed_port)
    poll = select.poll()
    poll.register(udp, select.POLLIN)
    for _ in range(5):
        udp.receive_batch(10)
    assert poll.poll(0) == []
    udp.close()


def test_the_error_of_one_datagram_does_not_cost_the_next_one(closed_port: tuple[str, int]) -> None:
    """N24: the kernel reports an old error instead of sending; the datagram is then sent again."""
    udp, peer = UdpSocket(local_address="127.0.0.1"), UdpSocket(local_address="127.0.0.1")
    for n in range(4):
        udp.send(b"knock", closed_port)
        assert udp.send_batch([bytes([n])], peer.local) == 1
    assert [data for data, *_ in peer.receive_batch(10)] == [bytes([n]) for n in range(4)]
    udp.close()
    peer.close()


def test_hints_come_at_most_once_a_second_and_kind(closed_port: tuple[str, int]) -> None:
    """N24"""
    hints: list[PathHint] = []
    clock = Clock()
    udp = UdpSocket(local_address="127.0.0.1", on_hint=hints.append, clock=clock)
    for _ in range(5):
        udp.send(b"knock", closed_port)
        udp.receive_batch(1)
    assert len(hints) == 1
    clock.now += 1
    udp.send(b"knock", closed_port)
    udp.receive_batch(1)
    assert len(hints) == 2
    assert hints[1].suppressed >= 3
    udp.close()


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EMSGSIZE, errno.EPERM, errno.EINVAL])
def test_no_error_gets_out(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """N24"""

    class Broken(socket.socket):
        def sendmsg(self, *_: object) -> int:
            raise OSError(number, os.strerror(number))

        def recvmsg(self, *_: object) -> tuple[bytes, object]:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.socket, "socket", Broken)
    hints: list[PathHint] = []
    udp = UdpSocket(local_address="127.0.0.1", on_hint=hints.append)
    assert udp.send_batch([b"a", b"b"], ("127.0.0.1", 9)) == 0
    assert udp.receive_batch(5) == []
    assert udp.dropped == 2
    assert len(hints) == (0 if number == errno.EMSGSIZE else 1)
    udp.close()


def test_too_long_a_datagram_is_lost_alone(pair: tuple[UdpSocket, UdpSocket]) -> None:
    """N24: EMSGSIZE"""
    first, second = pair
    assert first.send_batch([b"one", bytes(70000), b"two"], second.local) == 2
    assert [data for data, *_ in second.receive_batch(10)] == [b"one", b"two"]
    assert first.dropped == 1


def test_a_full_send_buffer_is_waited_for_only_once_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []

    class Full(socket.socket):
        def sendmsg(self, *_: object) -> int:
            raise BlockingIOError(errno.EAGAIN, "full")

    monkeypatch.setattr(module.socket, "socket", Full)
    udp = UdpSocket(local_address="127.0.0.1")
    monkeypatch.setattr(udp, "_wait_writable", lambda: waits.append(1) or True)
    assert udp.send_batch([b"x"] * 10, ("127.0.0.1", 9)) == 0
    assert len(waits) == 1
    assert udp.dropped == 10
    udp.close()


def test_without_a_route_sending_is_a_hint_and_there_is_no_local_address() -> None:
    """N24, O2"""
    hints: list[PathHint] = []
    with fresh_namespace():
        udp = UdpSocket(on_hint=hints.append)
        assert not udp.send(b"x", ("192.0.2.1", 4500))
        assert [hint.kind for hint in hints] == ["unreachable"]
        assert local_address_for("192.0.2.1") is None
        assert local_address_for("2001:db8::1") is None
        udp.close()


def test_the_address_towards_a_destination_is_found_without_sending() -> None:
    assert local_address_for("127.0.0.1") == "127.0.0.1"
    assert local_address_for("::1") == "::1"
    assert local_address_for("127.0.0.1", mark=5) == "127.0.0.1"


@pytest.mark.parametrize("version", [4, 6])
def test_the_octet_of_the_outer_header_is_set_and_told(version: int) -> None:
    address = "127.0.0.1" if version == 4 else "::1"
    first, second = (UdpSocket(version=version, local_address=address) for _ in range(2))
    first.send_batch([b"one", b"two"], second.local, 0xBA)
    first.send_batch([b"three"], second.local)
    assert [(data, tos) for data, _, tos in second.receive_batch(9)] == [(b"one", 0xBA), (b"two", 0xBA), (b"three", 0)]
    first.close()
    second.close()


# A path with a bottleneck: here -- router -- there, with 1300 bytes behind the router


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def bottleneck() -> Iterator[str]:
    """This thread lives in a namespace meanwhile; 10.9.2.2 is behind the bottleneck, in the namespace this returns."""
    names = tuple(f"dpudp{os.getpid()}{end}" for end in "arb")
    try:
        try:
            for name in names:
                _ip("netns", "add", name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces: {error.stderr.decode().strip()}")
        _ip("-n", names[0], "link", "add", "dpu0", "type", "veth", "peer", "name", "dpu1", "netns", names[1])
        _ip("-n", names[1], "link", "add", "dpu2", "mtu", "1300", "type", "veth", "peer", "name", "dpu3")
        _ip("-n", names[1], "link", "set", "dpu3", "netns", names[2], "mtu", "1300")
        for name, link, address in (
            (names[0], "dpu0", "10.9.1.1/24"),
            (names[1], "dpu1", "10.9.1.2/24"),
            (names[1], "dpu2", "10.9.2.1/24"),
            (names[2], "dpu3", "10.9.2.2/24"),
        ):
            _ip("-n", name, "addr", "add", address, "dev", link)
            _ip("-n", name, "link", "set", link, "up")
        _ip("-n", names[0], "route", "add", "default", "via", "10.9.1.2")
        _ip("-n", names[2], "route", "add", "default", "via", "10.9.2.1")
        _ip("netns", "exec", names[1], "sysctl", "-qw", "net.ipv4.ip_forward=1")
        with named_namespace(names[0]):
            yield names[2]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def test_a_bottleneck_is_reported_and_datagrams_still_arrive(bottleneck: str) -> None:
    """P13: the router's ICMP becomes a hint with the MTU; later datagrams are fragmented on the way out."""
    hints: list[PathHint] = []
    udp = UdpSocket(on_hint=hints.append)
    with named_namespace(bottleneck):
        there = UdpSocket(local_address="10.9.2.2", port=4500)
    assert udp.send(bytes(1400), ("10.9.2.2", 4500))
    wait(udp)
    assert udp.receive_batch(10) == []
    assert [(hint.kind, hint.mtu) for hint in hints] == [("too-big", 1300)]
    assert udp.send(bytes(1401), ("10.9.2.2", 4500))
    wait(there)
    assert [len(data) for data, *_ in there.receive_batch(10)] == [1401]
    udp.close()
    there.close()


def test_a_proven_path_is_not_talked_out_of(bottleneck: str) -> None:
    """P13, N24: what routers say no longer fragments what fits, and what does not fit may be fragmented by them."""
    udp = UdpSocket()
    with named_namespace(bottleneck):
        there = UdpSocket(local_address="10.9.2.2", port=4500)
    udp.send(bytes(1400), there.local)
    wait(udp)
    udp.receive_batch(1)
    udp.trust_path(1300, proven=True)
    assert udp.send(bytes(1272), there.local)
    assert udp.send(bytes(1273), there.local)
    wait(there)
    lengths: list[int] = []
    while len(lengths) < 2:
        wait(there)
        lengths += [len(data) for data, *_ in there.receive_batch(10)]
    assert lengths == [1272, 1273]
    udp.trust_path(1500, proven=True)
    udp.send(bytes(1400), there.local)  # which the router refuses again, as it is not to be fragmented
    wait(udp)
    udp.close()
    there.close()


def test_a_probe_is_never_fragmented(bottleneck: str) -> None:
    """RFC 8899 section 3: even where the kernel has learnt that it must be."""
    hints: list[PathHint] = []
    udp = UdpSocket(on_hint=hints.append, clock=iter(range(1000, 2000, 2)).__next__)
    with named_namespace(bottleneck):
        there = UdpSocket(local_address="10.9.2.2", port=4500)
    for number in (1, 2):
        assert udp.send_probe(bytes(1400), there.local)
        wait(udp)
        udp.receive_batch(1)
        assert [hint.mtu for hint in hints] == [1300] * number
    assert there.receive_batch(1) == []
    assert not udp.send_probe(bytes(1473), there.local)  # longer than the interface takes
    assert udp.send(bytes(1473), there.local)
    assert udp.send_probe(bytes(1272), there.local)
    udp.close()
    there.close()


@pytest.mark.parametrize(
    ("version", "mtu", "reported"), [(4, 68, False), (4, 576, True), (6, 1279, False), (6, 1280, True)]
)
def test_impossible_path_mtus_are_ignored(
    version: int, mtu: int, reported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N24, P13: a forged PTB of 68."""
    level, option = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}[version]
    queue = [struct.pack("=IBBBxII", errno.EMSGSIZE, 2, 3, 4, mtu, 0) + bytes(16)]

    class Forged(socket.socket):
        def recvmsg(self, *how: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:  # type: ignore[override]
            if not queue or socket.MSG_ERRQUEUE not in how:
                raise BlockingIOError
            return b"", [(level, option, queue.pop())], 0, None

    monkeypatch.setattr(module.socket, "socket", Forged)
    hints: list[PathHint] = []
    udp = UdpSocket(version=version, local_address="::1" if version == 6 else "127.0.0.1", on_hint=hints.append)
    assert udp.receive_batch(1) == []
    assert [hint.mtu for hint in hints] == ([mtu] if reported else [])
    udp.close()
