"""Loss detection by the times at which segments were sent (RFC 8985 section 6).

Something sent well before something that has arrived is lost; how much earlier is the reordering window. It is zero
until the path is seen to reorder, then a quarter of the minimum round-trip time, and widens each time the peer tells by
a DSACK that something was sent again in vain.
"""

from __future__ import annotations

from ikeclient.stack.tcp.rtt import RoundTrip
from ikeclient.stack.tcp.scoreboard import Scoreboard, Sent

_DUPLICATES = 3  # DupThresh
_GRANULE = 0.001  # seconds to wait at least, so that the clock has moved on when it is looked at again
_PERSIST = 16  # recoveries that a wider window is kept for


class Rack:
    """The latest sent of what has arrived, and the reordering window."""

    __slots__ = ("_at", "_dsack_round", "_end", "_highest", "_multiplier", "_persist", "_rtt", "reordered")

    def __init__(self) -> None:
        self._at = self._rtt = 0.0
        self._end = self._highest = 0
        self.reordered = False
        self._multiplier = 1
        self._persist = 0
        self._dsack_round: int | None = None

    def arrived(self, record: Sent, end: int, now: float, minimum: float) -> float | None:
        """This record has arrived up to `end`; the round-trip time if it is plain (steps 1 to 3)."""
        rtt = now - record.at
        if record.again:
            # It may be the first transmission that arrived only now.
            if rtt < minimum:
                return None
        elif end < self._highest:
            self.reordered = True
        if end > self._highest:
            self._highest = end
        at = record.at
        if at > self._at or (at == self._at and end > self._end):
            self._at, self._end, self._rtt = at, end, rtt
        return None if record.again else rtt

    def duplicate(self, acknowledged: int, next_position: int) -> None:
        """The peer got something twice: widen the window, once a round trip (step 4)."""
        if self._dsack_round is None or acknowledged >= self._dsack_round:
            self._dsack_round = next_position
            self._multiplier += 1
            self._persist = _PERSIST

    def recovered(self) -> None:
        """A recovery has ended."""
        self._persist -= 1
        if self._persist <= 0:
            self._multiplier = 1

    def _window(self, board: Scoreboard, trip: RoundTrip, recovering: bool, size: int) -> float:
        if not self.reordered and (recovering or board.sacked >= _DUPLICATES * size):
            return 0.0
        return min(self._multiplier * trip.minimum / 4, trip.smoothed)

    def detect(
        self, board: Scoreboard, trip: RoundTrip, now: float, *, recovering: bool, size: int
    ) -> tuple[bool, float]:
        """Mark what is lost; whether anything is, and in how many seconds to look again, 0 for never (step 5)."""
        window = self._window(board, trip, recovering, size)
        at, end, limit = self._at, self._end, now - self._rtt - window
        lost, again = False, 0.0
        for record in board.records:
            if record.sacked or record.lost or record.at > at or (record.at == at and record.end > end):
                if not record.again and record.at > at:
                    break  # so was everything behind it
                continue
            if record.at <= limit:
                board.lose(record)
                lost = True
            else:
                again = max(again, record.at - limit, _GRANULE)
        return lost, again
