"""Which ESP sequence numbers have been seen (RFC 4303 section 3.4.3 and appendix A).

The window is the `size` numbers up to the highest authenticated one, `top`. It is kept as the bits of one integer: half
a kilobyte, and a run of packets is recorded with one shift.

Checking and recording are two steps, because the number of a packet is worth nothing before the packet is
authenticated.
"""

from __future__ import annotations

_SPACE = 1 << 32
_LAST_EXTENDED = (1 << 64) - 1

REFUSED = 0  # never the number of a packet: senders start at 1 (RFC 4303 section 3.3.3)


class ReplayWindow:
    """The receive window of one SA. `size` is a power of two; `extended` says whether numbers have 64 bits (ESN)."""

    __slots__ = ("_all", "_extended", "_seen", "_size", "top")

    def __init__(self, size: int = 4096, *, extended: bool = False) -> None:
        if size < 32 or size & (size - 1) or size > _SPACE // 2:
            raise ValueError(f"{size} is not a power of two from 32 to 2^31")
        self._size = size
        self._all = (1 << size) - 1
        self._seen = 0  # bit n stands for the number that is n below the top
        self._extended = extended
        self.top = 0

    def check(self, low: int) -> int:
        """The full number of a packet that carries `low`, or REFUSED for a replay and for what the window left behind.

        With ESN the full number is the only one congruent to `low` among the 2^32 that begin at the bottom of the
        window, which is what the case distinction of appendix A2.2 amounts to.
        """
        top = self.top
        bottom = top - self._size + 1
        if self._extended:
            sequence = bottom + (low - bottom) % _SPACE
            if not 0 < sequence <= _LAST_EXTENDED:
                return REFUSED
        else:
            sequence = low
            if sequence < bottom or sequence == 0:
                return REFUSED
        return REFUSED if sequence <= top and self._seen >> (top - sequence) & 1 else sequence

    def check_run(self, low: int, count: int) -> int:
        """The full number of the first of `count` packets numbered consecutively from `low`, where all are new.

        REFUSED says nothing but that the packets have to be checked one by one.
        """
        sequence = self.check(low)
        if sequence <= self.top or count > self._size or low + count > _SPACE:
            return REFUSED
        return sequence

    def commit_run(self, sequence: int, count: int) -> None:
        """Record a run of which every packet has been authenticated, just after `check_run` let it pass."""
        self._raise(sequence + count - 1, (1 << count) - 1)

    def commit(self, sequence: int) -> bool:
        """Record the full number of a packet that has been authenticated.

        False where it meanwhile became a replay: packets of one batch may all be checked before any is recorded.
        """
        below = self.top - sequence
        if below < 0:
            self._raise(sequence, 1)
        elif below >= self._size or self._seen >> below & 1:
            return False
        else:
            self._seen |= 1 << below
        return True

    def _raise(self, top: int, new: int) -> None:
        """Move the top; `new` are the bits of what was seen there."""
        ahead, self.top = top - self.top, top
        self._seen = (self._seen << ahead | new) & self._all if ahead < self._size else new
