"""Explicit congestion notification of one connection, both directions (RFC 3168 section 6.1)."""

from __future__ import annotations

from ikeclient.stack.tcp.segment import CWR, ECE

CAPABLE, EXPERIENCED = 2, 3  # ECT(0) and CE of the IP header


class Ecn:
    """`codepoint` is for new data: 0 without ECN."""

    __slots__ = ("_echo", "_reduced", "codepoint")

    def __init__(self) -> None:
        self.codepoint = 0
        self._echo = False  # the peer's data was marked, and it has not said that it knows
        self._reduced = False  # our next new data tells that we have reduced the window

    def enable(self) -> None:
        """Both ends can."""
        self.codepoint = CAPABLE

    def received(self, codepoint: int, flags: int) -> bool:
        """Data with this codepoint, or an acknowledgement, has arrived; whether the peer tells of congestion."""
        if not self.codepoint:
            return False
        if flags & CWR:
            self._echo = False
        if codepoint == EXPERIENCED:
            self._echo = True
        return bool(flags & ECE)

    def reduced(self) -> None:
        """The congestion window was reduced."""
        self._reduced = True

    def flags(self, *, new: bool) -> int:
        """For a segment, perhaps one with `new` data."""
        flags = ECE if self._echo else 0
        if new and self._reduced:
            self._reduced = False
            flags |= CWR
        return flags
