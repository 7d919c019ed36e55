"""Packets that share one system call and one trip through the interpreter."""

from __future__ import annotations

from ikeclient.esp.codec.slots import Slots

MOST_SEGMENTS = 64  # of one UDP_SEGMENT send (linux/udp.h)
LONGEST_RUN = 65507  # the payload of the longest UDP datagram


class Run:
    """Datagrams of one stride in one buffer, from `start` to `end`; the last one may be shorter.

    - `source`, `tos`: where they came from, and the TOS octet of the outer header.
    - `first`, `count`: the slots they are in, as `narrow` computes them from `start` and `end`.
    - `whole`: how many are as long as the stride: all, or all but the last, which has `last` bytes.

    One such object is filled again and again, because even one a run is worth saving.
    """

    __slots__ = ("count", "end", "first", "last", "slots", "source", "start", "stride", "tos", "whole")

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.start = self.end = self.tos = self.first = self.count = self.whole = self.last = 0
        self.stride = 1
        self.source: tuple[str, int] | None = None

    def fill(self, end: int, stride: int, source: tuple[str, int], tos: int) -> None:
        """Make it what was received from the start of the buffer to `end`."""
        self.start, self.end, self.stride, self.source, self.tos = 0, end, stride, source, tos

    def narrow(self, start: int, end: int) -> None:
        """Make it those between two places of the buffer, the first of which is where a slot begins."""
        stride = self.stride
        self.start, self.end, self.first = start, end, start // stride
        self.count = count = -((start - end) // stride)
        self.last = last = end - start - (count - 1) * stride
        self.whole = count if last == stride else count - 1

    def length(self, index: int) -> int:
        """The length of one of them."""
        return self.stride if index < self.whole else self.last
