"""The window during a recovery, and the way back if it was unnecessary.

- `Reduction`: proportional rate reduction (RFC 9937): what is sent follows what arrives, so that the window shrinks
  over a round trip instead of at once.
- `Undo`: a recovery proves unnecessary when everything that was sent again in it is reported as a duplicate
  (RFC 3708), or when an acknowledgement of it echoes a timestamp from before it was sent again (RFC 3522).
"""

from __future__ import annotations

from ikeclient.stack.tcp.cubic import Before

_GRANULE = 0.001  # of timestamps


class Reduction:
    """Proportional rate reduction from `flight` bytes down to `target`."""

    __slots__ = ("_delivered", "_flight", "_out", "_target")

    def __init__(self, flight: int, target: int) -> None:
        self._flight, self._target = max(flight, 1), target
        self._delivered = self._out = 0

    def sent(self, size: int) -> None:
        """So many bytes were sent."""
        self._out += size

    def window(self, pipe: int, delivered: int, mss: int, *, safe: bool) -> int:
        """The window after so many bytes were delivered; `safe` if nothing more was found lost."""
        self._delivered += delivered
        if pipe > self._target:
            allowed = -(-self._delivered * self._target // self._flight) - self._out
        else:
            allowed = max(self._delivered - self._out, delivered)
            if safe:
                allowed += mss
            allowed = min(self._target - pipe, allowed)
        if not self._out:
            allowed = max(allowed, mss)  # the first segment is sent again whatever the figures say
        return pipe + max(allowed, 0)


class Undo:
    """One recovery: what to return to, where it began, and what was sent again in it."""

    __slots__ = ("_again", "_first", "_sent", "before", "start")

    def __init__(self, before: Before, start: int) -> None:
        self.before = before
        self.start = start
        self._again = 0  # bytes sent again and not reported as duplicates
        self._sent = False
        self._first = 0.0

    def sent_again(self, size: int, now: float) -> None:
        """Something was sent again."""
        if not self._sent:
            self._sent, self._first = True, now
        self._again += size

    def duplicate(self, start: int, end: int) -> bool:
        """The peer got this twice; whether everything was in vain."""
        if self._sent and start >= self.start:
            self._again -= end - start
            return self._again <= 0
        return False

    def echoed(self, at: float) -> bool:
        """What was sent again was acknowledged, with an echo of the time `at`; whether the first had arrived."""
        return self._sent and at < self._first - _GRANULE
