"""When to look without being told, and what tells at once that the clock on the wall was set (timerfd_create(2)).

That also happens when the machine wakes up.
"""

from __future__ import annotations

import os

from ikeclient.net import syscalls

POLL = 60.0  # seconds between looks at a kernel that tells of what changes


def next_round(now: float, period: float) -> float:
    """The next multiple of `period`: timers that are not exact and come then share a wakeup."""
    return (now // period + 1) * period


class ClockBell:
    """Becomes readable when the clock was set; call `rung` then. Construction raises OSError."""

    def __init__(self) -> None:
        self._descriptor = syscalls.clock_steps()
        try:
            self.rung()
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor for poll(2)."""
        return self._descriptor

    def rung(self) -> None:
        """Wait for the next time. Raises OSError if that is not possible."""
        syscalls.await_clock_step(self._descriptor)

    def close(self) -> None:
        """Wait no more."""
        os.close(self._descriptor)
