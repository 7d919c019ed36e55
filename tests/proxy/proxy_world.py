"""A proxy in a thread of this process, servers for it to reach, and a client of raw SOCKS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from ikeclient.proxy import socks
from ikeclient.proxy.destination import Destination
from ikeclient.proxy.peers import Peers
from ikeclient.proxy.server import Server
from ikeclient.proxy.settings import Credentials, Kind, Limits, Listener, Settings
from ikeclient.proxy.sockets import SocketNetwork

PATIENCE = 20.0  # seconds a test waits before it fails
LIMITS = Limits(handshake=10.0, wrong_password=0.05, to_itself=True)


def bound(kind: Kind = Kind.SOCKS, destination: Destination | None = None, host: str = "127.0.0.1") -> Listener:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.bind((host, 0))
    return Listener(socket=made, kind=kind, destination=destination)


def datagram_socket(host: str = "127.0.0.1") -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host, 0))
    return made


@contextlib.contextmanager
def a_proxy(
    *listeners: Listener,
    limits: Limits = LIMITS,
    login: tuple[bytes, bytes] | None = None,
    datagram_sockets: tuple[socket.socket, ...] = (),
    peers: Peers | None = None,
) -> Iterator[tuple[int, ...]]:
    """Serve in a thread; yields the listeners' ports."""
    ports = tuple(listener.socket.getsockname()[1] for listener in listeners)
    settings = Settings(
        listeners=listeners,
        datagram_sockets=datagram_sockets,
        credentials=None if login is None else Credentials(*login),
        limits=limits,
        peers=peers or Peers.open(),
    )
    ready = threading.Event()
    stop: list[Callable[[], None]] = []

    async def serve() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopping.set))
        server = Server(settings, SocketNetwork(settings.limits))
        server.start()
        ready.set()
        await stopping.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield ports
    finally:
        stop[0]()
        thread.join(PATIENCE)
        settings.close()


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), timeout=PATIENCE)


def assert_reset(port: int) -> None:
    """A connection there ends with RST, perhaps before it is known to exist."""
    with pytest.raises(ConnectionResetError), connect(port) as connection:
        connection.recv(1)


def receive(connection: socket.socket, length: int) -> bytes:
    """Exactly that many bytes, or fewer at the end of the stream."""
    received = b""
    while len(received) < length and (more := connection.recv(length - len(received))):
        received += more
    return received


def receive_all(connection: socket.socket) -> bytes:
    return receive(connection, 1 << 30)


def request(command: int, host: str, port: int) -> bytes:
    """A request with the host as a name, which may be an address in letters."""
    return bytes((5, command, 0, 3, len(host))) + host.encode() + port.to_bytes(2, "big")


def socks_connect(port: int, host: str, to: int, *, command: int = socks.Command.CONNECT) -> tuple[socket.socket, int]:
    """A connection through SOCKS without a password, and the reply's code."""
    connection = connect(port)
    try:
        connection.sendall(b"\x05\x01\x00" + request(command, host, to))
        assert receive(connection, 2) == b"\x05\x00"
        return connection, receive(connection, 10)[1]
    except BaseException:
        connection.close()
        raise


@contextlib.contextmanager
def a_server(serve: Callable[[socket.socket], object], host: str = "127.0.0.1") -> Iterator[int]:
    """A TCP server that hands each connection to `serve` in a thread; yields its port."""
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024)
    threads: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.settimeout(PATIENCE)
                thread = threading.Thread(target=one, args=(connection,), daemon=True)
                threads.append(thread)
                thread.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)


def echo(connection: socket.socket) -> None:
    """Send back what comes, and the end too."""
    while data := connection.recv(65536):
        connection.sendall(data)


def closed_port(host: str = "127.0.0.1") -> int:
    """A port where nobody listens."""
    with socket.socket() as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])


def few(**changes: float) -> Limits:
    """The tests' limits with changes."""
    return replace(LIMITS, **changes)  # type: ignore[arg-type]
