"""The clock of lifetimes, which never goes back and counts the time the machine sleeps (CLOCK_BOOTTIME), and the time
of day, which certificates are judged by."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

boottime: Callable[[], float] = partial(
    time.clock_gettime, time.CLOCK_BOOTTIME
)  # seconds since some moment in the past


def local_time() -> datetime:
    """The time of day in the local time zone; in UTC if TZ names a zone that cannot be (hardening O14)."""
    now = datetime.now(UTC)
    try:
        return now.astimezone()
    except (OverflowError, OSError, ValueError):  # POSIX allows 167 hours in TZ, datetime less than 24
        return now
