"""What must not be guessed: initial sequence numbers (RFC 6528), ports (RFC 6056) and clocks, from one secret."""

from __future__ import annotations

from hashlib import blake2s

from ikeclient.stack.interfaces import Entropy
from ikeclient.stack.tcp.sequence import MASK

FIRST_PORT, LAST_PORT = 32768, 60999  # as Linux has them
_PORTS = LAST_PORT - FIRST_PORT + 1
_TICKS = 250_000  # a second
_COUNTERS = 256


class Numbers:
    """The secret, and the counters that make ports of one destination follow each other."""

    __slots__ = ("_counters", "_secret")

    def __init__(self, entropy: Entropy) -> None:
        self._secret = entropy(32)
        self._counters = [int.from_bytes(entropy(2), "big") for _ in range(_COUNTERS)]

    def _hash(self, purpose: bytes, text: bytes) -> int:
        return int.from_bytes(blake2s(text, key=self._secret, person=purpose, digest_size=8).digest(), "big")

    def sequence(self, flow: bytes, now: float) -> int:
        """An initial sequence number: a clock, and a value of the connection's own (RFC 6528 section 3)."""
        return (int(now * _TICKS) + self._hash(b"sequence", flow)) & MASK

    def clock(self, flow: bytes) -> int:
        """Where the timestamps of a connection begin (RFC 7323 section 5.4), by its addresses."""
        return self._hash(b"clock", flow[:-4]) & MASK

    def ports(self, addresses: bytes, port: int) -> Ports:
        """Local ports to try for this destination, in order (RFC 6056 section 3.3.4, "double-hash")."""
        text = addresses + port.to_bytes(2, "big")
        return Ports(self._counters, self._hash(b"offset", text), self._hash(b"table", text) % _COUNTERS)


class Ports:
    """An iterator over every port once."""

    __slots__ = ("_counters", "_index", "_left", "_offset")

    def __init__(self, counters: list[int], offset: int, index: int) -> None:
        self._counters, self._offset, self._index = counters, offset, index
        self._left = _PORTS

    def __iter__(self) -> Ports:
        return self

    def __next__(self) -> int:
        if not self._left:
            raise StopIteration
        self._left -= 1
        self._counters[self._index] += 1
        return FIRST_PORT + (self._offset + self._counters[self._index]) % _PORTS
