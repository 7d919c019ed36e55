"""The clock of lifetimes: it never goes back and counts the time the machine sleeps (CLOCK_BOOTTIME)."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

boottime: Callable[[], float] = partial(
    time.clock_gettime, time.CLOCK_BOOTTIME
)  # seconds since some moment in the past
