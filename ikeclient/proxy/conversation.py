"""One client before bytes flow: its socket, what it has sent so far, and the ways to answer and to part."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TypeVar

from ikeclient.errors import ParseError
from ikeclient.proxy.peers import Peer

T = TypeVar("T")
_READ = 4096
_DISCARDED = 1 << 20  # bytes that a refused client may still send while it reads why


class Gone(Exception):
    """The client left in the middle of a message."""


class Conversation:
    """A connected, non-blocking socket of a client; `pending` is what was read and not understood yet.

    `peer` is who the client is, and `requested` is to be called when its request is complete.
    """

    def __init__(
        self, connection: socket.socket, peer: Peer = "", requested: Callable[[], None] = lambda: None
    ) -> None:
        self.socket = connection
        self.peer = peer
        self.requested = requested
        self.pending = b""
        self._loop = asyncio.get_running_loop()

    async def read(self, parse: Callable[[bytes], tuple[T, int] | None], longest: int) -> T:
        """The next message. Raises what `parse` raises, ParseError for one that is too long, Gone, and OSError."""
        while (found := parse(self.pending)) is None:
            if len(self.pending) > longest:
                raise ParseError("too long")
            received = await self._loop.sock_recv(self.socket, _READ)
            if not received:
                raise Gone
            self.pending += received
        message, length = found
        self.pending = self.pending[length:]
        return message

    def take(self) -> bytes:
        """Return what was read and not understood; it is the caller's from now on."""
        taken, self.pending = self.pending, b""
        return taken

    def put_back(self, data: bytes) -> None:
        """Let `data` be what is read next."""
        self.pending = data + self.pending

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self._loop.sock_sendall(self.socket, data)

    async def until_closed(self) -> None:
        """Throw away what comes until the client closes its side."""
        with contextlib.suppress(OSError):
            while await self._loop.sock_recv(self.socket, _READ):
                pass

    async def part(self, patience: float) -> None:
        """Say no more, and wait a moment for the client to close.

        Closing at once while something unread waits would make the kernel send RST, which takes our last words away.
        """
        with contextlib.suppress(OSError, TimeoutError):
            self.socket.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(patience):
                for _ in range(_DISCARDED // _READ):
                    if not await self._loop.sock_recv(self.socket, _READ):
                        break
