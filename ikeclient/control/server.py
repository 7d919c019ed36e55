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
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from ikeclient.control import protocol
from ikeclient.control.acceptor import Acceptor
from ikeclient.control.directory import Peer, listener, peer, prepare, remove_dead, try_lock
from ikeclient.control.protocol import Command, Request
from ikeclient.errors import ParseError, PlatformError, UsageError
from ikeclient.lazy_dataclass import dataclass

OnJoin = Callable[[Peer], object]
OnAsk = Callable[[Request], Coroutine[Any, Any, object]]

_LOCK_SECONDS = 1.0
_LAST_EVENTS_SECONDS = 0.5  # for the last event to reach subscribers
_QUEUE = 16  # connections the kernel accepts ahead of us


def already_running(name: str, pid: int) -> UsageError:
    """The error of a second start; `pid` is 0 if it cannot be told."""
    return UsageError(
        f"tunnel '{name}' is already running" + (f" (pid {pid})" if pid else ""),
        hint=f"`ikeclient status {name}` shows it, `ikeclient disconnect {name}` ends it",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a tunnel does for those who control it.

    Those that return nothing are called from the event loop after the reply was written, and must not block. `join`
    tells a process that wants to run in the tunnel's namespace the way in, and `ask` answers `ping` and `resolve`; both
    may raise UsageError. A tunnel without a namespace has no `join`, one with an interface no `ask`.
    """

    disconnect: Callable[[], None]
    reconnect: Callable[[], None]
    suspend: Callable[[], None]
    resume: Callable[[], None]
    join: OnJoin | None = None
    ask: OnAsk | None = None


class ControlServer:
    """Answers requests for one tunnel. `status` gives its entry of the document `ikeclient.status/1`."""

    def __init__(self, name: str, directory: Path, *, status: Callable[[], dict[str, object]], orders: Orders) -> None:
        self._name = name
        self._directory = directory
        self._owner = os.geteuid()  # which the process may give up later
        self._path = protocol.socket_path(directory, name)
        self._status = status
        self._orders = orders
        self._acceptor: Acceptor | None = None
        self._identity: tuple[int, int] | None = None
        self._clients: set[_Client] = set()  # who are here, and who arrive
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
        self._acceptor = Acceptor(listening, self._admit)

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
        if self._acceptor is None:
            return
        acceptor, self._acceptor = self._acceptor, None
        acceptor.close()
        try:
            status = self._path.lstat()
            if (status.st_dev, status.st_ino) == self._identity:
                self._path.unlink()
        except OSError:
            pass  # gone already, or the file system is; the next start clears a dead socket
        await acceptor.settle()
        for client in tuple(self._clients):
            client.finish()
        await self._gone(_LAST_EVENTS_SECONDS)
        for client in tuple(self._clients):
            client.abort()
        await self._gone(_LAST_EVENTS_SECONDS)

    async def _gone(self, seconds: float) -> None:
        if self._clients:
            await asyncio.wait([client.closed for client in self._clients], timeout=seconds)

    def _admit(self, connection: socket.socket) -> _Client | None:
        stranger = not peer(connection).trusted_by(self._owner)
        strangers = sum(client.stranger for client in self._clients)
        if len(self._clients) >= protocol.MAXIMUM_CLIENTS or (stranger and strangers >= protocol.MAXIMUM_STRANGERS):
            with contextlib.suppress(OSError):
                connection.send(protocol.encode(protocol.failure(protocol.TOO_MANY)))
            return None
        client = _Client(self, stranger)
        self._clients.add(client)
        return client

    # What clients ask for.

    def forget(self, client: _Client) -> None:
        """Give up the place of a connection that is gone."""
        self._clients.discard(client)
        self._subscribers.discard(client)

    def answer(self, client: _Client, line: bytes) -> bool:
        """Answer one request line; true if the connection stays open for events, or for an answer that takes time."""
        try:
            request = protocol.parse_request(line)
        except ParseError as error:
            client.send(protocol.encode(protocol.failure(str(error))))
            return False
        command = request.command
        if client.stranger and command not in protocol.FOR_ALL:
            client.send(protocol.encode(protocol.failure(protocol.NOT_YOURS)))
            return False
        match command:
            case Command.STATUS:
                client.send(self._status_reply())
            case Command.JOIN:
                client.send(protocol.encode(self._join_reply(client)))
            case Command.EVENTS:
                return self._subscribe(client)
            case Command.PING | Command.RESOLVE:
                client.answer_later(self._asked(request))
                return True
            case Command.DISCONNECT | Command.RECONNECT | Command.SUSPEND | Command.RESUME:
                actions = {
                    Command.DISCONNECT: self._orders.disconnect,
                    Command.RECONNECT: self._orders.reconnect,
                    Command.SUSPEND: self._orders.suspend,
                    Command.RESUME: self._orders.resume,
                }
                client.send(protocol.encode(protocol.success()))
                asyncio.get_running_loop().call_soon(actions[command])
        return False

    def _subscribe(self, client: _Client) -> bool:
        if len(self._subscribers) >= protocol.MAXIMUM_SUBSCRIBERS:
            client.send(protocol.encode(protocol.failure("too many listen to events already")))
            return False
        self._subscribers.add(client)
        client.send(protocol.encode(protocol.success()))
        client.stay()
        return True

    async def _asked(self, request: Request) -> dict[str, object]:
        if self._orders.ask is None:
            return protocol.failure("its packets go through an interface: ask there")
        try:
            return protocol.success(await self._orders.ask(request))
        except UsageError as error:
            return protocol.failure(error.message)
        except Exception as error:  # a bug here must not end the tunnel
            return self._could_not("the tunnel could not answer", error)

    def _join_reply(self, client: _Client) -> dict[str, object]:
        if self._orders.join is None:
            return protocol.failure("it runs in ordinary mode: what it carries is the machine's traffic")
        try:
            return protocol.success(self._orders.join(client.peer()))
        except UsageError as error:
            return protocol.failure(error.message)

    def _status_reply(self) -> bytes:
        try:
            return protocol.encode(protocol.success(self._status()))
        except Exception as error:  # a bug in describing the tunnel must not end the tunnel
            return protocol.encode(self._could_not("the tunnel could not describe itself", error))

    def _could_not(self, what: str, error: Exception) -> dict[str, object]:
        asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})
        return protocol.failure(what)


class _Client(asyncio.Protocol):
    """One connection: a request line, a reply line, and for `events` whatever follows."""

    def __init__(self, server: ControlServer, stranger: bool) -> None:
        loop = asyncio.get_running_loop()
        self._answering: asyncio.Task[None] | None = None
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

    def stay(self) -> None:
        """Stay open for what follows."""
        if self._timer is not None:
            self._timer.cancel()

    def answer_later(self, reply: Coroutine[Any, Any, dict[str, object]]) -> None:
        """Send the reply when it is there, and close."""
        self.stay()
        self._timer = self._loop.call_later(protocol.ANSWER_SECONDS, self.abort)
        self._answering = self._loop.create_task(self._answer(reply))

    async def _answer(self, reply: Coroutine[Any, Any, dict[str, object]]) -> None:
        self.send(protocol.encode(await reply))
        self.finish()

    def connection_lost(self, _: Exception | None) -> None:
        """Free the place."""
        self.stay()
        if self._answering is not None:
            self._answering.cancel()
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
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()
