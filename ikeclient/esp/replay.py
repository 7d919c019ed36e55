"""Which ESP sequence numbers have been seen (RFC 4303 section 3.4.3 and appendix A).

The window is the `size` numbers up to the highest authenticated one, `top`. It is kept as a ring in which slot n %
size remembers the last number accepted there, so that a jump forward clears nothing: an old number in a slot simply
is not the one that is asked about, and a newer one cannot be there without `top` having moved past the question.

Checking and recording are two steps, because the number of a packet is worth nothing before the packet is
authenticated.
"""

from __future__ import annotations

_SPACE = 1 << 32
_LAST_EXTENDED = (1 << 64) - 1

REFUSED = 0  # never the number of a packet: senders start at 1 (RFC 4303 section 3.3.3)


class ReplayWindow:
    """The receive window of one SA. `size` is a power of two; `extended` says whether numbers have 64 bits (ESN)."""

    __slots__ = ("_extended", "_mask", "_ring", "_size", "top")

    def __init__(self, size: int = 4096, *, extended: bool = False) -> None:
        if size < 32 or size & (size - 1) or size > _SPACE // 2:
            raise ValueError(f"{size} is not a power of two from 32 to 2^31")
        self._size = size
        self._mask = size - 1
        self._ring = [REFUSED] * size
        self._extended = extended
        self.top = 0

    def check(self, low: int) -> int:
        """The full number of a packet that carries `low`, or REFUSED for a replay and for what the window left behind.

        With ESN the full number is the only one congruent to `low` among the 2^32 that begin at the bottom of the
        window, which is what the case distinction of appendix A2.2 amounts to.
        """
        bottom = self.top - self._mask
        if self._extended:
            sequence = bottom + (low - bottom) % _SPACE
            if not 0 < sequence <= _LAST_EXTENDED:
                return REFUSED
        else:
            sequence = low
            if sequence < bottom or sequence == 0:
                return REFUSED
        return REFUSED if self._ring[sequence & self._mask] == sequence else sequence

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
        first = sequence & self._mask
        end = first + count
        if end <= self._size:
            self._ring[first:end] = range(sequence, sequence + count)
        else:
            for number in range(sequence, sequence + count):
                self._ring[number & self._mask] = number
        self.top = sequence + count - 1

    def commit(self, sequence: int) -> bool:
        """Record the full number of a packet that has been authenticated.

        False where it meanwhile became a replay: packets of one batch may all be checked before any is recorded.
        """
        slot = sequence & self._mask
        if self._ring[slot] == sequence or sequence <= self.top - self._size:
            return False
        self._ring[slot] = sequence
        if sequence > self.top:
            self.top = sequence
        return True
