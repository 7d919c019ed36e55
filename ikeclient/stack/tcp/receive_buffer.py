"""What has arrived in order and was not read yet: the chunks that it came in, small ones collected."""

from __future__ import annotations

_SMALL = 4096
_COLLECTED = 65536
_LONG = 16384


class ReceiveBuffer:
    """Bytes in order, kept as the chunks that they came in."""

    __slots__ = ("_chunks", "_read", "size")

    def __init__(self) -> None:
        self._chunks: list[bytes | bytearray] = []
        self._read = 0  # of the first chunk
        self.size = 0

    def append(self, data: bytes | memoryview) -> None:
        """Copy data to the end."""
        size = len(data)
        self.size += size
        chunks = self._chunks
        if size < _SMALL and chunks:
            last = chunks[-1]
            if isinstance(last, bytearray) and len(last) < _COLLECTED:
                last += data
                return
        chunks.append(bytearray(data) if size < _SMALL else bytes(data))

    def read_into(self, target: memoryview) -> int:
        """Move as much as there is, or as there is room for."""
        at, room, chunks = 0, len(target), self._chunks
        done = 0
        for chunk in chunks:
            begin = self._read
            size = min(len(chunk) - begin, room - at)
            target[at : at + size] = memoryview(chunk)[begin : begin + size]
            at += size
            if begin + size < len(chunk):
                self._read = begin + size
                break
            self._read = 0
            done += 1
            if at == room:
                break
        del chunks[:done]
        self.size -= at
        return at

    def read(self, limit: int) -> bytes:
        """Move at most so many bytes out; a long chunk alone and without a copy, however much is behind it."""
        chunks = self._chunks
        first = len(chunks[0]) if chunks and not self._read else 0
        if first == self.size <= limit or _LONG <= first <= limit:
            self.size -= first
            return bytes(chunks.pop(0)) if chunks else b""
        out = bytearray(min(limit, self.size))
        self.read_into(memoryview(out))
        return bytes(out)

    def clear(self) -> None:
        """Forget everything."""
        self._chunks.clear()
        self._read = self.size = 0
