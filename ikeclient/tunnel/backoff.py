"""How long to wait before connecting again: growing, capped, jittered, and endless."""

from __future__ import annotations

from collections.abc import Callable

FIRST = 1.0
LONGEST = 60.0


class Backoff:
    """Pauses between attempts, in seconds; `reset` after a success."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._next = FIRST

    def reset(self) -> None:
        """Start again with a short pause."""
        self._next = FIRST

    def pause(self) -> float:
        """The next pause: between half and all of a doubling value."""
        pause = self._next
        self._next = min(self._next * 2, LONGEST)
        return pause * (0.5 + int.from_bytes(self._entropy(2), "big") / 131070)
