"""When an acknowledgement is due (RFC 9293 section 3.8.6.3, RFC 5681 section 4.2).

At once for two segments or more, for a gap, and for what came twice; one segment alone waits 40 ms for company. What is
due is collected as long as nobody asks: a burst of super-packets that arrives in one go is acknowledged once.
"""

from __future__ import annotations

DELAY = 0.04
_QUICK = 16  # segments at the beginning, when the sender's window is small, that are acknowledged one by one


class DelayedAck:
    """`due`: how many acknowledgements are to be sent now; `at`: when the one that waits is, or None."""

    __slots__ = ("_quick", "_segments", "at", "due")

    def __init__(self) -> None:
        self.due = 0
        self.at: float | None = None
        self._segments = 0
        self._quick = _QUICK

    def received(self, segments: int, now: float) -> None:
        """Data has arrived in order."""
        self._segments += segments
        if self._segments >= 2 or self._quick > 0:
            self._quick -= segments
            self.due = self.due or 1
        elif self.at is None:
            self.at = now + DELAY

    def at_once(self) -> None:
        """One is due now."""
        self.due = self.due or 1

    def one_more(self) -> None:
        """One of its own is due now, whatever else is: the sender counts them."""
        self.due += 1

    def expire(self, now: float) -> None:
        """The time has come for the one that waits, perhaps."""
        if self.at is not None and self.at <= now:
            self.at = None
            self.due = self.due or 1

    def sent(self) -> None:
        """An acknowledgement was sent, alone or with data."""
        if self.due:
            self.due -= 1
        self._segments = 0
        self.at = None
