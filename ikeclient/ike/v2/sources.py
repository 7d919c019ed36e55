"""What the protocol takes from outside besides datagrams: chance, the time of day, and who watches it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ikeclient.ike.observation import Observer, nobody
from ikeclient.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """`entropy` returns that many random bytes, `wall_clock` the time of day for certificates.

    `observe` is told of every message.
    """

    entropy: Callable[[int], bytes]
    wall_clock: Callable[[], datetime]
    observe: Observer = nobody
