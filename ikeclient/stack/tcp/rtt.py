"""The round-trip time and the retransmission timeout (RFC 6298).

The timeout never comes closer than 200 ms to the smoothed round-trip time: the peer may delay an acknowledgement for
almost that long. RFC 6298 wants a whole second in total, which no system in use waits for.
"""

from __future__ import annotations

INITIAL = 1.0
SLACK = 0.2
MAXIMUM = 60.0
_FORGET = 300.0  # seconds after which a minimum may have become larger (RFC 8985 section 6.2 step 1)


class RoundTrip:
    """What was measured, in seconds. `smoothed` and `minimum` are 0 before the first measurement."""

    __slots__ = ("_minimum_at", "_variance", "latest", "minimum", "smoothed", "timeout")

    def __init__(self) -> None:
        self.smoothed = self._variance = self.minimum = self._minimum_at = self.latest = 0.0
        self.timeout = INITIAL

    def measure(self, sample: float, now: float) -> None:
        """Take one measurement (section 2.2, 2.3)."""
        sample = max(sample, 1e-6)
        self.latest = sample
        if sample <= self.minimum or not self.minimum or now - self._minimum_at > _FORGET:
            self.minimum, self._minimum_at = sample, now
        if self.smoothed:
            error = sample - self.smoothed
            self.smoothed += error / 8
            self._variance += (abs(error) - self._variance) / 4
        else:
            self.smoothed, self._variance = sample, sample / 2
        timeout = self.smoothed + max(4 * self._variance, SLACK)
        self.timeout = timeout if timeout < MAXIMUM else MAXIMUM
