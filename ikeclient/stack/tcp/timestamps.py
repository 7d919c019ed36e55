"""Timestamps of one connection: our clock, the peer's latest, and protection against old segments (RFC 7323).

Our clock counts milliseconds from a random start.
"""

from __future__ import annotations

from ikeclient.stack.tcp.sequence import MASK, is_before

_TICKS = 1000
_OUTDATED = 24 * 86400.0  # after which the peer's clock may have wrapped around (section 5.5)


class Timestamps:
    """`recent` is TS.Recent."""

    __slots__ = ("_offset", "_recent_at", "recent")

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self.recent = 0
        self._recent_at = 0.0

    def value(self, now: float) -> int:
        """TSval for a segment that is sent now."""
        return int(now * _TICKS) + self._offset & MASK

    def when(self, echo: int, now: float) -> float | None:
        """The time that an echo is of; None if it is of none of ours."""
        ago = (int(now * _TICKS) + self._offset - echo) & MASK
        return int(now * _TICKS) / _TICKS - ago / _TICKS if ago < MASK // 2 else None

    def update(self, value: int, now: float) -> None:
        """Remember the peer's; the caller has seen that it is of what is acknowledged next (section 4.3)."""
        if not is_before(value, self.recent):
            self.recent, self._recent_at = value, now

    def begin(self, value: int, now: float) -> None:
        """The peer's first, in its SYN."""
        self.recent, self._recent_at = value, now

    def is_old(self, value: int, now: float) -> bool:
        """Whether a segment with this value is older than what was received (PAWS, section 5.3 R1)."""
        return is_before(value, self.recent) and now - self._recent_at < _OUTDATED
