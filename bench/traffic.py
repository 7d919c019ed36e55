"""TCP of the kernel at one end of a tunnel: it sends, receives and counts, as lines of JSON on standard input say.

    python bench/traffic.py

Each line is a list of a word and its arguments; each answer is an object on a line. `bench.inside` does the same on the
in-process stack.

- `listen`: be a sink, a source and an echo, on `SINK`, `SOURCE` and `ECHO`
- `open "up"|"down" HOST FLOWS PROXY`: that many connections to a sink or a source, through a SOCKS proxy at that port;
  one after the other, and only when all are open do they carry anything, so that each has met an idle path
- `count`: bytes received so far, and when that was
- `stop`: reset every connection
"""

from __future__ import annotations

import json
import resource
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

SINK, SOURCE, ECHO = 9100, 9101, 9102
PORTS = {"up": SINK, "down": SOURCE}
PIECE = bytes(range(251)) * 1045  # a quarter of a megabyte
GO = b"g"  # what a source waits for
_RESET = struct.pack("ii", 1, 0)
_ROUNDS = 8
_BACKLOG = 4096


class Traffic:
    """Everything that this process carries."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._connections: set[socket.socket] = set()
        self._buffer = bytearray(1 << 20)
        self.received = 0

    def run(self) -> None:
        """Until the input ends."""
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    key.data(key.fileobj)
                elif not self._obey():
                    return

    def _obey(self) -> bool:
        line = sys.stdin.readline()
        if not line:
            return False
        word, *arguments = json.loads(line)
        try:
            answer = getattr(self, f"do_{word}")(*arguments)
        except OSError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer or {}), flush=True)
        return True

    def do_listen(self) -> None:
        """See the module."""
        for port, serve, events in (
            (SINK, self._sink, selectors.EVENT_READ),
            (SOURCE, self._start_source, selectors.EVENT_READ),
            (ECHO, self._echo, selectors.EVENT_READ),
        ):
            listener = socket.create_server(("0.0.0.0", port), backlog=_BACKLOG)
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, self._accepting(serve, events))

    def do_open(self, kind: str, host: str, flows: int, proxy: int) -> None:
        """See the module."""
        opened = [self._connection(host, PORTS[kind], proxy) for _ in range(flows)]
        for connection in opened:
            if kind == "up":
                self._watch(connection, self._source, selectors.EVENT_WRITE)
            else:
                connection.sendall(GO)
                self._watch(connection, self._sink, selectors.EVENT_READ)

    def _connection(self, host: str, port: int, proxy: int) -> socket.socket:
        if not proxy:
            return socket.create_connection((host, port), timeout=10)
        connection = socket.create_connection(("127.0.0.1", proxy), timeout=10)
        _through(connection, host, port)
        return connection

    def do_count(self) -> dict[str, float]:
        """See the module."""
        return {"bytes": self.received, "at": time.monotonic()}

    def do_stop(self) -> None:
        """See the module."""
        for connection in list(self._connections):
            self._drop(connection)

    def _accepting(self, serve: Callable[[socket.socket], None], events: int) -> Callable[[socket.socket], None]:
        def accept(listener: socket.socket) -> None:
            for _ in range(64):
                try:
                    connection, _address = listener.accept()
                except OSError:
                    return
                self._watch(connection, serve, events)

        return accept

    def _watch(self, connection: socket.socket, serve: Callable[[socket.socket], None], events: int) -> None:
        connection.setblocking(False)
        self._connections.add(connection)
        self._selector.register(connection, events, serve)

    def _drop(self, connection: socket.socket) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._selector.unregister(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.close()

    def _sink(self, connection: socket.socket) -> None:
        for _ in range(_ROUNDS):
            try:
                count = connection.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:
                count = 0
            if not count:
                self._drop(connection)
                return
            self.received += count

    def _start_source(self, connection: socket.socket) -> None:
        try:
            if connection.recv(1) == GO:
                self._selector.modify(connection, selectors.EVENT_WRITE, self._source)
                return
        except OSError:
            pass
        self._drop(connection)

    def _source(self, connection: socket.socket) -> None:
        try:
            for _ in range(_ROUNDS):
                if connection.send(PIECE) < len(PIECE):
                    return
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)

    def _echo(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(1 << 16)
            if data:
                connection.setblocking(True)
                connection.sendall(data)
                connection.setblocking(False)
                return
            self._connections.remove(connection)
            self._selector.unregister(connection)
            connection.close()
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)


def _through(connection: socket.socket, host: str, port: int) -> None:
    """Have a SOCKS proxy connect us."""
    name = host.encode()
    connection.sendall(b"\x05\x01\x00\x05\x01\x00\x03" + bytes((len(name),)) + name + port.to_bytes(2, "big"))
    answer = b""
    while len(answer) < 12:
        answer += connection.recv(12 - len(answer)) or b"\0" * 12
    if answer[:4] != b"\x05\x00\x05\x00":
        raise OSError(f"the proxy does not connect us: {answer.hex()}")


def main(arguments: list[Any]) -> None:
    """Be told."""
    if arguments:
        sys.exit(__doc__)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Traffic().run()


if __name__ == "__main__":
    main(sys.argv[1:])
