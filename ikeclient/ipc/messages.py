"""The framing of messages between our processes: a length of four bytes, and one JSON object of at most so many.

What carries them is the caller's: a socket pair, or a pipe. On a pipe a frame of at most PIPE_BUF (4096) bytes is
written whole or not at all (pipe(7)), so a writer that must not wait can lose a message but never half of one.
What an object means is declared as a dataclass (`ipc.typed`).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from struct import Struct
from typing import Protocol

HEADER = Struct("=I")
LARGEST = 4 << 20  # bytes of a message

Message = Mapping[str, object]


class _Reader(Protocol):
    async def readexactly(self, size: int, /) -> bytes: ...


def pack(message: object, largest: int = LARGEST) -> bytes:
    """Return the frame of an object; raises ValueError if it is too large."""
    data = json.dumps(message).encode("ascii")
    if len(data) > largest:
        raise ValueError(f"a message of {len(data)} bytes")
    return HEADER.pack(len(data)) + data


def unpack(data: bytes) -> dict[str, object]:
    """Return the object in the part of a frame after the length; raises ValueError."""
    try:
        message = json.loads(data)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


def receive(read: Callable[[int], bytes], largest: int = LARGEST) -> dict[str, object] | None:
    """Return the next message, or None at the end; `read` returns at most so many bytes, and none at the end.

    Raises ValueError for what is no message, and what `read` raises.
    """
    header = _exactly(read, HEADER.size)
    if not header:
        return None
    return body(header, read, largest)


def body(header: bytes, read: Callable[[int], bytes], largest: int = LARGEST) -> dict[str, object]:
    """Return the message whose length was read already; otherwise as `receive`."""
    if len(header) < HEADER.size:
        raise ValueError("half a message")
    data = _exactly(read, _length(header, largest))
    return unpack(data)


async def stream(reader: _Reader, largest: int = LARGEST) -> AsyncIterator[dict[str, object]]:
    """Yield messages until the other side is gone, or sends something else."""
    try:
        while True:
            length = _length(await reader.readexactly(HEADER.size), largest)
            yield unpack(await reader.readexactly(length))
    except (EOFError, OSError, ValueError):
        return


def _length(header: bytes, largest: int) -> int:
    length: int
    (length,) = HEADER.unpack(header)
    if length > largest:
        raise ValueError(f"a message of {length} bytes")
    return length


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """Return `size` bytes, or those that come before the end."""
    data = bytearray()
    while len(data) < size and (piece := read(size - len(data))):
        data += piece
    return bytes(data)
