"""What the protocol takes from outside besides datagrams: chance and the time of day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """`entropy` returns that many random bytes, `wall_clock` the time of day for certificates."""

    entropy: Callable[[int], bytes]
    wall_clock: Callable[[], datetime]
