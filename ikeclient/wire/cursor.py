"""Bounded reading and writing of bytes. Truncation is detected here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ikeclient.errors import ParseError

MAX_STRUCTURES = 1 << 16  # as many as there are bytes in a message


class Reader:
    """A cursor over bytes that never reads past its end.

    Integers are big-endian. Every read raises `ParseError` when fewer bytes remain than asked for. `structures` is how
    many structures of variable number (payloads, transforms, attributes, SPIs ...) may be read: the bound on what a
    message costs that anybody may have sent, since its bytes alone would allow for thousands.
    """

    __slots__ = ("_data", "_end", "_position", "_structures")

    def __init__(self, data: bytes, structures: int = MAX_STRUCTURES) -> None:
        self._data = data
        self._position = 0
        self._end = len(data)
        self._structures = structures

    @property
    def remaining(self) -> int:
        """Bytes left before the end or the current restriction."""
        return self._end - self._position

    def read(self, count: int) -> bytes:
        """Take exactly `count` bytes."""
        start = self._position
        end = start + count
        if not start <= end <= self._end:
            raise ParseError(f"truncated: {count} bytes needed, {self.remaining} left")
        self._position = end
        return self._data[start:end]

    def rest(self) -> bytes:
        """Take everything that is left."""
        return self.read(self.remaining)

    def u8(self) -> int:
        """Take an 8-bit unsigned integer."""
        at = self._position
        if at >= self._end:
            raise ParseError("truncated: 1 bytes needed, 0 left")
        self._position = at + 1
        return self._data[at]

    def u16(self) -> int:
        """Take a 16-bit unsigned integer."""
        high = self._position
        if high + 1 >= self._end:
            raise ParseError(f"truncated: 2 bytes needed, {self.remaining} left")
        self._position = high + 2
        return self._data[high] << 8 | self._data[high + 1]

    def u32(self) -> int:
        """Take a 32-bit unsigned integer."""
        return int.from_bytes(self.read(4), "big")

    def spend(self, structures: int) -> None:
        """Count that many structures, which are about to be read."""
        self._structures -= structures
        if self._structures < 0:
            raise ParseError("more structures than are accepted here")

    def restrict(self, count: int) -> Restriction:
        """Limit reads inside the block to `count` bytes, all of which must be used; counts as a structure."""
        self.spend(1)
        if count < 0 or count > self.remaining:
            raise ParseError(f"a length of {count} where {self.remaining} bytes are left")
        outer, self._end = self._end, self._position + count
        return Restriction(self, outer)

    def widen(self, end: int) -> None:
        """Leave a restriction, everything inside which must have been read."""
        self.finish()
        self._end = end

    def finish(self) -> None:
        """Raise `ParseError` if anything is left unread."""
        if self.remaining:
            raise ParseError(f"{self.remaining} bytes too many")


class Restriction:
    """The block of `Reader.restrict`. A class, because a generator costs as much as what it reads."""

    __slots__ = ("_outer", "_reader")

    def __init__(self, reader: Reader, outer: int) -> None:
        self._reader, self._outer = reader, outer

    def __enter__(self) -> None:
        """The restriction holds since it was made."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._reader.widen(self._outer)


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
