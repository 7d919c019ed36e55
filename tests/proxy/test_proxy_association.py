"""UDP through SOCKS5."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from proxy.proxy_world import PATIENCE, a_proxy, bound, connect, datagram_socket, receive, socks_connect

from ikeclient.proxy import socks
from ikeclient.proxy.association import Pool

ASSOCIATE = b"\x05\x01\x00" + b"\x05\x03\x00\x01" + bytes(4)


@contextlib.contextmanager
def udp_server(
    answer: Callable[[bytes, tuple[str, int]], bytes] = lambda data, _: data, host: str = "127.0.0.1"
) -> Iterator[int]:
    """Answers every datagram; yields its port."""
    server = datagram_socket(host)
    server.settimeout(0.05)
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                data, source = server.recvfrom(65535)
                server.sendto(answer(data, source), source)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        stopping.set()
        thread.join(PATIENCE)
        server.close()


@contextlib.contextmanager
def associated(port: int, stated_port: int = 0) -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    """The TCP connection of an association and where its datagrams go."""
    with connect(port) as control:
        control.sendall(ASSOCIATE + stated_port.to_bytes(2, "big"))
        answer = receive(control, 12)
        assert answer[:6] == b"\x05\x00\x05\x00\x00\x01"
        yield control, (socket.inet_ntoa(answer[6:10]), int.from_bytes(answer[10:], "big"))


def client() -> socket.socket:
    made = datagram_socket()
    made.settimeout(PATIENCE)
    return made


@contextlib.contextmanager
def association() -> Iterator[tuple[int, tuple[str, int], socket.socket]]:
    """The port of an echo server, where datagrams for it go, and a client to send them."""
    with (
        udp_server() as echo,
        a_proxy(bound(), datagram_sockets=(datagram_socket(),)) as (port,),
        associated(port) as (_, relay),
        client() as udp,
    ):
        yield echo, relay, udp


def to(host: str, port: int, data: bytes) -> bytes:
    return b"\0\0\0\x03" + bytes((len(host),)) + host.encode() + port.to_bytes(2, "big") + data


def test_datagrams_go_there_and_back_with_their_addresses() -> None:
    with association() as (echo, relay, udp):
        udp.sendto(socks.datagram("127.0.0.1", echo, b"question"), relay)
        assert udp.recvfrom(100) == (socks.datagram("127.0.0.1", echo, b"question"), relay)


def test_names_in_datagrams_are_resolved_by_the_proxy_and_remembered() -> None:
    with association() as (echo, relay, udp):
        for _ in range(3):
            udp.sendto(to("127.0.0.1", echo, b"a"), relay)
            assert udp.recv(100)[10:] == b"a"
        udp.sendto(to("ip6-localhost.invalid", echo, b"lost"), relay)
        udp.sendto(to("localhost", echo, b"b"), relay)  # may be ::1, where nobody answers
        udp.sendto(to("127.0.0.1", echo, b"c"), relay)
        assert udp.recv(100)[-1:] in (b"b", b"c")


def test_ipv6_destinations_work_from_an_ipv4_client() -> None:
    with (
        udp_server(host="::1") as echo,
        a_proxy(bound(), datagram_sockets=(datagram_socket(),)) as (port,),
        associated(port) as (_, relay),
        client() as udp,
    ):
        udp.sendto(socks.datagram("::1", echo, b"six"), relay)
        assert udp.recv(100) == socks.datagram("::1", echo, b"six")


def test_only_the_client_may_send() -> None:
    """RFC 1928 section 7: datagrams from other addresses must be dropped. The first sensible one tells the port."""
    with (
        association() as (echo, relay, udp),
        client() as other,
        socket.socket(type=socket.SOCK_DGRAM) as far,
    ):
        far.bind(("127.0.0.2", 0))
        far.sendto(socks.datagram("127.0.0.1", echo, b"far"), relay)
        other.sendto(b"nonsense", relay)
        udp.sendto(socks.datagram("127.0.0.1", echo, b"mine"), relay)
        assert udp.recv(100)[10:] == b"mine"
        other.sendto(socks.datagram("127.0.0.1", echo, b"other"), relay)
        udp.sendto(socks.datagram("127.0.0.1", echo, b"again"), relay)
        assert udp.recv(100)[10:] == b"again"
        for stranger in (far, other):
            stranger.setblocking(False)
            with pytest.raises(BlockingIOError):
                stranger.recv(100)


def test_a_stated_port_is_held_to() -> None:
    with (
        udp_server() as echo,
        a_proxy(bound(), datagram_sockets=(datagram_socket(),)) as (port,),
        client() as udp,
        client() as other,
        associated(port, udp.getsockname()[1]) as (_, relay),
    ):
        other.sendto(socks.datagram("127.0.0.1", echo, b"other"), relay)
        udp.sendto(socks.datagram("127.0.0.1", echo, b"mine"), relay)
        assert udp.recv(100)[10:] == b"mine"
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(100)


def test_fragments_and_nonsense_are_dropped() -> None:
    with association() as (echo, relay, udp):
        whole = socks.datagram("127.0.0.1", echo, b"whole")
        udp.sendto(whole[:2] + b"\x01" + whole[3:], relay)
        for length in range(10):
            udp.sendto(whole[:length], relay)
        udp.sendto(whole, relay)
        assert udp.recv(100)[10:] == b"whole"


def test_large_datagrams_pass_and_too_large_answers_are_lost_alone() -> None:
    def answer(data: bytes, _: object) -> bytes:
        return bytes(65507) if data == b"huge" else data

    with (
        udp_server(answer) as echo,
        a_proxy(bound(), datagram_sockets=(datagram_socket(),)) as (port,),
        associated(port) as (_, relay),
        client() as udp,
    ):
        udp.sendto(socks.datagram("127.0.0.1", echo, b"huge"), relay)
        udp.sendto(socks.datagram("127.0.0.1", echo, bytes(60_000)), relay)
        assert len(udp.recv(65535)) == 60_010


def test_an_association_ends_with_its_connection_and_its_socket_serves_the_next() -> None:
    with udp_server() as echo, a_proxy(bound(), datagram_sockets=(datagram_socket(),)) as (port,):
        with associated(port) as (_, relay), client() as udp:
            refused, code = socks_connect(port, "0.0.0.0", 0, command=3)
            refused.close()
            assert code == 1  # there is only one socket
            udp.sendto(socks.datagram("127.0.0.1", echo, b"one"), relay)
            assert udp.recv(100)[10:] == b"one"
        deadline = time.monotonic() + PATIENCE
        while True:
            with connect(port) as control, client() as udp:
                control.sendall(ASSOCIATE + bytes(2))
                if receive(control, 12)[3] == 0:
                    udp.sendto(socks.datagram("127.0.0.1", echo, b"two"), relay)
                    assert udp.recv(100)[10:] == b"two"
                    return
            assert time.monotonic() < deadline


def test_the_pool_gives_sockets_of_the_listener_s_address() -> None:
    four, six, every = datagram_socket(), datagram_socket("::1"), datagram_socket("0.0.0.0")
    pool = Pool((four, six, every))
    assert pool.take("::1", 1000) is six
    assert pool.take("::1", 1000) is None
    assert pool.take("127.0.0.1", 1000) is four
    assert pool.take("192.0.2.1", 1000) is every
    assert pool.take("127.0.0.1", 1000) is None
    pool.give_back(every, 1000)
    assert pool.take("127.0.0.1", 1000) is every
    for one in (four, six, every):
        one.close()


def test_what_came_for_an_earlier_association_is_forgotten() -> None:
    one = datagram_socket()
    with one, client() as udp:
        for _ in range(3):
            udp.sendto(b"old", one.getsockname())
        assert Pool((one,)).take("127.0.0.1", 1000) is one
        with pytest.raises(BlockingIOError):
            one.recv(10)
