"""Bounded reading and writing of bytes. Truncation is detected here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ikeclient.errors import ParseError


class Reader:
    """A cursor over bytes that never reads past its end.

    Integers are big-endian. Every read raises `ParseError` when fewer bytes remain than asked for.
    """

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._end = len(data)

    @property
    def remaining(self) -> int:
        """Bytes left before the end or the current restriction."""
        return self._end - self._position

    def read(self, count: int) -> bytes:
        """Take exactly `count` bytes."""
        if not 0 <= count <= self.remaining:
            raise ParseError(f"truncated: {count} bytes needed, {self.remaining} left")
        start = self._position
        self._position += count
        return self._data[start : self._position]

    def rest(self) -> bytes:
        """Take everything that is left."""
        return self.read(self.remaining)

    def u8(self) -> int:
        """Take an 8-bit unsigned integer."""
        return self.read(1)[0]

    def u16(self) -> int:
        """Take a 16-bit unsigned integer."""
        return int.from_bytes(self.read(2), "big")

    def u32(self) -> int:
        """Take a 32-bit unsigned integer."""
        return int.from_bytes(self.read(4), "big")

    @contextmanager
    def restrict(self, count: int) -> Iterator[None]:
        """Limit reads inside the block to `count` bytes, all of which must be used."""
        if count < 0 or count > self.remaining:
            raise ParseError(f"a length of {count} where {self.remaining} bytes are left")
        outer, self._end = self._end, self._position + count
        yield
        self.finish()
        self._end = outer

    def finish(self) -> None:
        """Raise `ParseError` if anything is left unread."""
        if self.remaining:
            raise ParseError(f"{self.remaining} bytes too many")


class Writer:
    """Collects bytes; integers are big-endian and must fit (`OverflowError` is a bug in the caller)."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def write(self, data: bytes) -> None:
        """Append bytes as they are."""
        self._data += data

    def u8(self, value: int) -> None:
        """Append an 8-bit unsigned integer."""
        self._data += value.to_bytes(1, "big")

    def u16(self, value: int) -> None:
        """Append a 16-bit unsigned integer."""
        self._data += value.to_bytes(2, "big")

    def u32(self, value: int) -> None:
        """Append a 32-bit unsigned integer."""
        self._data += value.to_bytes(4, "big")

    @contextmanager
    def length_prefix(self, *, extra: int) -> Iterator[None]:
        """Write a 16-bit length in front of the block: the block's size plus `extra` bytes of header before it."""
        at = len(self._data)
        self._data += b"\0\0"
        yield
        size = len(self._data) - at - 2 + extra
        self._data[at : at + 2] = size.to_bytes(2, "big")

    def bytes(self) -> bytes:
        """Everything written so far."""
        return bytes(self._data)
