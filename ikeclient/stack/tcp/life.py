"""Slow timers of one connection: keepalive (RFC 9293 section 3.8.4), and the end of one that its user has left."""

from __future__ import annotations

_PROBES = 9
_INTERVAL = 75.0
LINGER = 60.0


class Life:
    """`at` is when to look next, None for never."""

    __slots__ = ("_heard", "_idle", "_left", "_linger", "_probes", "at")

    def __init__(self) -> None:
        self.at: float | None = None
        self._idle: float | None = None
        self._heard = 0.0
        self._probes = 0
        self._left = False
        self._linger: float | None = None

    def keep_alive(self, idle: float | None) -> None:
        """Probe after so many seconds of silence, or never; it begins with the next thing that happens."""
        self._idle = idle
        self._probes = 0
        self._set(0.0 if idle is not None else None)

    def _set(self, at: float | None) -> None:
        if self._linger is not None and (at is None or self._linger < at):
            at = self._linger
        self.at = at

    def heard(self, now: float) -> None:
        """The peer has said something."""
        self._heard = now
        self._probes = 0

    def linger(self, now: float) -> None:
        """Only the peer's FIN is waited for, and nobody cares."""
        self._linger = now + LINGER
        self._set(self.at)

    def leave(self) -> None:
        """As `linger`, from the next look at the timers on."""
        self._left = True
        self.at = 0.0

    def expire(self, now: float) -> tuple[bool, bool]:
        """The time has come: whether to send a probe, and whether it is over."""
        if self._left and self._linger is None:
            self.linger(now)
        if self._linger is not None and self._linger <= now:
            return False, True
        if self._idle is None:
            self._set(None)
            return False, False
        if not self._heard:
            self._heard = now
        due = self._heard + self._idle + self._probes * min(_INTERVAL, self._idle)
        if due > now:
            self._set(due)
            return False, False
        if self._probes >= _PROBES:
            return False, True
        self._probes += 1
        self._set(self._heard + self._idle + self._probes * min(_INTERVAL, self._idle))
        return True, False
