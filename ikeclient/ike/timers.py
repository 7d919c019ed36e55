"""Named deadlines of an IKE SA, and the jitter that keeps two ends from acting at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """A few deadlines by name. Time is what the caller says it is; nothing here runs by itself."""

    def __init__(self) -> None:
        self._deadlines: dict[K, float] = {}

    def set(self, name: K, at: float) -> None:
        """Arm or re-arm one."""
        self._deadlines[name] = at

    def cancel(self, name: K) -> None:
        """Disarm one; fine if it is not armed."""
        self._deadlines.pop(name, None)

    def expired(self, now: float) -> list[K]:
        """Take out every deadline that has passed, the earliest first."""
        due = sorted((name for name, at in self._deadlines.items() if at <= now), key=self._deadlines.__getitem__)
        for name in due:
            del self._deadlines[name]
        return due

    @property
    def next(self) -> float | None:
        """The earliest deadline."""
        return min(self._deadlines.values(), default=None)


def jittered(period: float, entropy: Callable[[int], bytes]) -> float:
    """Between 85 % and 95 % of a lifetime, so that rekeys of two ends rarely collide (RFC 7296 section 2.8)."""
    return period * (0.85 + 0.10 * int.from_bytes(entropy(2), "big") / 65535)
