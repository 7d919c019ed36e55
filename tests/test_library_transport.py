"""A connection of the stack as a transport of asyncio: what arrives reaches the protocol whole, whenever it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ikeclient.library.transport import StackTransport
from ikeclient.stack.interfaces import CloseReason

LIMIT = 1000


class Peer:
    """The stack's end of a connection, and who sends through it."""

    peer, own = ("10.99.0.1", 80), ("10.88.0.1", 40000)
    closed = None

    def __init__(self) -> None:
        self.stream: Any = self
        self.kept = bytearray()
        self.ended = self.shut = False
        self.handler: Any = None

    def handle(self, handler: Any) -> None:
        self.handler = handler

    @property
    def waiting(self) -> int:
        return len(self.kept)

    @property
    def at_end(self) -> bool:
        return self.ended and not self.kept

    def receive(self, limit: int) -> bytes:
        taken = bytes(self.kept[:limit])
        del self.kept[:limit]
        return taken

    def send(self, data: bytes) -> int:
        return len(data)

    def shutdown(self) -> None:
        self.shut = True

    def close(self) -> None: ...

    def arrives(self, data: bytes) -> None:
        taken = 0 if self.kept else self.handler.on_data(memoryview(data))
        self.kept += data[taken:]

    def ends(self) -> None:
        """FIN, when ours was acknowledged before: the connection is over at once."""
        self.ended = True
        self.handler.on_end()
        self.handler.on_closed(CloseReason.CLOSED)


async def joined() -> tuple[Peer, asyncio.StreamReader, StackTransport]:
    peer, reader = Peer(), asyncio.StreamReader(limit=LIMIT)
    transport = StackTransport(peer, asyncio.StreamReaderProtocol(reader))  # type: ignore[arg-type]
    transport.write_eof()
    return peer, reader, transport


@pytest.mark.parametrize("pieces", [1, 2, 30])
def test_what_waits_when_both_ends_have_finished_is_read_whole(pieces: int) -> None:
    """The reader is slower than the peer and has the transport paused when the last of it comes."""

    async def main() -> None:
        peer, reader, transport = await joined()
        sent = bytes(range(256)) * 10
        for _ in range(pieces):
            peer.arrives(sent)
        peer.ends()
        assert await asyncio.wait_for(reader.read(), 5) == sent * pieces
        assert transport.is_closing()

    asyncio.run(main())


def test_an_end_without_anything_that_waits_is_told_at_once() -> None:
    async def main() -> None:
        peer, reader, transport = await joined()
        peer.arrives(b"short")
        peer.ends()
        assert await asyncio.wait_for(reader.read(), 5) == b"short"
        assert transport.is_closing()

    asyncio.run(main())


def test_a_reset_is_an_error_and_no_end() -> None:
    async def main() -> None:
        peer, reader, _ = await joined()
        peer.arrives(b"a part")
        peer.handler.on_closed(CloseReason.RESET)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)

    asyncio.run(main())
