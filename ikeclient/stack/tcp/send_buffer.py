"""What is to be sent, and what was sent until it is acknowledged: chunks that are kept by reference.

Small pieces are collected into a chunk of our own, so that a program that writes a byte at a time costs no object each.
"""

from __future__ import annotations

from bisect import bisect_right

_SMALL = 4096
_COLLECTED = 65536

Chunk = bytes | bytearray | memoryview


class SendBuffer:
    """The bytes from `start` to `end`, both positions in the stream."""

    __slots__ = ("_chunks", "_starts", "end", "start")

    def __init__(self, position: int) -> None:
        self._chunks: list[Chunk] = []
        self._starts: list[int] = []  # of the chunks
        self.start = self.end = position

    def append(self, data: Chunk) -> None:
        """Add data at the end. What is not `bytes` must never change."""
        size = len(data)
        if not size:
            return
        chunks = self._chunks
        if size < _SMALL:
            last = chunks[-1] if chunks else None
            if type(last) is _Collected and len(last) + size <= _COLLECTED:
                last += data
                self.end += size
                return
            data = _Collected(data)
        self._starts.append(self.end)
        chunks.append(data)
        self.end += size

    def release(self, position: int) -> None:
        """Forget what lies before the position."""
        self.start = min(position, self.end)
        starts = self._starts
        if position >= self.end:
            self._chunks.clear()
            starts.clear()
        elif len(starts) > 1 and position >= starts[1]:
            done = bisect_right(starts, position) - 1
            del starts[:done]
            del self._chunks[:done]

    def clear(self) -> None:
        """Forget everything."""
        self._chunks.clear()
        self._starts.clear()
        self.start = self.end

    def copy(self, target: memoryview, at: int, position: int, length: int) -> None:
        """Copy `length` bytes from the position on into `target`, to the place `at`."""
        index = bisect_right(self._starts, position) - 1
        begin = position - self._starts[index]
        while length:
            chunk = self._chunks[index]
            size = min(len(chunk) - begin, length)
            target[at : at + size] = memoryview(chunk)[begin : begin + size]
            at += size
            length -= size
            index += 1
            begin = 0


class _Collected(bytearray):
    """A chunk that may still grow, unlike one that the user gave."""

    __slots__ = ()
