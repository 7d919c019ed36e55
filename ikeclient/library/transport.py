"""A connection of the stack as a transport of asyncio, so that protocols written for sockets run over it."""

from __future__ import annotations

import asyncio
from collections import deque

from ikeclient.dataplane.async_host import Connection, fail
from ikeclient.stack.interfaces import CloseReason

_HIGH_WATER = 256 << 10  # bytes that a transport takes before it asks for a pause


class StackTransport(asyncio.Transport):
    """See `asyncio.Transport`; also the stack's handler (`stack.interfaces.Handler`)."""

    _start_tls_compatible = True  # of which `loop.start_tls` asks

    def __init__(self, connection: Connection, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"peername": connection.peer, "sockname": connection.own})
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._protocol = protocol
        self._rest: deque[memoryview] = deque()  # that the stack had no room for
        self._held = 0  # bytes in there
        self._asked_to_pause = False
        self._paused = False
        self._ended = False  # the peer has sent all, and the protocol knows
        self._eof = False  # ours is said, or will be behind the rest
        self._closing = False
        self._over = False  # both ends have said everything; what waits is still for the protocol
        self._lost = False
        connection.handle(self)
        protocol.connection_made(self)
        if connection.closed is not None:
            self.on_closed(connection.closed)
        else:
            self._deliver()

    # For the protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `asyncio.Transport`."""
        if self._lost or self._closing or not data:
            return
        if self._eof:
            raise RuntimeError("cannot write after write_eof()")
        kept = bytes(data)
        taken = 0 if self._rest else self._connection.stream.send(kept)
        if taken < len(kept):
            self._rest.append(memoryview(kept)[taken:])
            self._held += len(kept) - taken
            if self._held > _HIGH_WATER and not self._asked_to_pause and isinstance(self._protocol, asyncio.Protocol):
                self._asked_to_pause = True
                self._protocol.pause_writing()

    def write_eof(self) -> None:
        """See `asyncio.Transport`."""
        self._eof = True
        if not self._rest and not self._lost:
            self._connection.shutdown()

    def can_write_eof(self) -> bool:
        """See `asyncio.Transport`."""
        return True

    def get_write_buffer_size(self) -> int:
        """See `asyncio.Transport`."""
        return self._held

    def is_closing(self) -> bool:
        """See `asyncio.Transport`."""
        return self._closing

    def close(self) -> None:
        """See `asyncio.Transport`."""
        if not self._closing:
            self._closing = True
            if not self._rest:
                self._finish()

    def abort(self) -> None:
        """See `asyncio.Transport`."""
        self._closing = True
        if not self._lost:
            self._connection.abort()
            self._lose(None)

    def is_reading(self) -> bool:
        """See `asyncio.Transport`."""
        return not self._paused and not self._ended and not self._closing

    def pause_reading(self) -> None:
        """See `asyncio.Transport`."""
        self._paused = True

    def resume_reading(self) -> None:
        """See `asyncio.Transport`."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._deliver)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See `asyncio.Transport`."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """See `asyncio.Transport`."""
        return self._protocol

    # For the stack (`stack.interfaces.Handler`)

    def on_open(self) -> None:
        """See `Handler`."""

    def on_data(self, data: memoryview) -> int:
        """See `Handler`."""
        if self._closing or self._lost:
            return len(data)
        if self._paused:
            return 0
        self._received(bytes(data))
        return len(data)

    def on_end(self) -> None:
        """See `Handler`."""
        self._deliver()

    def on_writable(self) -> None:
        """See `Handler`."""
        while self._rest:
            taken = self._connection.stream.send(self._rest[0])
            self._held -= taken
            if taken < len(self._rest[0]):
                self._rest[0] = self._rest[0][taken:]
                break
            self._rest.popleft()
        if self._asked_to_pause and self._held <= _HIGH_WATER // 4 and isinstance(self._protocol, asyncio.Protocol):
            self._asked_to_pause = False
            self._protocol.resume_writing()
        if not self._rest:
            if self._closing:
                self._finish()
            elif self._eof:
                self._connection.shutdown()

    def on_closed(self, reason: CloseReason) -> None:
        """See `Handler`."""
        if self._lost:
            return
        if reason is CloseReason.CLOSED:
            self._over = True
            if self._closing:
                self._lose(None)
            else:
                self._deliver()
            return
        try:
            fail(reason)
        except OSError as failure:
            self._lose(failure)

    # Inside

    def _deliver(self) -> None:
        stream = self._connection.stream
        while not (self._paused or self._closing or self._lost) and stream.waiting:
            self._received(stream.receive(_HIGH_WATER))
        if stream.at_end and not (self._ended or self._paused or self._closing or self._lost):
            self._ended = True
            if isinstance(self._protocol, asyncio.Protocol) and not self._protocol.eof_received():
                self.close()
        if self._over and self._ended and not self._lost:
            self._lose(None)

    def _received(self, data: bytes) -> None:
        match self._protocol:
            case asyncio.Protocol() as protocol:
                protocol.data_received(data)
            case asyncio.BufferedProtocol() as buffered:
                view = memoryview(data)
                while len(view):
                    buffer = memoryview(buffered.get_buffer(len(view)))
                    count = min(len(view), len(buffer))
                    buffer[:count] = view[:count]
                    buffered.buffer_updated(count)
                    view = view[count:]

    def _finish(self) -> None:
        if not self._lost:
            self._connection.close()
            self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        self._lost = True
        self._closing = True
        self._rest.clear()
        self._held = 0
        self._loop.call_soon(self._protocol.connection_lost, error)
