"""Tells at once that the clock on the wall was set, as also happens when the machine wakes up (timerfd_create(2))."""

from __future__ import annotations

import os

from ikeclient.net import syscalls


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
