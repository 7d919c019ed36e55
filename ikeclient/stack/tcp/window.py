"""The receive window: how much may arrive, and how that grows with what the user reads.

The window begins small, because most connections never need more. It doubles if a fourth of it was read in one round
trip: a sender may double what it sends in each, and one more passes until it hears of a larger window. Two bounds keep
windows from filling queues on the way, which carries nothing faster and ends in losses:

- Those that carry much at the moment share what one alone may have, however many they are. A share is of whole
  super-packets, because a rest would travel as a packet of its own each time, which costs as much as a long one.
- A long path holds more: twice what arrives in its shortest round trip does not wait in queues.

What all windows have grown by together is bounded, too: peers with many connections whose users stop reading could
otherwise fill the memory.
"""

from __future__ import annotations

from ikeclient.stack.interfaces import MOST_SEGMENTS
from ikeclient.stack.tcp.shares import LARGEST, SMALLEST, Share, Shares

SCALE = 8  # LARGEST fits into 16 bits
LARGEST_FIELD = 0xFFFF
TOGETHER = 128 * 1024 * 1024
_AHEAD = 4  # times what was read in a round trip
_SUPER_PACKET = 59_400  # bytes of data at the most, so that those of a peer behind a device of ours are not shorter


class WindowBudget:
    """What the windows of all connections may be together, in bytes, and `shares` of those that carry much."""

    __slots__ = ("_left", "shares")

    def __init__(self, size: int = TOGETHER) -> None:
        self._left = size
        self.shares = Shares()

    def take(self, size: int) -> bool:
        """Whether there was so much left to grow by; then it is taken."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """A window has shrunk, or one that had grown is no more."""
        self._left += size


class WindowTuner:
    """The capacity of a connection's receive buffer, in bytes; the budget has its growth back when it is gone.

    `size` is the data in a full segment; 0 if that is not known yet.
    """

    __slots__ = ("_budget", "_held", "_least", "_mark", "_read", "_share", "_super_packet", "_trip", "capacity")

    def __init__(self, budget: WindowBudget, size: int) -> None:
        self.capacity = self._held = SMALLEST  # what the budget knows, which is more while a window shrinks
        self._budget = budget
        self._super_packet = max(min(_SUPER_PACKET // size, MOST_SEGMENTS), 1) * size if size else 1
        self._share = Share(budget.shares)
        self._read = 0  # since the mark
        self._mark = 0.0
        self._trip = self._least = 0.0  # the round-trip time as a receiver sees it, and the shortest; 0: not known

    def is_due(self, now: float) -> bool:
        """Whether a round trip is over, which one more measurement is for."""
        return now - self._mark >= self._trip

    def measure(self, sample: float) -> None:
        """A round-trip time: of an acknowledgement and the data that it let go (by timestamps)."""
        if not self._trip:
            self._trip = self._least = sample
        else:
            self._trip += (sample - self._trip) / 8
            self._least = min(self._least, sample)

    def read(self, size: int) -> None:
        """The user has taken so many bytes."""
        self._read += size

    def look(self, now: float, promised: int) -> None:
        """Data has arrived: fit the window if it is time and there is reason to. The peer was `promised` so much."""
        elapsed = now - self._mark
        if elapsed >= self._trip:
            if self._read * _AHEAD > SMALLEST:
                self._fit(elapsed, now)
                self._settle(promised)
            self._read, self._mark = 0, now

    def _fit(self, elapsed: float, now: float) -> None:
        read, capacity = self._read, self.capacity
        share = self._share.size(now)
        if share < LARGEST:
            share -= share % self._super_packet
        path = int(2 * read * self._least / elapsed) if elapsed else 0
        bound = min(max(share, path, SMALLEST), LARGEST)
        if capacity > bound:
            self.capacity = max(bound, capacity // 2)  # half, because one round trip may tell little of the path
        elif read * _AHEAD > capacity and elapsed < 4 * self._trip + 0.01:
            larger = min(capacity * 2, bound)
            if larger <= self._held or self._budget.take(larger - self._held):
                self.capacity = larger
                self._held = max(self._held, larger)

    def _settle(self, promised: int) -> None:
        """Give back what neither the window nor a promise needs any more."""
        held = max(self.capacity, min(promised, self._held))
        if held < self._held:
            self._budget.give_back(self._held - held)
            self._held = held

    def __del__(self) -> None:
        """Give back what was taken: with the tuner the buffer is gone, too."""
        if self._held > SMALLEST:
            self._budget.give_back(self._held - SMALLEST)
