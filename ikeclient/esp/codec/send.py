"""Runs of ESP packets on their way out: frames from the TUN device become datagrams for one system call.

A run is of one SA and one outer TOS, in slots of one stride; only its last datagram may be shorter. Sequence numbers
are taken when the run is sealed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikeclient.crypto.algorithms.esp_ciphers import HEADER_LENGTH
from ikeclient.esp.codec.choice import segment
from ikeclient.esp.codec.run import LONGEST_RUN, MOST_SEGMENTS, Run
from ikeclient.esp.codec.single import Pack, Unsent, packer
from ikeclient.esp.codec.slots import Slots
from ikeclient.esp.sa.pair import OutboundSa

if TYPE_CHECKING:
    from ikeclient.esp.codec._offload import Filter

_ROOM = 65535 + 4096  # one datagram of any length fits, too


class SendRun(Run):
    """The run in the making; empty while `count` is 0. `last` is the length of its last datagram."""

    __slots__ = ("_bytes", "_pack", "_packed", "_room", "sa")

    def __init__(self) -> None:
        super().__init__(Slots(_ROOM))
        self.sa: OutboundSa | None = None
        self._bytes = 0  # of inner packets
        self._room = 0  # for datagrams
        self._pack: Pack | None = None  # made for runs of `_packed`: a filter, a stride and a TOS octet
        self._packed: tuple[Filter | None, int, int] | None = None

    def add(
        self, sa: OutboundSa, frame: bytearray, length: int, examined: tuple[int, int, int, int, bool], first: int
    ) -> int:
        """Append segments of a frame from number `first` on; returns how many, 0 when the run must be sent first.

        `examined` is what `offload.examine` says of the frame.
        """
        count, size, last, tos, _ = examined
        layout = sa.layout
        whole = layout.sealed_length(size)
        end = whole if last == size else layout.sealed_length(last)
        if not self.count:
            self.sa, self.tos, self.stride, self.last = sa, tos, whole, whole
            self._room = max(min(MOST_SEGMENTS, LONGEST_RUN // whole), 1)
            self._bytes = 0
        else:
            longer = whole > self.stride or (count > 1 and whole != self.stride)
            if longer or sa is not self.sa or tos != self.tos or self.last != self.stride:
                return 0
        stride = self.stride
        number = min(self._room - self.count, count - first)
        if number <= 0:
            return 0
        gap = HEADER_LENGTH + layout.iv_length
        at = self.count * stride
        segment(frame, length, self.slots.buffer, at, stride, gap, layout.alignment - 1, first, number)
        self.count += number
        self._bytes += number * size
        if first + number == count:
            self._bytes += last - size
            self.last = end
        return number

    def grow(self, frame: bytearray, length: int, mtu: int) -> bool:
        """Append the packets of a frame with one call; false if they do not fit.

        They fit if they are like those before, belong into the same SA, are not above the inner MTU, and there is room.
        """
        if not self.count or self.last != self.stride:
            return False
        assert self.sa is not None
        quick = self.sa.filter.quick  # each SA has its own
        if (alike := (quick, self.stride, self.tos)) != self._packed:
            self._pack = packer(quick, self.slots.buffer, self.stride, self.tos, self.sa.layout)
            self._packed = alike
        if (pack := self._pack) is None:
            return False
        added, size, self.last = pack(self.count, frame, length, mtu)
        self.count += added
        self._bytes += size
        return added > 0

    def hold(self, unsent: Unsent) -> None:
        """Make an empty run the sealed packets in its slots that have not been sent; they stay there until `clear`."""
        self.count, self.stride, last, self.tos = unsent
        self.end = (self.count - 1) * self.stride + last

    def seal(self) -> bool:
        """Make it datagrams: fewer than before, or none, once the sequence numbers are used up; whether any are left.

        They stay in the buffer until `clear`.
        """
        assert self.sa is not None
        count = self.count
        self.count = sealed = self.sa.seal_run(self.slots, self.stride, count, self.last, self._bytes)
        self.end = (sealed - 1) * self.stride + (self.last if sealed == count else self.stride) if sealed else 0
        return sealed > 0

    def clear(self) -> None:
        """Empty the run, and let go of its SA, whose key may have to be wiped."""
        self.count = 0
        self.sa = None
