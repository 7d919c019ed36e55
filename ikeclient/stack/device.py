"""The host inside the tunnel as a device of the data plane, in the place of a TUN device.

It carries frames like one: the codec cuts what the host sends and merges what it receives. Where there is no codec for
runs, it carries whole packets one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

from ikeclient.esp.codec.choice import examine, segment
from ikeclient.lazy_dataclass import dataclass
from ikeclient.stack.host import Host
from ikeclient.stack.interfaces import FRAME_HEADER
from ikeclient.stack.ip.header import Packet
from ikeclient.stack.tcp.thinning import thinned

_TRAILER = 8  # bytes behind each packet that `segment` may write


@dataclass(slots=True)
class DeviceCounters:
    """What the host did not take: packets that make no sense, or with a wrong checksum."""

    write_errors: int = 0


class StackDevice:
    """The device of one host; `clock` gives seconds. `offload` lets it carry frames.

    It has no descriptor: `watch` has a function called when there may be something to do.
    """

    merges_udp = True
    descriptor = -1
    lost = False
    name = "stack"

    def __init__(self, host: Host, clock: Callable[[], float], *, offload: bool = True) -> None:
        self.host = host
        self._clock = clock
        self._offload = offload
        self._touched: Callable[[], None] = _nothing
        self._buffer = bytearray(FRAME_HEADER + 65535)
        self._view = memoryview(self._buffer)
        self._cut: deque[bytes] = deque()  # packets of a frame that was read in part

    @property
    def counters(self) -> DeviceCounters:
        """What the host did not take."""
        return DeviceCounters(self.host.counters.malformed)

    # What drives it

    def watch(self, touched: Callable[[], None] | None) -> None:
        """Call this when packets may be `waiting`, or the deadline may be another one; None: nothing."""
        self._touched = touched or _nothing
        self.host.listen(touched)

    @property
    def waiting(self) -> bool:
        """Whether packets may be waiting."""
        return self.host.waiting or bool(self._cut)

    def due_in(self) -> float | None:
        """In how many seconds to call `expire`; None: never."""
        deadline = self.host.deadline()
        return None if deadline is None else max(0.0, deadline - self._clock())

    def expire(self) -> None:
        """Do what is due."""
        self.host.expire(self._clock())

    # Frames

    def frames(self) -> Self | None:
        """Carry frames from now on; None if that is not wanted."""
        return self if self._offload else None

    def read_into(self, buffers: Sequence[bytearray | memoryview]) -> int:
        """Read one frame into the first buffer, which has room for any; 0 if none is waiting."""
        buffer = buffers[0]
        if buffer is not self._view.obj:
            self._view = memoryview(buffer)
        return self.host.read_frame(self._view, self._clock())

    def write_frames(self, frames: Sequence[Packet]) -> int:
        """Hand frames to the host, which takes them all."""
        now, write = self._clock(), self.host.write_frame
        for frame in thinned(frames) if len(frames) > 1 else frames:
            write(frame, now)
        self._touched()
        return len(frames)

    def write_frame(self, frame: Packet) -> bool:
        """As `write_frames`, for one."""
        self.host.write_frame(frame, self._clock())
        self._touched()
        return True

    # Packets one by one

    def read_batch(self, limit: int) -> list[Packet]:
        """At most `limit` whole packets."""
        cut = self._cut
        while len(cut) < limit:
            length = self.host.read_frame(memoryview(self._buffer), self._clock())
            if not length:
                break
            count, size, last, _, _ = examine(self._buffer, length)
            if not count:
                continue
            stride = size + _TRAILER
            out = bytearray(count * stride)
            segment(self._buffer, length, out, 0, stride, 0, 0, 0, count)
            cut.extend(bytes(out[i * stride : i * stride + (size if i < count - 1 else last)]) for i in range(count))
        return [cut.popleft() for _ in range(min(limit, len(cut)))]

    def write_batch(self, packets: Sequence[Packet]) -> int:
        """Hand whole packets to the host, which takes them all."""
        now, write = self._clock(), self.host.write_packet
        for packet in packets:
            write(packet, now)
        self._touched()
        return len(packets)

    # As a TUN device

    def fileno(self) -> int:
        """There is no descriptor: it is watched as a source."""
        return -1

    def source(self) -> Self:
        """It tells by itself that packets wait."""
        return self

    def reopen(self) -> bool:
        """Nobody can take it away."""
        return True

    def close(self) -> None:
        """Be watched no more."""
        self.watch(None)


def _nothing() -> None:
    """Do nothing."""
