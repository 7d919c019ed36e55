"""What each of the connections that carry much at the moment may have under way, so that together they fill no queue.

On a short path a queue holds nearly all that is under way, and what one connection may have fills it. It gets no faster
by more, but overflows: a device's queue, a socket's buffer. So connections share what one alone may have. Where nothing
waits in queues, a long path holds more, and each may have what its path holds in any case.
"""

from __future__ import annotations

SMALLEST, LARGEST = 64 * 1024, 8 * 1024 * 1024
_PERIOD = 1.0  # seconds: who has carried much in this one or the last one is counted


class Shares:
    """Counts the connections that carry much in one direction."""

    __slots__ = ("_active", "_before", "_period", "_until")

    def __init__(self) -> None:
        self._active = self._before = 0  # how many, in this period and in the one before
        self._period, self._until = 0, 0.0

    def share(self, counted: int, now: float) -> tuple[int, int]:
        """What one that carries much may have, and the period; `counted` is the last one that it was told."""
        if now >= self._until:
            self._before = self._active if now < self._until + _PERIOD else 0
            self._active = 0
            self._period += 1
            self._until = now + _PERIOD
        if counted != self._period:
            self._active += 1
        return LARGEST // max(self._active, self._before), self._period


class Share:
    """The share of one connection, which is counted when it asks for its size."""

    __slots__ = ("_counted", "_shares")

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._counted = 0  # the period

    def size(self, now: float) -> int:
        """What it may have, in bytes."""
        size, self._counted = self._shares.share(self._counted, now)
        return size
