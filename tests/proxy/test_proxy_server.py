"""Limits, hostile bytes, and the end of a server."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from random import Random

import pytest
from proxy.proxy_world import (
    a_proxy,
    assert_reset,
    bound,
    connect,
    datagram_socket,
    few,
    receive,
    receive_all,
    socks_connect,
)

from ikeclient.proxy import server as serving
from ikeclient.proxy.destination import Destination
from ikeclient.proxy.settings import Kind


def test_before_the_start_connections_are_refused() -> None:
    """Nobody is kept waiting for a tunnel that is not up."""
    listener = bound()
    with pytest.raises(ConnectionRefusedError):
        connect(listener.socket.getsockname()[1])
    listener.socket.close()


def test_beyond_the_limit_each_protocol_says_so(echo_port: int, caplog: pytest.LogCaptureFixture) -> None:
    forward = bound(Kind.FORWARD, Destination.of("127.0.0.1", echo_port))
    listeners = (bound(), bound(Kind.HTTP), forward)
    with a_proxy(*listeners, limits=few(connections=2)) as (socks_port, http_port, forward_port):
        held = [socks_connect(socks_port, "127.0.0.1", echo_port) for _ in range(2)]
        assert [code for _, code in held] == [0, 0]
        refused, code = socks_connect(socks_port, "127.0.0.1", echo_port)
        assert code == 1
        with connect(http_port) as client:
            client.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % echo_port)
            assert receive_all(client).startswith(b"HTTP/1.1 503 ")
        assert_reset(forward_port)
        for connection, _ in [*held, (refused, 1)]:
            connection.close()
        assert_served(socks_port, echo_port)
    assert "there are 2 already" in caplog.text


def test_far_beyond_the_limit_connections_are_cut_off(echo_port: int) -> None:
    with a_proxy(bound(), limits=few(connections=1, refusing=1)) as (port,):
        held = [connect(port) for _ in range(2)]
        for one in held:
            one.sendall(b"\x05\x01\x00")
            assert receive(one, 2) == b"\x05\x00"
        assert_reset(port)
        for one in held:
            one.close()
        assert_served(port, echo_port)


def assert_served(port: int, echo_port: int, timeout: float = 20.0) -> None:
    """The proxy serves, as soon as it has noticed that others are gone."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection, code = socks_connect(port, "127.0.0.1", echo_port)
        except (ConnectionResetError, BrokenPipeError):
            code = -1
        else:
            with connection:
                if code == 0:
                    connection.sendall(b"alive")
                    assert receive(connection, 5) == b"alive"
                    return
        assert time.monotonic() < deadline, code
        time.sleep(0.02)


def test_without_descriptors_it_rests_and_goes_on(echo_port: int, caplog: pytest.LogCaptureFixture) -> None:
    """O13: EMFILE leaves the listener readable; accepting again at once would spin."""
    calls = 0

    class Exhausted(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            nonlocal calls
            calls += 1
            if calls <= 2:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return super().accept()

    listener = bound()
    exhausted = Exhausted(fileno=listener.socket.detach())
    with a_proxy(serving.Listener(socket=exhausted, kind=Kind.SOCKS)) as (port,):
        started = time.monotonic()
        assert_served(port, echo_port)
        assert time.monotonic() - started >= 0.35
        assert calls < 20
    assert caplog.text.count("connections are refused: Too many open files") == 1


def test_hostile_bytes_cost_their_connection_only(echo_port: int, caplog: pytest.LogCaptureFixture) -> None:
    random = Random(5)
    starts = [b"", b"\x05", b"\x05\x01\x00", b"\x05\x01\x00\x05\x01\x00", b"\x05\x01\x00\x05\x03\x00\x01", b"CONNECT "]
    forward = bound(Kind.FORWARD, Destination.of("127.0.0.1", echo_port))
    listeners = (bound(), bound(Kind.HTTP), forward)
    limits = few(handshake=1.0, farewell=0.2)
    with a_proxy(*listeners, limits=limits, datagram_sockets=(datagram_socket(),)) as ports:
        for round_ in range(300):
            with connect(ports[round_ % 3]) as client:
                client.settimeout(0.05)
                try:
                    client.sendall(random.choice(starts) + random.randbytes(random.randint(0, 700)))
                    if random.random() < 0.5:
                        client.shutdown(socket.SHUT_WR)
                        client.recv(4096)
                except (OSError, TimeoutError):
                    pass
        assert_served(ports[0], echo_port)
    assert "unexpected" not in caplog.text


def test_a_bug_costs_its_connection_only(
    echo_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise KeyError("what a client sent")

    monkeypatch.setattr(serving, "http_session", broken)
    with a_proxy(bound(), bound(Kind.HTTP)) as (socks_port, http_port):
        with connect(http_port) as client:
            assert client.recv(1) == b""
        assert_served(socks_port, echo_port)
    assert "unexpected KeyError in a connection" in caplog.text
    assert "what a client sent" not in caplog.text


def test_the_end_resets_what_was_under_way(echo_port: int) -> None:
    """A download that was cut off must not look complete."""
    with a_proxy(bound()) as (port,):
        connection, code = socks_connect(port, "127.0.0.1", echo_port)
        assert code == 0
    with connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def test_two_hundred_connections_at_once_each_get_their_own_bytes(
    echo_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with a_proxy(bound()) as (port,):
        connections = [socks_connect(port, "127.0.0.1", echo_port)[0] for _ in range(200)]
        for number, connection in enumerate(connections):
            connection.sendall(b"%08d" % number * 100)
        for number, connection in enumerate(connections):
            assert receive(connection, 800) == b"%08d" % number * 100
        for connection in connections:
            connection.close()
    assert not caplog.text
    assert threading.active_count() < 100
