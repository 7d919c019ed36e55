"""Who may send next: deficit round robin by bytes over all that have something to send (Shreedhar and Varghese)."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from ikeclient.stack.interfaces import FRAME_HEADER, LONGEST_PACKET, Sends

_QUANTUM = LONGEST_PACKET
_NO_HEADER = bytes(FRAME_HEADER)


def _nothing() -> None:
    """Do nothing."""


class Ready:
    """The sources that are ready, each with the bytes that it may send before the others have had their turn.

    `touched` is called when something may have changed what the stack waits for.
    """

    __slots__ = ("_sources", "touched")

    def __init__(self) -> None:
        self._sources: OrderedDict[Sends, int] = OrderedDict()
        self.touched: Callable[[], None] = _nothing

    def __bool__(self) -> bool:
        return bool(self._sources)

    def listen(self, touched: Callable[[], None] | None) -> None:
        """Call this from now on; None: nothing."""
        self.touched = touched or _nothing

    def add(self, source: Sends) -> None:
        """Ask this one, too, until it has nothing more."""
        if source not in self._sources:
            self._sources[source] = _QUANTUM
            self.touched()

    def fill(self, frame: memoryview, now: float) -> int:
        """Have one source write a frame; returns its length, or 0 if none has anything."""
        sources = self._sources
        while sources:
            source, allowed = sources.popitem(last=False)
            length = source.fill(frame, now)
            if length:
                if source.queued:
                    allowed -= length
                    sources[source] = allowed if allowed > 0 else allowed + _QUANTUM
                    sources.move_to_end(source, last=allowed <= 0)
                return length
        return 0


class Packets:
    """Whole packets that want to leave: answers of the host itself. What there is no room for is lost."""

    __slots__ = ("_packets", "_ready", "_size", "lost")

    queued = True
    _MOST = 256 << 10  # bytes
    _COST = 64  # that are counted for a packet beyond its own

    def __init__(self, ready: Callable[[Sends], None]) -> None:
        self._ready = ready
        self._packets: deque[bytes] = deque()
        self._size = 0
        self.lost = 0

    def send(self, *packets: bytes) -> bool:
        """Send packets, all or none; false if there is no room."""
        size = sum(len(packet) + self._COST for packet in packets)
        if self._size + size > self._MOST:
            self.lost += len(packets)
            return False
        self._size += size
        self._packets.extend(packets)
        self._ready(self)
        return True

    def fill(self, frame: memoryview, now: float) -> int:  # noqa: ARG002  the protocol's
        """Write the next one."""
        if not self._packets:
            return 0
        packet = self._packets.popleft()
        self._size -= len(packet) + self._COST
        end = FRAME_HEADER + len(packet)
        frame[:FRAME_HEADER] = _NO_HEADER
        frame[FRAME_HEADER:end] = packet
        return end
