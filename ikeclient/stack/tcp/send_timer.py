"""The one timer of the sending half, and what it stands for at the moment."""

from __future__ import annotations

from enum import Enum, auto

from ikeclient.stack.tcp.rtt import MAXIMUM, RoundTrip

MOST_BACKOFFS = 15  # about a quarter of an hour, as systems in use have it; RFC 9293 section 3.8.3 wants 100 s at least


class Kind(Enum):
    """What happens when it runs out."""

    NONE = auto()
    RETRANSMIT = auto()  # RFC 6298
    PROBE = auto()  # tail loss probe, RFC 8985 section 7
    REORDER = auto()  # RFC 8985 section 6.2 step 5
    PERSIST = auto()  # window probe, RFC 9293 section 3.8.6.1


class SendTimer:
    """`at` is None while `kind` is NONE. `backoffs` counts the times it ran out without an answer."""

    __slots__ = ("at", "backoffs", "kind")

    def __init__(self) -> None:
        self.at: float | None = None
        self.kind = Kind.NONE
        self.backoffs = 0

    def stop(self) -> None:
        """Nothing is waited for."""
        self.at, self.kind = None, Kind.NONE

    def start(self, kind: Kind, at: float) -> None:
        """Begin anew."""
        self.at, self.kind = at, kind

    def back_off(self) -> bool:
        """Wait twice as long from now on; false if it was tried often enough."""
        self.backoffs += 1
        return self.backoffs <= MOST_BACKOFFS

    def answered(self) -> None:
        """The peer has acknowledged something new."""
        self.backoffs = 0

    def interval(self, trip: RoundTrip) -> float:
        """The retransmission timeout, backed off (RFC 6298 section 5.5)."""
        return min(trip.timeout * (1 << min(self.backoffs, MOST_BACKOFFS)), MAXIMUM)
