"""The clock of lifetimes: it never goes back and counts the time the machine sleeps (CLOCK_BOOTTIME)."""

from __future__ import annotations

import time


def boottime() -> float:
    """Seconds since some moment in the past."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
