"""Packets that share one system call and one trip through the interpreter."""

from __future__ import annotations

from ikeclient.esp.codec.slots import Slots

MOST_SEGMENTS = 64  # of one UDP_SEGMENT send (linux/udp.h)
LONGEST_RUN = 65507  # the payload of the longest UDP datagram


class Run:
    """Datagrams in slots of one stride in one buffer, from `start` to `end`.

    - `source`, `tos`: where they came from, and the TOS octet of the outer header.
    - `first`, `count`: the slots they are in, and `last`, the length of the last one, as `narrow` says.
    - `whole`: how many are as long as the stride: all, or all but the last; this does not hold if there are `lengths`.
    - `lengths`: how long the datagram in each slot of the buffer is, if not only the last one is shorter.

    One such object is filled again and again, because even one a run is worth saving.
    """

    __slots__ = (
        "_filled",
        "count",
        "end",
        "first",
        "last",
        "lengths",
        "slots",
        "source",
        "start",
        "stride",
        "tos",
        "whole",
    )

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.start = self.end = self.tos = self.first = self.count = self.whole = self.last = 0
        self.stride = 1
        self.lengths: list[int] = []
        self.source: tuple[str, int] | None = None
        self._filled = 0

    def fill(self, end: int, stride: int, source: tuple[str, int], tos: int, lengths: list[int]) -> None:
        """Make it what was received from the start of the buffer to `end`."""
        self.start, self.end, self.stride, self.source, self.tos, self.lengths = 0, end, stride, source, tos, lengths
        self._filled = end

    def narrow(self, first: int, count: int) -> None:
        """Make it those in `count` slots of what it was filled with."""
        stride = self.stride
        self.first, self.count, self.start = first, count, first * stride
        at = (first + count - 1) * stride
        self.last = last = self.lengths[first + count - 1] if self.lengths else min(stride, self._filled - at)
        self.end = at + last
        self.whole = count if last == stride else count - 1

    def alike(self, first: int, count: int) -> int:
        """How many of those datagrams, from the first one on, are as long as the stride, or the last of them."""
        for i in range(first, first + count - 1) if self.lengths else ():
            if self.lengths[i] != self.stride:
                return i - first + 1
        return count

    def length(self, index: int) -> int:
        """The length of one of them."""
        if self.lengths:
            return self.lengths[self.first + index]
        return self.stride if index < self.whole else self.last
