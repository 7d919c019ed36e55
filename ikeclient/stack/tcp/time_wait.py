"""What is left of a connection that we have closed first: it answers what the peer sends again (RFC 9293 section 3.6).

RFC 6191 lets a new SYN between the same ports through if its timestamp, or else its sequence number, is later.
"""

from __future__ import annotations

from ikeclient.stack.tcp.frame import Flow
from ikeclient.stack.tcp.options import of_segment
from ikeclient.stack.tcp.outgoing import Outgoing
from ikeclient.stack.tcp.segment import ACK, FIN, RST, SYN, Segment
from ikeclient.stack.tcp.sequence import MASK, is_before
from ikeclient.stack.tcp.services import Services
from ikeclient.stack.tcp.timestamps import Timestamps

_WINDOW = 0xFFFF  # there is nothing to come; a closed one would be odd
LENGTH = 60.0  # twice the longest life of a segment, as systems in use have it


class TimeWait:
    """One such connection; `until` is its end."""

    queued = True
    __slots__ = ("_due", "_expected", "_following", "_out", "_services", "_stamps", "flow", "until")

    def __init__(
        self, flow: Flow, following: int, expected: int, stamps: Timestamps | None, services: Services, until: float
    ) -> None:
        self.flow = flow
        self.until = until
        self._following = following & MASK
        self._expected = expected & MASK
        self._stamps = stamps
        self._services = services
        self._out = Outgoing()
        self._due = False

    def acknowledge(self) -> None:
        """Acknowledge the peer's FIN."""
        self._due = True
        if self._out.enqueue():
            self._services.outlet.ready(self)

    def admits(self, segment: Segment) -> bool:
        """Whether this SYN begins a new connection."""
        if segment.flags & (SYN | ACK | RST) != SYN:
            return False
        if self._stamps is not None and segment.stamped:
            return is_before(self._stamps.recent, segment.value_and_echo[0])
        return is_before(self._expected, segment.sequence)

    def arrive(self, segment: Segment, now: float) -> bool:
        """Take a segment; whether all is over."""
        flags = segment.flags
        if flags & RST:
            return segment.sequence == self._expected
        if flags & FIN and segment.sequence + segment.length & MASK == self._expected:
            self.until = now + LENGTH
            self.acknowledge()
        elif (segment.length or flags & SYN or segment.sequence != self._expected) and self._out.may_challenge(now):
            self.acknowledge()
        return False

    def fill(self, frame: memoryview, now: float) -> int:
        """Write the acknowledgement; see `stack.interfaces.Sends`."""
        if not self._due:
            self._out.emptied()
            return 0
        self._due = False
        stamps = self._stamps
        options = of_segment(None if stamps is None else (stamps.value(now), stamps.recent), [])
        return self.flow.write(frame, self._following, self._expected, ACK, _WINDOW, options)
