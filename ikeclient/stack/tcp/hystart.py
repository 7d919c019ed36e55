"""HyStart++: leave slow start when the round-trip time grows, before data is lost (RFC 9406)."""

from __future__ import annotations

_MINIMUM, _MAXIMUM = 0.004, 0.016  # MIN_RTT_THRESH, MAX_RTT_THRESH
_SAMPLES = 8
_GROWTH_DIVISOR = 4
_ROUNDS = 5
_NEVER = float("inf")


class HyStart:
    """The rounds of slow start, each as long as what was in flight when it began."""

    __slots__ = ("_baseline", "_current", "_end", "_last", "_rounds", "_samples")

    def __init__(self) -> None:
        self._end = -1  # of the round
        self._last = self._current = _NEVER
        self._samples = 0
        self._baseline = _NEVER  # in conservative slow start: the round-trip time at which it began
        self._rounds = 0

    def measure(self, sample: float, acknowledged: int, next_position: int) -> bool:
        """Take a measurement; whether slow start is over (section 4.2)."""
        if acknowledged > self._end:
            self._end = next_position
            self._last, self._current, self._samples = self._current, _NEVER, 0
            if self._baseline < _NEVER:
                self._rounds += 1
                if self._rounds >= _ROUNDS:
                    return True
        self._samples += 1
        if sample < self._current:
            self._current = sample
        if self._samples >= _SAMPLES and self._current < _NEVER:
            if self._baseline < _NEVER:
                if self._current < self._baseline:
                    self._baseline, self._rounds = _NEVER, 0
            elif self._last < _NEVER:
                threshold = max(_MINIMUM, min(self._last / 8, _MAXIMUM))
                if self._current >= self._last + threshold:
                    self._baseline, self._rounds = self._current, 0
        return False

    def growth(self, size: int) -> int:
        """How much the window grows for so many bytes acknowledged."""
        return size // _GROWTH_DIVISOR if self._baseline < _NEVER else size
