"""A device and a socket without a kernel, for whatever carries packets: plain ones, and those of the fast path."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from ikeclient.esp.codec import plain as offload_plain
from ikeclient.net.device.tun import TunCounters
from ikeclient.net.transport.recvmmsg import SLOTS, Arrival, Recvmmsg

GATEWAY = ("192.0.2.1", 4500)
LOCAL = ("192.0.2.10", 40000)


class FakeTun:
    """Two queues and a limit, as the kernel has."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.written: list[bytes] = []
        self.lost = False
        self.counters = TunCounters()

    def read_batch(self, limit: int) -> list[bytes]:
        return [self.waiting.popleft() for _ in range(min(limit, len(self.waiting)))]

    def write_batch(self, packets: Sequence[bytes | bytearray | memoryview]) -> int:
        self.written += map(bytes, packets)
        return len(packets)

    def frames(self) -> FrameTun | None:
        return None


class FakeSocket:
    """Remembers what was sent; `arrives` is what comes next."""

    def __init__(self, local: tuple[str, int] = LOCAL) -> None:
        self.local = local
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.waiting: deque[tuple[bytes, tuple[str, int]]] = deque()
        self.takes = 1 << 30
        self.tos = 0  # of what arrives
        self.tos_sent: list[int] = []
        self.probes: list[bytes] = []
        self.trusted: tuple[int, bool] | None = None
        self.overflows = 0

    def arrives(self, *datagrams: bytes, source: tuple[str, int] = GATEWAY) -> None:
        self.waiting += [(datagram, source) for datagram in datagrams]

    def receive_batch(self, limit: int) -> list[tuple[bytes, tuple[str, int], int]]:
        return [(*self.waiting.popleft(), self.tos) for _ in range(min(limit, len(self.waiting)))]

    def send_batch(
        self, payloads: Sequence[bytes | bytearray | memoryview], destination: tuple[str, int], tos: int = 0
    ) -> int:
        taken = [(bytes(payload), destination) for payload in payloads[: self.takes]]
        self.sent += taken
        self.tos_sent += [tos] * len(taken)
        return len(taken)

    def send_probe(self, payload: bytes, destination: tuple[str, int]) -> bool:
        self.probes.append(payload)
        return True

    def trust_path(self, mtu: int, *, proven: bool) -> None:
        self.trusted = mtu, proven

    def receive_queue(self) -> tuple[int, int]:
        return sum(len(data) for data, _ in self.waiting), self.overflows

    def runs(self) -> RunSocket | None:
        return None


def apart(frame: bytes | bytearray | memoryview) -> list[bytes]:
    """The packets of a frame."""
    count, size, last, _, _ = offload_plain.examine(frame, len(frame))
    out = bytearray(count * (size + 8))
    offload_plain.segment(frame, len(frame), out, 0, size + 8, 0, 0, 0, count)
    return [bytes(out[i * (size + 8) :][: size if i < count - 1 else last]) for i in range(count)]


class FrameTun(FakeTun):
    """A device with virtio headers; what is merged is taken apart again when it is written."""

    merges_udp = True
    descriptor = -1

    def frames(self) -> FrameTun | None:
        return self

    def read_into(self, buffers: Sequence[bytearray]) -> int:
        if not self.waiting:
            return 0
        frame = bytes(10) + self.waiting.popleft()
        buffers[0][: len(frame)] = frame
        return len(frame)

    def write_frames(self, frames: Sequence[bytes | bytearray | memoryview]) -> int:
        for frame in frames:
            self.written += apart(frame)
        return len(frames)

    def write_frame(self, frame: bytes | bytearray | memoryview) -> bool:
        return self.write_frames([frame]) == 1


class QueueTun(FrameTun):
    """Its frames wait behind a descriptor, and are written to it, as those of a real device."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        super().__init__()
        self._there, self._here = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._here.setblocking(False)

    @property
    def descriptor(self) -> int:  # type: ignore[override]
        while self.waiting:
            self._there.send(bytes(10) + self.waiting.popleft(), socket.MSG_DONTWAIT)
        return self._here.fileno()

    def arrives(self, *frames: bytes) -> None:
        """Let frames wait as they are, behind all packets that are `waiting`."""
        assert self.descriptor >= 0
        for frame in frames:
            self._there.send(frame, socket.MSG_DONTWAIT)

    @property
    def written(self) -> list[bytes]:  # type: ignore[override]
        """The packets of all that was written."""
        self._written += (packet for frame in self.taken() for packet in apart(frame))
        return self._written

    @written.setter
    def written(self, packets: list[bytes]) -> None:
        self._written = packets

    def write_frames(self, frames: Sequence[bytes | bytearray | memoryview]) -> int:
        return sum(self._here.send(frame) == len(frame) for frame in frames)

    def taken(self) -> list[bytes]:
        """The frames that were written, and have not been taken yet."""
        frames = []
        with suppress(BlockingIOError):
            while True:
                frames.append(self._there.recv(1 << 17, socket.MSG_DONTWAIT))
        return frames

    def __del__(self) -> None:
        self._there.close()
        self._here.close()

    def read_into(self, buffers: Sequence[bytearray]) -> int:
        try:
            return os.readv(self.descriptor, buffers)
        except BlockingIOError:
            return 0


class RunSocket(FakeSocket):
    """A socket that sends runs, and merges what arrives back to back in one size."""

    errors_drained = 0
    merging = False
    segments = merges = True
    descriptor = -1

    def runs(self) -> RunSocket | None:
        return self

    def enable_merging(self) -> None:
        self.merging = True

    def drain_errors(self) -> bool:
        self.errors_drained += 1
        return False

    def receive_into(self, buffer: memoryview) -> tuple[int, int, tuple[str, int], int] | None:
        if not self.waiting:
            return None
        data, source = self.waiting.popleft()
        size = len(data)
        while size and len(data) < 30000 and self.waiting and self.waiting[0][1] == source:
            if not 0 < len(self.waiting[0][0]) <= size or len(data) % size:
                break
            data += self.waiting.popleft()[0]
        buffer[: len(data)] = data
        return len(data), size, source, self.tos

    def receive_singly(self, buffer: memoryview) -> tuple[int, int, tuple[str, int], int] | None:
        """As `receive_into`, where nobody merges."""
        if not self.waiting:
            return None
        data, source = self.waiting.popleft()
        buffer[: len(data)] = data
        return len(data), len(data), source, self.tos

    def recvmmsg(self, many: Recvmmsg, stride: int, first: int, most: int) -> list[Arrival]:
        """What is waiting, each with its own data."""
        del many, stride
        arrivals: list[Arrival] = []
        while self.waiting and len(arrivals) < min(most, SLOTS - first):
            data, source = self.waiting.popleft()
            arrivals.append((bytes(data), len(data), len(data), source, self.tos))
        return arrivals

    def send_run(self, run: memoryview, size: int, destination: tuple[str, int], tos: int = 0) -> int:
        return self.send_batch([run[at : at + size] for at in range(0, len(run), size)], destination, tos)
