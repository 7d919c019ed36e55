"""Sequence numbers modulo 2^32 (RFC 9293 section 3.4), and positions, which do not wrap around.

Inside, a place in a stream is a position: an integer that begins at the initial sequence number and only grows.
Comparisons are then those of integers. On the wire it is the lowest 32 bits.
"""

from __future__ import annotations

MASK = 0xFFFFFFFF
HALF = 0x80000000


def unwrap(number: int, near: int) -> int:
    """The position with this sequence number that is nearest to `near`; it may be negative for nonsense."""
    return near + ((number - near + HALF) & MASK) - HALF


def is_before(first: int, second: int) -> bool:
    """Whether a 32-bit number precedes another one; for timestamps (RFC 7323 section 5.2)."""
    return (first - second) & MASK >= HALF
