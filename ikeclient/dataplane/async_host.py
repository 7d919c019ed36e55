"""The host inside the tunnel for code that runs in an event loop: connections, datagrams, names and pings.

What carries much is told by calls: a `Handler` is handed what arrives where it lies. For everything else there are
coroutines. Errors are those of sockets, so that code written for these needs no others.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import NoReturn

from ikeclient.errors import IkeclientError
from ikeclient.stack.host import Host, NoRoute
from ikeclient.stack.interfaces import CloseReason, Data, Handler, Stream
from ikeclient.stack.ip.header import packed
from ikeclient.stack.ip.icmp import Kind
from ikeclient.stack.ping import PingResult
from ikeclient.stack.resolver import Outcome
from ikeclient.stack.udp import Association, End

Address = tuple[str, int]

_ERRNO: dict[CloseReason, int] = {
    CloseReason.REFUSED: errno.ECONNREFUSED,
    CloseReason.RESET: errno.ECONNRESET,
    CloseReason.TIMED_OUT: errno.ETIMEDOUT,
    CloseReason.UNREACHABLE: errno.EHOSTUNREACH,
    CloseReason.ADDRESS_LOST: errno.ECONNRESET,
    CloseReason.CLOSED: errno.ECONNABORTED,
}
_KINDS: dict[Kind, int] = {
    Kind.PORT_UNREACHABLE: errno.ECONNREFUSED,
    Kind.PROTOCOL_UNREACHABLE: errno.ENOPROTOOPT,
    Kind.HOST_UNREACHABLE: errno.EHOSTUNREACH,
    Kind.NETWORK_UNREACHABLE: errno.ENETUNREACH,
    Kind.PROHIBITED: errno.EACCES,
    Kind.EXPIRED: errno.EHOSTUNREACH,
    Kind.TOO_BIG: errno.EMSGSIZE,
}
_CHUNK = 256 << 10


class Connection:
    """A TCP connection through the tunnel.

    With a handler (`handle`), that is told what happens, and what arrives is handed to it; until then everything waits
    here. Without one, `read`, `write` and their like are coroutines; at most one reads and one writes at a time.
    """

    __slots__ = ("_failure", "_handler", "_opened", "_readable", "_shut", "_stream", "_writable")

    def __init__(self) -> None:
        self._stream: Stream | None = None
        self._handler: Handler | None = None
        self._failure: CloseReason | None = None
        self._shut = False
        self._opened: asyncio.Future[None] | None = None
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    @property
    def stream(self) -> Stream:
        """The stack's connection, for the fast way in and out."""
        assert self._stream is not None
        return self._stream

    @property
    def closed(self) -> CloseReason | None:
        """Why it is over; None while it is not."""
        return self._failure

    @property
    def peer(self) -> Address:
        """Address and port of the other end."""
        return _text(self.stream.remote)

    @property
    def own(self) -> Address:
        """Our own."""
        return _text(self.stream.local)

    def handle(self, handler: Handler) -> None:
        """Tell this one from now on; what arrived before waits in `stream`."""
        self._handler = handler

    async def read(self, limit: int = _CHUNK) -> bytes:
        """What has arrived, at most `limit` bytes, at least one; nothing at the end. Raises OSError."""
        while not self.stream.waiting and not self.stream.at_end:
            self._check()
            await self._wait("_readable")
        return self.stream.receive(limit)

    async def write(self, data: Data) -> None:
        """Return when all was taken. Raises OSError."""
        rest = data
        while len(rest):
            if self._shut:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            self._check()
            taken = self.stream.send(rest)
            rest = memoryview(rest)[taken:]
            if len(rest):
                await self._wait("_writable")

    def shutdown(self) -> None:
        """Say that no more will be sent."""
        self._shut = True
        self.stream.shutdown()

    def close(self) -> None:
        """Say so, and receive no more."""
        self._shut = True
        self.stream.close()

    def abort(self) -> None:
        """Reset it."""
        self._failure = self._failure or CloseReason.CLOSED
        self.stream.abort()
        self._wake()

    async def opened(self) -> None:
        """Return when it is established. Raises OSError."""
        if self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()
        await self._opened

    def begin(self, stream: Stream) -> None:
        """Be the user's end of this one."""
        self._stream = stream

    def _check(self) -> None:
        if self._failure is not None:
            fail(self._failure)

    async def _wait(self, name: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        setattr(self, name, future)
        try:
            await future
        finally:
            setattr(self, name, None)

    def _wake(self) -> None:
        for future in (self._readable, self._writable):
            _finish(future)

    # Handler

    def on_open(self) -> None:
        """See `Handler`."""
        _finish(self._opened)
        if self._handler is not None:
            self._handler.on_open()

    def on_data(self, data: memoryview) -> int:
        """See `Handler`."""
        if self._handler is not None:
            return self._handler.on_data(data)
        _finish(self._readable)
        return 0

    def on_end(self) -> None:
        """See `Handler`."""
        if self._handler is not None:
            self._handler.on_end()
        _finish(self._readable)

    def on_writable(self) -> None:
        """See `Handler`."""
        if self._handler is not None:
            self._handler.on_writable()
        _finish(self._writable)

    def on_closed(self, reason: CloseReason) -> None:
        """See `Handler`."""
        self._failure = reason
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(_error(reason))
            self._opened.exception()  # nobody may be waiting any more
        self._wake()
        if self._handler is not None:
            self._handler.on_closed(reason)


class Datagrams:
    """UDP through the tunnel, from one port of ours; `on_readable` is called when a datagram waits."""

    __slots__ = ("_association", "_failure", "_waiting", "on_readable")

    def __init__(self, association: Association) -> None:
        self._association = association
        self._failure: Kind | None = None
        self._waiting: asyncio.Future[None] | None = None
        self.on_readable: Callable[[], None] | None = None
        association.listen(self._readable, self._failed)

    @property
    def port(self) -> int:
        """Our port."""
        return self._association.port

    def when_readable(self, call: Callable[[], None]) -> None:
        """Have this called when a datagram waits."""
        self.on_readable = call

    def send(self, data: bytes, to: Address | None = None) -> bool:
        """Send a datagram; false if it is lost already. Raises OSError if it cannot be sent anywhere."""
        try:
            return self._association.send(data, None if to is None else (_packed(to[0]), to[1]))
        except ValueError as error:
            raise OSError(errno.EMSGSIZE, str(error)) from None

    def receive(self) -> tuple[bytes, Address] | None:
        """The next datagram and where it came from; None if none waits."""
        arrived = self._association.receive()
        return None if arrived is None else (arrived[0], _text(arrived[1]))

    async def read(self) -> tuple[bytes, Address]:
        """As `receive`, when there is one. Raises OSError after an ICMP error about what was sent."""
        while (arrived := self.receive()) is None:
            failure, self._failure = self._failure, None
            if failure is not None:
                raise OSError(_KINDS[failure], os.strerror(_KINDS[failure]))
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return arrived

    def close(self) -> None:
        """Give the port back."""
        self._association.close()

    def _readable(self) -> None:
        _finish(self._waiting)
        if self.on_readable is not None:
            self.on_readable()

    def _failed(self, kind: Kind, end: End) -> None:  # noqa: ARG002  whichever destination it was
        self._failure = kind
        _finish(self._waiting)


class Listening:
    """A port on which connections are accepted; with `close` no more."""

    def __init__(self, close: Callable[[], None]) -> None:
        self.close = close


class AsyncHost:
    """The host in the running event loop; `clock` is that of its device."""

    def __init__(self, host: Host, clock: Callable[[], float]) -> None:
        self.host = host
        self._clock = clock

    def connect(self, address: str, port: int, handler: Handler) -> Stream:
        """Begin a connection; the handler hears how that goes. Raises OSError if it cannot begin."""
        try:
            return self.host.connect(_packed(address), port, handler, self._clock())
        except IkeclientError as error:
            _refuse(error)

    async def open_connection(self, address: str, port: int) -> Connection:
        """A connection that is established. Raises OSError, of the class and number that a socket would raise."""
        connection = Connection()
        connection.begin(self.connect(address, port, connection))
        try:
            await connection.opened()
        except asyncio.CancelledError:
            connection.abort()
            raise
        return connection

    def listen(self, port: int, accept: Callable[[Connection], None], address: str | None = None) -> Listening:
        """Have connections to this port of ours accepted, to one address or any. Raises OSError if it is taken."""

        def accepted(stream: Stream) -> Handler:
            connection = Connection()
            connection.begin(stream)
            accept(connection)
            return connection

        listener = self.host.tcp.listen(port, accepted, _packed(address) if address is not None else None)
        return Listening(listener.close)

    def open_udp(self, port: int = 0, peer: Address | None = None) -> Datagrams:
        """Datagrams from a port of ours, 0: any, to `peer` or to anybody. Raises OSError."""
        try:
            return Datagrams(self.host.open_udp(port, None if peer is None else (_packed(peer[0]), peer[1])))
        except IkeclientError as error:
            _refuse(error)

    async def resolve(self, name: str) -> list[str]:
        """The addresses of a name. Raises socket.gaierror."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.host.resolve(name, lambda outcome: None if future.done() else future.set_result(outcome), self._clock())
        outcome = await future
        if outcome.problem is not None:
            raise socket.gaierror(socket.EAI_NONAME, f"{name}: {outcome.problem}")
        return [_address(each) for each in outcome.addresses]

    async def ping(self, address: str, *, patience: float = 2.0, size: int = 56) -> PingResult:
        """Ask for an echo and wait at most `patience` seconds. Raises OSError if nothing can be sent there."""
        future: asyncio.Future[PingResult] = asyncio.get_running_loop().create_future()

        def done(result: PingResult) -> None:
            if not future.done():
                future.set_result(result)

        try:
            sent = self.host.ping(_packed(address), patience, done, self._clock(), size=size)
        except IkeclientError as error:
            _refuse(error)
        if not sent:
            raise OSError(errno.ENOBUFS, "too many echo requests wait for an answer")
        return await future


def fail(reason: CloseReason) -> NoReturn:
    """Raise what a socket would raise for it."""
    raise _error(reason)


def _error(reason: CloseReason) -> OSError:
    return OSError(_ERRNO[reason], str(reason.value))


def _refuse(error: IkeclientError) -> NoReturn:
    number = errno.ENETUNREACH if isinstance(error, NoRoute) else errno.EADDRNOTAVAIL
    raise OSError(number, ": ".join(error.lines())) from error


def _finish(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _text(end: End) -> Address:
    return _address(end[0]), end[1]


def _address(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def _packed(address: str) -> bytes:
    try:
        return packed(address)
    except ValueError:
        raise OSError(errno.EINVAL, f"{address} is not an address: resolve names first") from None
