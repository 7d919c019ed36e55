"""How a connection is opened: our SYN, the peer's, and what both agree on (RFC 9293 section 3.5, RFC 7323, RFC 2018).

Our offer is always the same: window scale, timestamps, selective acknowledgements and ECN. What the peer's SYN does not
have is not used. A SYN that got no answer is repeated without ECN, since a few paths lose such SYNs (RFC 3168 section
6.1.1.1).
"""

from __future__ import annotations

from ikeclient.stack.tcp.options import TIMESTAMPS_LENGTH, Options, of_syn
from ikeclient.stack.tcp.rtt import RoundTrip
from ikeclient.stack.tcp.segment import CWR, ECE, Segment
from ikeclient.stack.tcp.window import LARGEST_FIELD, SCALE

SMALLEST_MSS = 64
_RETRIES = 6


class Handshake:
    """`iss` is our initial sequence number, `position` the peer's; `passive` whether a listener began it."""

    __slots__ = (
        "_agreed",
        "_sent_at",
        "_tries",
        "at",
        "ecn",
        "iss",
        "mss",
        "passive",
        "peer_window",
        "position",
    )

    def __init__(self, iss: int, mss: int, *, passive: bool) -> None:
        self.iss = iss
        self.position = 0
        self.mss = mss
        self.passive = passive
        self.ecn = False
        self.at: float | None = None  # when the SYN is sent again; None: now
        self.peer_window = 0
        self._tries = 0
        self._sent_at = 0.0
        self._agreed: Options | None = None

    @property
    def due(self) -> bool:
        """Whether our SYN is to be sent now."""
        return self.at is None

    @property
    def selective(self) -> bool:
        """Whether both ends can acknowledge selectively."""
        return self._agreed is not None and self._agreed.sack_permitted

    @property
    def stamped(self) -> bool:
        """Whether both ends send timestamps."""
        return self._agreed is None or self._agreed.timestamps is not None

    @property
    def scales(self) -> tuple[int, int]:
        """The peer's window scale and ours."""
        if self._agreed is None or self._agreed.scale is None:
            return 0, 0
        return self._agreed.scale, SCALE

    def segment_size(self, fallback: int) -> int:
        """How much data a segment to the peer has: what both ends and the path can take."""
        theirs = self._agreed.mss if self._agreed is not None else None
        size = min(self.mss, max(theirs or fallback, SMALLEST_MSS))
        return size - (TIMESTAMPS_LENGTH if self.stamped else 0)

    def heard(self, segment: Segment) -> None:
        """The peer's SYN, which may be an answer to ours."""
        self._agreed = segment.options
        self.position = segment.sequence
        self.peer_window = segment.window
        wanted = ECE if self.answering(segment) else ECE | CWR
        self.ecn = segment.flags & (ECE | CWR) == wanted and (self.passive or self._tries <= 1)

    def answering(self, segment: Segment) -> bool:
        """Whether the peer's SYN answers ours."""
        return not self.passive and bool(segment.flags & 0x10)

    def flags(self) -> int:
        """The ECN flags of our SYN."""
        if self._agreed is not None:
            return ECE if self.ecn else 0
        return 0 if self._tries else ECE | CWR

    def options(self, timestamps: tuple[int, int]) -> bytes:
        """The options of our SYN."""
        agreed = self._agreed
        if agreed is None:
            return of_syn(self.mss, SCALE, True, timestamps)
        return of_syn(
            self.mss,
            None if agreed.scale is None else SCALE,
            agreed.sack_permitted,
            timestamps if agreed.timestamps is not None else None,
        )

    def window(self, capacity: int) -> int:
        """The window field of our SYN, which is not scaled."""
        return min(capacity, LARGEST_FIELD)

    def sent(self, now: float) -> None:
        """Our SYN is on its way; the next one is due later each time."""
        if not self._tries:
            self._sent_at = now
        self.at = now + (1 << self._tries)
        self._tries += 1

    def expire(self) -> bool:
        """Our SYN has got no answer: send it again; false if that was done often enough."""
        self.at = None
        return self._tries <= _RETRIES

    def repeat(self) -> None:
        """The peer has not got our SYN: send it now."""
        self.at = None

    def measure(self, trip: RoundTrip, now: float) -> None:
        """Our SYN was answered: the first round-trip time, if it is plain which one (RFC 6298 section 5.7)."""
        if self._tries == 1:
            trip.measure(now - self._sent_at, now)
