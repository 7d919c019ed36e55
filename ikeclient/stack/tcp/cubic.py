"""CUBIC congestion control (RFC 9438), with the HyStart++ end of slow start (RFC 9406). Sizes are bytes.

The window grows as a cubic function of the time since it was last reduced, flat around the size at which that happened;
where a Reno sender would be faster, it grows as one.
"""

from __future__ import annotations

from ikeclient.lazy_dataclass import dataclass
from ikeclient.stack.tcp.hystart import HyStart

BETA = 0.7
_C = 0.4  # segments per second cubed
_ALPHA = 3 * (1 - BETA) / (1 + BETA)  # section 4.3
INITIAL_SEGMENTS = 10  # RFC 6928
_UNLIMITED = 1 << 60


@dataclass(frozen=True, slots=True)
class Before:
    """The state before a reduction, to return to if it proves unnecessary (RFC 9438 section 4.9)."""

    window: int
    threshold: int
    maximum: float


class Cubic:
    """One connection's congestion window: `window`, and the slow start threshold."""

    __slots__ = (
        "_credit",
        "_estimate",
        "_hystart",
        "_k",
        "_maximum",
        "_origin",
        "_started",
        "mss",
        "threshold",
        "window",
    )

    def __init__(self, mss: int) -> None:
        self.mss = mss
        self.window = INITIAL_SEGMENTS * mss
        self.threshold = _UNLIMITED
        self._maximum = 0.0  # W_max
        self._k = 0.0
        self._origin = 0.0
        self._estimate = 0.0  # W_est
        self._started: float | None = None  # the epoch
        self._credit = 0.0  # growth below one byte
        self._hystart: HyStart | None = HyStart()

    def set_mss(self, mss: int) -> None:
        """The segment size has changed."""
        if self.threshold == _UNLIMITED and self.window == INITIAL_SEGMENTS * self.mss:
            self.window = INITIAL_SEGMENTS * mss
        self.mss = mss
        self.window = max(self.window, mss)

    @property
    def in_slow_start(self) -> bool:
        """Whether the window still grows exponentially."""
        return self.window < self.threshold

    def measured(self, sample: float, acknowledged: int, next_position: int) -> None:
        """A round-trip time was measured while in slow start; positions as of `Sender`."""
        hystart = self._hystart
        if hystart is None or self.window >= self.threshold:
            return
        if hystart.measure(sample, acknowledged, next_position):
            self.threshold = self.window
            self._hystart = None

    def acknowledged(self, size: int, smoothed: float, now: float) -> None:
        """So many bytes were acknowledged while the window was all in use (sections 4.2 to 4.5)."""
        window = self.window
        if window < self.threshold:
            hystart = self._hystart
            grown = size if hystart is None else hystart.growth(size)
            self.window = window = min(window + grown, max(self.threshold, window + 1))
            if window < self.threshold:
                return
            size = 0
        if self._started is None:
            self._begin(window, now)
        mss = self.mss
        elapsed = now - (self._started or 0.0)
        # W_est: as Reno, but as fast as a window that is reduced by less may grow (section 4.3).
        self._estimate += (1.0 if self._estimate >= self._maximum else _ALPHA) * mss * size / window
        distance = elapsed + smoothed - self._k
        target = self._origin + _C * distance * distance * distance * mss
        now_distance = elapsed - self._k
        if self._origin + _C * now_distance * now_distance * now_distance * mss < self._estimate:
            self._credit += max(self._estimate - window, 0.0)
        else:
            target = min(max(target, window), 1.5 * window)
            self._credit += (target - window) * size / window
        whole = int(self._credit)
        self._credit -= whole
        self.window = window + whole

    def _begin(self, window: int, now: float) -> None:
        self._started = now
        self._credit = 0.0
        self._estimate = float(window)
        if window < self._maximum:
            self._k = ((self._maximum - window) / self.mss / _C) ** (1 / 3)
            self._origin = self._maximum
        else:
            self._k, self._origin = 0.0, float(window)

    def reduce(self, in_flight: int) -> Before:
        """Data was lost, or the network told of congestion (sections 4.6, 4.7)."""
        before = Before(self.window, self.threshold, self._maximum)
        window = self.window
        if window < self._maximum:
            self._maximum = window * (1 + BETA) / 2  # fast convergence
        else:
            self._maximum = float(window)
        self.threshold = max(int(min(window, max(in_flight, window // 2)) * BETA), 2 * self.mss)
        self.window = self.threshold
        self._started = None
        self._hystart = None
        return before

    def timed_out(self, in_flight: int, *, again: bool) -> Before:
        """The retransmission timer ran out, perhaps `again` for the same data (section 4.8)."""
        before = Before(self.window, self.threshold, self._maximum)
        if not again:
            self.reduce(in_flight)
        self.window = self.mss
        return before

    def follow(self, window: int) -> None:
        """The window is smaller: in a recovery as its rate reduction says, or because of queues (see `Sender`)."""
        self.window = max(window, self.mss)

    def settle(self) -> None:
        """The recovery is over."""
        self.window = max(self.threshold, self.mss)

    def undo(self, before: Before) -> None:
        """The reduction was unnecessary."""
        self.window = max(self.window, before.window)
        self.threshold = max(self.threshold, before.threshold)
        self._maximum = before.maximum
        self._started = None

    def rest(self, idle: float, timeout: float) -> None:
        """Nothing was sent for a while: what is known of the path grows old (RFC 5681 section 4.1, by halves)."""
        floor = min(self.window, INITIAL_SEGMENTS * self.mss)
        self.threshold = max(self.threshold, 3 * self.window // 4)
        halves = min(int(idle / timeout), 30)
        self.window = max(self.window >> halves, floor)
        self._started = None
