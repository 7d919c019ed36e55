"""Bytes both ways, ends passed on, and nothing that grows."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from proxy.proxy_world import PATIENCE, receive, receive_all

from ikeclient.proxy.relay import relay, reset_on_close
from ikeclient.proxy.sockets import tune


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
        right, _ = listener.accept()
        right.settimeout(PATIENCE)
        return left, right


async def relaying(
    left: socket.socket, right: socket.socket, *, limit: int | None = None, seconds: float | None = None
) -> None:
    """Relay between two sockets, at most so long, and close them."""
    tune(left)
    tune(right)
    with left, right:
        async with asyncio.timeout(seconds):
            await relay(left, right, limit=limit)


@contextmanager
def relayed(limit: int | None = None) -> Iterator[tuple[socket.socket, socket.socket, Callable[[], bool]]]:
    """A client and a server with a relay between them; the function tells whether it has ended."""
    client, left = pair()
    right, server = pair()

    thread = threading.Thread(target=lambda: asyncio.run(relaying(left, right, limit=limit)))
    thread.start()

    def ended() -> bool:
        thread.join(PATIENCE)
        return not thread.is_alive()

    with client, server:
        yield client, server, ended
    assert ended()


def test_each_end_hears_the_other() -> None:
    with relayed() as (client, server, _):
        client.sendall(b"question")
        assert receive(server, 8) == b"question"
        server.sendall(b"answer")
        assert receive(client, 6) == b"answer"


@pytest.mark.parametrize("client_first", [True, False])
def test_the_end_of_one_way_leaves_the_other_open(client_first: bool) -> None:
    """Half-close: what many protocols and `nc` use to say that the question is complete."""
    with relayed() as (client, server, ended):
        first, second = (client, server) if client_first else (server, client)
        first.sendall(b"all")
        first.shutdown(socket.SHUT_WR)
        assert receive_all(second) == b"all"
        second.sendall(b"answer")
        second.shutdown(socket.SHUT_WR)
        assert receive_all(first) == b"answer"
        assert ended()


def test_a_reset_is_passed_on_as_a_reset() -> None:
    """An end by FIN would make a part look like the whole."""
    with relayed() as (client, server, ended):
        server.sendall(b"half")
        assert receive(client, 4) == b"half"
        reset_on_close(server)
        server.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert ended()


def test_much_data_arrives_whole_and_in_order_both_ways_at_once() -> None:
    data = os.urandom(1 << 20) * 24
    digest = hashlib.sha256(data).digest()
    with relayed() as (client, server, ended):
        got: dict[str, bytes] = {}

        def send(connection: socket.socket) -> None:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

        def take(name: str, connection: socket.socket) -> None:
            hashed = hashlib.sha256()
            while more := connection.recv(100_000):
                hashed.update(more)
            got[name] = hashed.digest()

        threads = [threading.Thread(target=send, args=(one,)) for one in (client, server)]
        threads += [threading.Thread(target=take, args=named) for named in (("client", client), ("server", server))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert got == {"client": digest, "server": digest}
        assert ended()


def test_a_slow_reader_stops_the_sender_and_loses_nothing() -> None:
    """Back-pressure: what nobody reads stays in the kernel's bounded buffers and then with the sender."""
    with relayed() as (client, server, _):
        server.setblocking(False)
        sent = 0
        chunk = bytes(range(256)) * 256

        async def fill() -> None:
            nonlocal sent
            loop = asyncio.get_running_loop()
            while True:
                async with asyncio.timeout(1.0):
                    await loop.sock_sendall(server, chunk)
                    sent += len(chunk)
                assert sent < 64 << 20, "nothing stops the sender"

        with pytest.raises(TimeoutError):
            asyncio.run(fill())
        received = receive(client, sent)
        assert received == (chunk * (sent // len(chunk) + 1))[:sent]


def test_after_the_limit_nothing_more_reaches_the_server() -> None:
    with relayed(limit=5) as (client, server, _):
        client.sendall(b"body")
        assert receive(server, 4) == b"body"
        client.sendall(b"!GET http://elsewhere/ HTTP/1.1")
        server.sendall(b"answer")
        assert receive(client, 6) == b"answer"
        client.shutdown(socket.SHUT_WR)
        assert receive_all(server) == b"!"


def test_a_relay_that_is_cut_off_resets_both_ends() -> None:
    client, left = pair()
    right, server = pair()

    with client, server:
        with pytest.raises(TimeoutError):
            asyncio.run(relaying(left, right, seconds=0.05))
        for end in (client, server):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
