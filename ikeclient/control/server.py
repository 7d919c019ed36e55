"""The tunnel's side of its control socket.

It lives in the event loop that carries the tunnel, so nothing a client does may cost that loop more than a moment: no
task per client, every buffer capped, whoever is slow or too many is dropped (CVE-2018-5388 was a control socket that
trusted a length). Every user of the machine who may enter the directory can look: status and events hold no secret.
Orders are taken from the tunnel's own user and root alone, and those who only look cannot take their places.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from ikeclient.control import protocol
from ikeclient.control.directory import Peer, listener, peer, prepare, remove_dead, try_lock
from ikeclient.control.protocol import Command
from ikeclient.errors import ParseError, PlatformError, UsageError

OnJoin = Callable[[Peer], object]

_LOCK_SECONDS = 1.0
_LAST_EVENTS_SECONDS = 0.5  # for the last event to reach subscribers
_EXHAUSTED_SECONDS = 1.0
_QUEUE = 16  # connections the kernel accepts ahead of us


def already_running(name: str, pid: int) -> UsageError:
    """The error of a second start; `pid` is 0 if it cannot be told."""
    return UsageError(
        f"tunnel '{name}' is already running" + (f" (pid {pid})" if pid else ""),
        hint=f"`ikeclient status {name}` shows it, `ikeclient disconnect {name}` ends it",
    )


class ControlServer:
    """Answers `status`, `events`, `disconnect` and `reconnect` for one tunnel.

    `status` gives the tunnel's entry of the document `ikeclient.status/1`. The two orders are called from the event
    loop after the reply was written, and must not block. `on_join` tells a process that wants to run in the tunnel's
    namespace the way in, or raises UsageError; a tunnel without a namespace has none.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        status: Callable[[], dict[str, object]],
        on_disconnect: Callable[[], None],
        on_reconnect: Callable[[], None],
        on_join: OnJoin | None = None,
    ) -> None:
        self._name = name
        self._directory = directory
        self._owner = os.geteuid()  # which the process may give up later
        self._path = protocol.socket_path(directory, name)
        self._status = status
        self._on_join = on_join
        self._actions = {Command.DISCONNECT: on_disconnect, Command.RECONNECT: on_reconnect}
        self._listening: socket.socket | None = None
        self._identity: tuple[int, int] | None = None
        self._arriving: set[asyncio.Task[None]] = set()
        self._clients: set[_Client] = set()
        self._places = 0  # taken by those who arrive and those who are here
        self._strangers = 0  # of them
        self._subscribers: set[_Client] = set()

    @property
    def path(self) -> Path:
        """Return where the socket is while the server runs."""
        return self._path

    async def start(self) -> None:
        """Take the tunnel's name and listen.

        Raises UsageError when a tunnel of that name runs, PlatformError when there is no place for the socket. After a
        PlatformError the tunnel can still run, it just cannot be asked anything.
        """
        prepare(self._directory)
        deadline = asyncio.get_running_loop().time() + _LOCK_SECONDS
        try:
            while True:
                with try_lock(self._directory) as locked:
                    if locked or asyncio.get_running_loop().time() > deadline:  # a stopped process may hold the lock
                        listening = self._listen()
                        break
                await asyncio.sleep(0.01)
        except OSError as error:
            raise PlatformError(f"cannot listen on {self._path}", reason=error.strerror) from error
        listening.setblocking(False)
        self._listening = listening
        self._resume()

    def _listen(self) -> socket.socket:
        pid = listener(self._path)
        if pid is not None:
            raise already_running(self._name, pid)
        remove_dead(self._path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(os.fspath(self._path))
            os.chmod(self._path, 0o666)  # noqa: S103 - who may enter the directory may ask
            listening.listen(_QUEUE)
            status = self._path.lstat()
        except BaseException:
            listening.close()
            raise
        self._identity = (status.st_dev, status.st_ino)
        return listening

    def publish(self, event: dict[str, object]) -> None:
        """Hand `event` to every subscriber; those that are too far behind are dropped. Never blocks."""
        if not self._subscribers:
            return
        line = protocol.encode(event)
        for client in tuple(self._subscribers):
            client.send(line)

    async def close(self) -> None:
        """Stop listening, remove the socket, let the last events out. Safe to call twice and before `start`."""
        if self._listening is None:
            return
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        self._listening = None
        try:
            status = self._path.lstat()
            if (status.st_dev, status.st_ino) == self._identity:
                self._path.unlink()
        except OSError:
            pass  # gone already, or the file system is; the next start clears a dead socket
        await asyncio.gather(*self._arriving, return_exceptions=True)
        for client in tuple(self._clients):
            client.finish()
        await self._gone(_LAST_EVENTS_SECONDS)
        for client in tuple(self._clients):
            client.abort()
        await self._gone(_LAST_EVENTS_SECONDS)

    async def _gone(self, seconds: float) -> None:
        if self._clients:
            await asyncio.wait([client.closed for client in self._clients], timeout=seconds)

    def _resume(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        """Take one connection, so that a crowd at the door gets no more than its turn of the event loop."""
        loop = asyncio.get_running_loop()
        try:
            connection, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left; without a pause the loop would spin
            loop.remove_reader(listening)
            loop.call_later(_EXHAUSTED_SECONDS, self._resume)
            return
        connection.setblocking(False)
        stranger = not peer(connection).trusted_by(self._owner)
        if self._places >= protocol.MAXIMUM_CLIENTS or (stranger and self._strangers >= protocol.MAXIMUM_STRANGERS):
            with contextlib.suppress(OSError):
                connection.send(protocol.encode(protocol.failure(protocol.TOO_MANY)))
            connection.close()
        else:
            self._places += 1
            self._strangers += stranger
            task = loop.create_task(self._admit(connection, stranger))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _admit(self, connection: socket.socket, stranger: bool) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: _Client(self, stranger), connection)
        except OSError:
            self._places -= 1
            self._strangers -= stranger
            connection.close()

    # What clients ask for.

    def remember(self, client: _Client) -> None:
        """Count a connection that was made."""
        self._clients.add(client)

    def forget(self, client: _Client) -> None:
        """Give up the place of a connection that is gone."""
        self._places -= 1
        self._strangers -= client.stranger
        self._clients.discard(client)
        self._subscribers.discard(client)

    def answer(self, client: _Client, line: bytes) -> bool:
        """Answer one request line; true if the connection stays open for events."""
        try:
            command = protocol.parse_request(line)
        except ParseError as error:
            client.send(protocol.encode(protocol.failure(str(error))))
            return False
        if client.stranger and command not in protocol.FOR_ALL:
            client.send(protocol.encode(protocol.failure(protocol.NOT_YOURS)))
        elif command is Command.STATUS:
            client.send(self._status_reply())
        elif command is Command.JOIN:
            client.send(protocol.encode(self._join_reply(client)))
        elif command is Command.EVENTS:
            if len(self._subscribers) >= protocol.MAXIMUM_SUBSCRIBERS:
                client.send(protocol.encode(protocol.failure("too many listen to events already")))
                return False
            self._subscribers.add(client)
            client.send(protocol.encode(protocol.success()))
            return True
        else:
            client.send(protocol.encode(protocol.success()))
            asyncio.get_running_loop().call_soon(self._actions[command])
        return False

    def _join_reply(self, client: _Client) -> dict[str, object]:
        if self._on_join is None:
            return protocol.failure("it runs in ordinary mode: what it carries is the machine's traffic")
        try:
            return protocol.success(self._on_join(client.peer()))
        except UsageError as error:
            return protocol.failure(error.message)

    def _status_reply(self) -> bytes:
        try:
            return protocol.encode(protocol.success(self._status()))
        except Exception as error:  # a bug in describing the tunnel must not end the tunnel
            context = {"message": "the status of the tunnel could not be told", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            return protocol.encode(protocol.failure("the tunnel could not describe itself"))


class _Client(asyncio.Protocol):
    """One connection: a request line, a reply line, and for `events` whatever follows."""

    def __init__(self, server: ControlServer, stranger: bool) -> None:
        loop = asyncio.get_running_loop()
        self.stranger = stranger
        self.closed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._buffer = bytearray()
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.remember(self)
        self._timer = self._loop.call_later(protocol.REQUEST_SECONDS, self.abort)

    def data_received(self, data: bytes) -> None:
        """Collect the request line and have it answered."""
        if self._answered:  # one request a connection; whoever says more does not speak this protocol
            self.abort()
            return
        self._buffer += data
        line, newline, _ = self._buffer.partition(b"\n")
        if not newline and len(self._buffer) < protocol.MAXIMUM_REQUEST:
            return
        self._buffer = bytearray()
        self._answered = True
        if len(line) >= protocol.MAXIMUM_REQUEST:
            self.send(protocol.encode(protocol.failure("the request is too long")))
            self.finish()
        elif not self._server.answer(self, bytes(line)):
            self.finish()
        elif self._timer is not None:
            self._timer.cancel()

    def connection_lost(self, _: Exception | None) -> None:
        """Free the place."""
        if self._timer is not None:
            self._timer.cancel()
        self._server.forget(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def peer(self) -> Peer:
        """Who asks."""
        assert self._transport is not None
        return peer(self._transport.get_extra_info("socket"))

    def send(self, line: bytes) -> None:
        """Write `line`, or give up on a reader that is too far behind."""
        assert self._transport is not None
        if self._transport.get_write_buffer_size() > protocol.MAXIMUM_BACKLOG:
            self.abort()
        else:
            self._transport.write(line)

    def finish(self) -> None:
        """Close once everything has been read, within the time that `REQUEST_SECONDS` leaves."""
        assert self._transport is not None
        self._transport.close()

    def abort(self) -> None:
        """Close now."""
        assert self._transport is not None
        self._transport.abort()
