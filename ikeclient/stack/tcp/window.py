"""The receive window: how much may arrive, and how that grows with what the user reads.

The window begins small, because most connections never need more. If in one round trip more than half of it was
read, the sender may have been held up by it, and it doubles. What all windows have grown by together is bounded: peers
with many connections whose users stop reading could otherwise fill the memory.
"""

from __future__ import annotations

SMALLEST, LARGEST = 256 * 1024, 8 * 1024 * 1024
SCALE = 8  # LARGEST fits into 16 bits
LARGEST_FIELD = 0xFFFF
TOGETHER = 128 * 1024 * 1024


class WindowBudget:
    """What the windows of all connections may grow by together, in bytes."""

    __slots__ = ("_left",)

    def __init__(self, size: int = TOGETHER) -> None:
        self._left = size

    def take(self, size: int) -> bool:
        """Whether there was so much left; then it is taken."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """A window that had grown is no more."""
        self._left += size


class WindowTuner:
    """The capacity of a connection's receive buffer, in bytes; the budget has its growth back when it is gone."""

    __slots__ = ("_budget", "_mark", "_read", "_trip", "capacity")

    def __init__(self, budget: WindowBudget) -> None:
        self.capacity = SMALLEST
        self._budget = budget
        self._read = 0  # since the mark
        self._mark = 0.0
        self._trip = 0.0  # the round-trip time as a receiver sees it; 0: not known

    def is_due(self, now: float) -> bool:
        """Whether a round trip is over, which one more measurement is for."""
        return now - self._mark >= self._trip

    def measure(self, sample: float) -> None:
        """A round-trip time: of an acknowledgement and the data that it let go (by timestamps)."""
        trip = self._trip
        self._trip = sample if not trip else trip + (sample - trip) / 8

    def read(self, size: int) -> None:
        """The user has taken so many bytes."""
        self._read += size

    def look(self, now: float) -> None:
        """Data has arrived: grow if it is time and there is reason to."""
        elapsed = now - self._mark
        if elapsed >= self._trip:
            if self._read * 2 > self.capacity < LARGEST and elapsed < 4 * self._trip + 0.01:
                capacity = min(max(self.capacity, self._read) * 2, LARGEST)
                if self._budget.take(capacity - self.capacity):
                    self.capacity = capacity
            self._read, self._mark = 0, now

    def __del__(self) -> None:
        """Give back what was taken: with the tuner the buffer is gone, too."""
        if self.capacity > SMALLEST:
            self._budget.give_back(self.capacity - SMALLEST)
