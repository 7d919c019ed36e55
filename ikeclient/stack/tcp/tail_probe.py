"""Tail loss probes: the end of what was sent is repeated early, because nothing behind it would show its loss.

RFC 8985 section 7. One probe at a time; it is a new segment if there is one, and the last one if not.
"""

from __future__ import annotations

_SINGLE = 0.2  # seconds that the peer may delay the acknowledgement of one segment
_MARGIN = 0.002


class TailProbe:
    """`end` is SND.NXT as of the probe, None without one in flight; `again` whether the probe repeated something."""

    __slots__ = ("again", "end")

    def __init__(self) -> None:
        self.end: int | None = None
        self.again = False

    @staticmethod
    def interval(smoothed: float, *, single: bool) -> float:
        """How long to wait for an acknowledgement before it is sent (section 7.2)."""
        return 2 * smoothed + (_SINGLE if single else _MARGIN)

    def sent(self, end: int, *, again: bool) -> None:
        """It is on its way."""
        self.end, self.again = end, again

    def acknowledged(self, position: int, *, duplicate: bool, news: bool) -> bool:
        """An acknowledgement has arrived; whether the probe has repaired a loss (section 7.4.2)."""
        if self.end is None or position < self.end:
            return False
        repaired = False
        if self.again and not duplicate:
            if position == self.end and news:
                return False  # the probe itself or what it repeated: the next one tells
            repaired = position > self.end
        self.end = None
        return repaired

    def stop(self) -> None:
        """A recovery has begun."""
        self.end = None
