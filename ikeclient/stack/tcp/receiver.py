"""The receiving half: what may arrive, and what is told of it (RFC 9293 sections 3.4, 3.8.6)."""

from __future__ import annotations

from ikeclient.stack.tcp.delayed_ack import DelayedAck
from ikeclient.stack.tcp.reassembly import Range, Reassembly
from ikeclient.stack.tcp.receive_buffer import ReceiveBuffer
from ikeclient.stack.tcp.sequence import MASK
from ikeclient.stack.tcp.window import LARGEST_FIELD, WindowBudget, WindowTuner

_UNKNOWN = -1


class Receiver:
    """Positions of the peer's stream.

    `next` is RCV.NXT, `acknowledged` what our last segment said of it, `edge` where the window ends that was
    advertised, `fin` the peer's FIN or -1.
    """

    __slots__ = (
        "_duplicate",
        "_scale",
        "_selective",
        "_size",
        "acknowledged",
        "acks",
        "buffer",
        "edge",
        "fin",
        "next",
        "queue",
        "tuner",
    )

    def __init__(self, position: int, *, scale: int, selective: bool, size: int, windows: WindowBudget) -> None:
        self.next = self.edge = self.acknowledged = position
        self.fin = _UNKNOWN
        self._scale = scale
        self._selective = selective
        self._size = size  # of a full segment
        self._duplicate: Range | None = None
        self.acks = DelayedAck()
        self.buffer = ReceiveBuffer()
        self.queue = Reassembly()
        self.tuner = WindowTuner(windows, size)

    def promise(self, window: int) -> None:
        """So much was advertised with our SYN."""
        self.edge = max(self.edge, self.next + window)

    def advertise(self) -> int:
        """The window field, for a segment that is sent now; it never takes back what an earlier one promised.

        The window opens by a segment or by half of it at a time (section 3.8.6.2.2). Rounding is upwards, for the same
        reason; `acceptable` knows it.
        """
        self.acknowledged = position = self.next
        capacity = self.tuner.capacity
        edge = position + capacity - self.buffer.size
        if edge - self.edge >= min(self._size, capacity // 2):
            self.edge = edge
        window = self.edge - position
        if window <= 0:
            return 0
        field = (window + (1 << self._scale) - 1) >> self._scale
        return field if field < LARGEST_FIELD else LARGEST_FIELD

    @property
    def promised(self) -> int:
        """Bytes that are kept or may come."""
        return self.edge - self.next + self.buffer.size

    def has_opened(self) -> bool:
        """Whether the window has grown so much that the sender should be told, without data to acknowledge."""
        free, left = self.tuner.capacity - self.buffer.size, max(self.edge - self.next, 0)
        return free >= 2 * left and free - left >= min(self._size, self.tuner.capacity // 2)

    def acceptable(self, start: int, length: int) -> bool:
        """Whether any of it lies in the window (section 3.4).

        A segment without data may stand at the very end: there the acknowledgements of a sender are that has used up
        the window.
        """
        position = self.next
        if self.edge > position:
            right = self.edge + (1 << self._scale) - 1
            if length:
                return start < right and start + length > position
            return position <= start <= right
        return start == position and not length

    def is_plain(self, size: int) -> bool:
        """Whether so many bytes that are next in order can be taken as they are."""
        return self.next + size <= self.edge and not self.queue and self.fin < 0

    def advance(self, size: int, segments: int, now: float) -> None:
        """Bytes have arrived that were next in order."""
        self.next += size
        self.acks.received(segments, now)

    def place(self, start: int, data: memoryview, segments: int, now: float) -> list[memoryview]:
        """Sort data in; return what follows in order, now that it is here."""
        if 0 <= self.fin < start + len(data):
            data = data[: max(self.fin - start, 0)]  # nothing follows a FIN
            if not data:
                self.acks.at_once()
                return []
        if start == self.next and not self.queue:
            size = len(data)
            right = self.edge + (1 << self._scale) - 1
            if start + size > right:
                size = max(right - start, 0)
                data = data[:size]
                self.acks.at_once()
            self.next = start + size
            self.acks.received(segments, now)
            return [data]
        return self._sort(start, data)

    def _sort(self, start: int, data: memoryview) -> list[memoryview]:
        position, acks = self.next, self.acks
        end = start + len(data)
        right = self.edge + (1 << self._scale) - 1
        if start < position:
            self._duplicate = start, min(end, position)
            acks.at_once()
            if end <= position:
                return []
            data = data[position - start :]
            start = position
        if end > right:
            data = data[: max(right - start, 0)]
            if not data:
                return []
        if start > position:
            duplicate = self.queue.insert(start, data, 2 * max(self.tuner.capacity, right - position))
            if duplicate is not None:
                self._duplicate = duplicate
            # Without selective acknowledgements the sender counts duplicates (RFC 5681 section 3.2).
            if self._selective:
                acks.at_once()
            else:
                acks.one_more()
            return []
        ready = [data, *self.queue.take(start + len(data))]
        self.next = start + sum(map(len, ready))
        acks.at_once()
        return ready

    @property
    def has_blocks(self) -> bool:
        """Whether `blocks` has any."""
        return self._selective and (self._duplicate is not None or bool(self.queue))

    def blocks(self) -> list[Range]:
        """The blocks of a selective acknowledgement, as sequence numbers: what came twice, then the islands."""
        duplicate, queue = self._duplicate, self.queue
        self._duplicate = None
        found = [] if duplicate is None else [duplicate]
        found += queue.blocks(3 - len(found))
        if queue.untold:
            self.acks.one_more()
        return [(start & MASK, end & MASK) for start, end in found]

    def note_fin(self, position: int) -> None:
        """The peer's FIN stands there, unless data behind it is here already."""
        if self.fin < 0 and position >= self.queue.end:
            self.fin = position

    def clear(self) -> None:
        """Forget everything."""
        self.buffer.clear()
        self.queue = Reassembly()

    def take_fin(self) -> bool:
        """Whether the peer's FIN is next; it then counts as received."""
        if self.fin != self.next:
            return False
        self.next += 1
        self.acks.at_once()
        return True
