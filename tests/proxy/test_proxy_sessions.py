"""What clients of SOCKS5, HTTP and forwards get to see."""

from __future__ import annotations

import base64
import contextlib
import socket
import time

import pytest
from proxy.proxy_world import (
    a_proxy,
    a_server,
    assert_reset,
    bound,
    closed_port,
    connect,
    echo,
    few,
    receive,
    receive_all,
    request,
    socks_connect,
)

from ikeclient.proxy.destination import Destination
from ikeclient.proxy.settings import Kind

LOGIN = (b"alice", b"s3cret")


def test_socks_connect_leads_to_the_server(echo_port: int) -> None:
    with a_proxy(bound()) as (port,):
        connection, code = socks_connect(port, "127.0.0.1", echo_port)
        with connection:
            assert code == 0
            connection.sendall(b"hello")
            assert receive(connection, 5) == b"hello"
            connection.shutdown(socket.SHUT_WR)
            assert receive_all(connection) == b""


def test_names_are_resolved_by_the_proxy(echo_port: int) -> None:
    with a_proxy(bound()) as (port,):
        connection, code = socks_connect(port, "localhost", echo_port)
        with connection:
            assert code == 0


def test_ipv6_is_reached_and_told() -> None:
    with a_server(echo, "::1") as to, a_proxy(bound(host="::1")) as (port,), connect(port, "::1") as client:
        client.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x04" + bytes(15) + b"\x01" + to.to_bytes(2, "big"))
        assert receive(client, 2) == b"\x05\x00"
        reply = receive(client, 22)
        assert reply[:20] == b"\x05\x00\x00\x04" + bytes(15) + b"\x01"


def test_what_a_client_says_before_it_is_connected_is_not_lost(echo_port: int) -> None:
    with a_proxy(bound()) as (port,), connect(port) as client:
        client.sendall(b"\x05\x01\x00" + request(1, "127.0.0.1", echo_port) + b"early")
        client.shutdown(socket.SHUT_WR)
        answer = receive_all(client)
        assert answer[:4] == b"\x05\x00\x05\x00"
        assert answer.endswith(b"early")


def test_a_client_may_send_byte_by_byte(echo_port: int) -> None:
    with a_proxy(bound()) as (port,), connect(port) as client:
        for byte in b"\x05\x02\x00\x02" + request(1, "127.0.0.1", echo_port):
            client.sendall(bytes((byte,)))
        assert receive(client, 4) == b"\x05\x00\x05\x00"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (request(2, "127.0.0.1", 1), 7),  # BIND
        (request(9, "127.0.0.1", 1), 7),
        (b"\x05\x01\x00\x02", 8),
        (request(1, "a b", 1), 1),
        (request(1, "127.0.0.1", 0), 1),
        (request(1, "", 1), 1),
        (request(1, "255.255.255.255", 1), 3),
        (request(3, "0.0.0.0", 0), 1),  # UDP without sockets for it
    ],
)
def test_a_refused_request_has_its_reply_and_its_end(message: bytes, code: int) -> None:
    """RFC 1928 section 6."""
    with a_proxy(bound()) as (port,), connect(port) as client:
        client.sendall(b"\x05\x01\x00" + message)
        client.shutdown(socket.SHUT_WR)
        answer = receive_all(client)
        assert answer[:2] == b"\x05\x00"
        assert answer[2:4] == bytes((5, code))
        assert len(answer) == 12


def test_a_closed_port_is_said_to_be_refused() -> None:
    with a_proxy(bound()) as (port,):
        connection, code = socks_connect(port, "127.0.0.1", closed_port())
        with connection:
            assert code == 5
            assert receive_all(connection) == b""


def test_with_a_password_socks_lets_in_who_knows_it(echo_port: int) -> None:
    with a_proxy(bound(), login=LOGIN) as (port,), connect(port) as client:
        client.sendall(b"\x05\x02\x00\x02" + b"\x01\x05alice\x06s3cret" + request(1, "127.0.0.1", echo_port))
        assert receive(client, 6) == b"\x05\x02\x01\x00\x05\x00"


@pytest.mark.parametrize("login", [b"\x01\x05alice\x06secret", b"\x01\x05alicf\x06s3cret", b"\x01\x00\x00"])
def test_with_a_password_socks_keeps_out_who_does_not(login: bytes, echo_port: int) -> None:
    """RFC 1929 section 2: and closes the connection."""
    with a_proxy(bound(), login=LOGIN) as (port,), connect(port) as client:
        client.sendall(b"\x05\x01\x02" + login + request(1, "127.0.0.1", echo_port))
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"\x05\x02\x01\x01"


@pytest.mark.parametrize(("login", "offer"), [(LOGIN, b"\x05\x01\x00"), (None, b"\x05\x01\x02"), (None, b"\x05\x00")])
def test_without_a_common_method_nothing_is_served(login: tuple[bytes, bytes] | None, offer: bytes) -> None:
    with a_proxy(bound(), login=login) as (port,), connect(port) as client:
        client.sendall(offer)
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"\x05\xff"


@pytest.mark.parametrize(
    "nonsense", [b"GET / HTTP/1.1\r\n\r\n", b"\x04\x01\0\x50\x7f\0\0\x01\0", b"\x16\x03\x01", b"\0"]
)
def test_who_does_not_speak_socks_gets_no_answer(nonsense: bytes) -> None:
    with a_proxy(bound()) as (port,), connect(port) as client:
        client.sendall(nonsense)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_a_client_that_says_nothing_is_cut_off() -> None:
    with a_proxy(bound(), bound(Kind.HTTP), limits=few(handshake=0.2)) as (socks_port, http_port):
        with connect(socks_port) as client:
            client.sendall(b"\x05\x01\x00\x05")
            assert receive_all(client) == b"\x05\x00"
        with connect(http_port) as client:
            client.sendall(b"CONNECT a:1 HTTP/1.1\r\n")
            assert receive_all(client).startswith(b"HTTP/1.1 408 ")


# HTTP


def exchange(port: int, data: bytes) -> bytes:
    with connect(port) as client:
        client.sendall(data)
        return receive_all(client)


def test_http_connect_leads_to_the_server(echo_port: int) -> None:
    with a_proxy(bound(Kind.HTTP)) as (port,), connect(port) as client:
        client.sendall(b"CONNECT localhost:%d HTTP/1.1\r\nHost: x\r\n\r\nearly" % echo_port)
        answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        assert receive(client, len(answer) + 5) == answer + b"early"
        client.sendall(b"more")
        assert receive(client, 4) == b"more"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"CONNECT nowhere HTTP/1.1\r\n\r\n", 400),
        (b"\x05\x01\x00", 400),
        (b"GET http://a/ HTTP/1.1\r\nX: " + b"a" * 40_000, 431),
        (b"CONNECT 255.255.255.255:1 HTTP/1.1\r\n\r\n", 502),
    ],
)
def test_a_refused_http_request_has_its_status(data: bytes, status: int) -> None:
    with a_proxy(bound(Kind.HTTP)) as (port,):
        answer = exchange(port, data)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nConnection: close\r\n" in answer


def test_a_refused_connection_says_why_over_http() -> None:
    with a_proxy(bound(Kind.HTTP)) as (port,):
        answer = exchange(port, b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % closed_port())
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert answer.endswith(b"the host refused the connection\n")


def test_http_asks_for_the_password_and_takes_it(echo_port: int) -> None:
    line = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % echo_port
    with a_proxy(bound(Kind.HTTP), login=LOGIN) as (port,):
        assert b'Proxy-Authenticate: Basic realm="ikeclient"\r\n' in exchange(port, line + b"\r\n")
        wrong = base64.b64encode(b"alice:secret")
        assert exchange(port, line + b"Proxy-Authorization: Basic " + wrong + b"\r\n\r\n").startswith(b"HTTP/1.1 407 ")
        right = base64.b64encode(b":".join(LOGIN))
        with connect(port) as client:
            client.sendall(line + b"Proxy-Authorization: Basic " + right + b"\r\n\r\n")
            assert receive(client, 13) == b"HTTP/1.1 200 "


def test_a_plain_request_goes_to_its_server_alone() -> None:
    """The second request in one connection would go to the first one's server; it goes nowhere."""
    seen: list[bytes] = []

    def web(connection: socket.socket) -> None:
        received = b""
        while b"body" not in received:
            received += connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nanswer")
        connection.shutdown(socket.SHUT_WR)
        seen.append(received + receive_all(connection))

    with a_server(web) as to, a_proxy(bound(Kind.HTTP)) as (port,), connect(port) as client:
        authority = b"127.0.0.1:%d" % to
        client.sendall(b"PUT http://%b/x HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo" % authority)
        client.sendall(b"dyGET http://elsewhere.example/ HTTP/1.1\r\nCookie: private\r\n\r\n")
        assert receive_all(client).endswith(b"\r\n\r\nanswer")
    head = b"PUT /x HTTP/1.1\r\nhost: %b\r\ncontent-length: 4\r\nvia: 1.1 ikeclient\r\nconnection: close" % authority
    assert seen == [head + b"\r\n\r\nbody"]


# Forwards


def test_a_forward_leads_to_its_destination(echo_port: int) -> None:
    listener = bound(Kind.FORWARD, Destination.of("localhost", echo_port))
    with a_proxy(listener) as (port,), connect(port) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"hello"


def test_a_forward_that_leads_nowhere_is_reset() -> None:
    listener = bound(Kind.FORWARD, Destination.of("127.0.0.1", closed_port()))
    with a_proxy(listener) as (port,):
        assert_reset(port)


def test_a_wrong_password_is_answered_late() -> None:
    with a_proxy(bound(), login=LOGIN, limits=few(wrong_password=0.3)) as (port,), connect(port) as client:
        started = time.monotonic()
        client.sendall(b"\x05\x01\x02\x01\x00\x00")
        assert receive(client, 4) == b"\x05\x02\x01\x01"
        assert time.monotonic() - started >= 0.3
