"""A path with a rate, a delay and faults between two ends of a tunnel: it passes their UDP datagrams on, one by one.

    python bench/path.py ADDRESS LEFT RIGHT

It stands at ADDRESS, and each end takes it for the other; all three use port 4500. Settings are lines of JSON on
standard input, each answered with `{}`. Not every kernel has netem, and none is needed. It is a program in Python, so
the rate is to be well below what it could carry (about a gigabit a second). Faults come from seeded generators, one
for long datagrams and one for short, so that acknowledgements, of which no two stacks send the same number, do not
change which data is lost.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

PORT = 4500
_UDP_SEGMENT, _UDP_GRO = 103, 104
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_LONG = 400  # bytes
_TICK = 1e-3  # seconds: what is due within it leaves together, as from a card that moderates its interrupts
_MOST, _LARGEST = 60, 60_000  # datagrams and bytes of one send
_HEADERS = 28

Waiting = list[tuple[float, int, memoryview]]


class Link:
    """One direction. `rate` in bit/s, times in seconds; `loss` and `reorder` are shares of all datagrams.

    What is reordered overtakes: it has no delay, as netem does it. `queue` is how long a datagram waits for the rate at
    the most; what would wait longer is lost.
    """

    def __init__(
        self, *, rate: float, delay: float, queue: float = 0.05, loss: float = 0.0, reorder: float = 0.0, seed: int = 1
    ) -> None:
        self._second_per_byte = 8 / rate
        self._delay, self._queue, self._loss, self._reorder = delay, queue, loss, reorder
        self._random = random.Random(seed), random.Random(seed + 1)
        self._free = 0.0
        self.lost = self.overflowed = 0

    def arrival(self, size: int, now: float) -> float | None:
        """When a datagram arrives that is sent now; None: never."""
        start = max(now, self._free)
        if start - now > self._queue:
            self.overflowed += 1
            return None
        self._free = left = start + (size + _HEADERS) * self._second_per_byte
        draw = self._random[size < _LONG].random()
        if draw < self._loss:
            self.lost += 1
            return None
        return left if draw - self._loss < self._reorder else left + self._delay


def datagrams(view: memoryview, size: int) -> Iterator[memoryview]:
    """What was received in one run."""
    for at in range(0, len(view), size):
        yield view[at : at + size]


def runs(due: list[memoryview]) -> Iterator[list[memoryview]]:
    """Parts that one send carries: of one size, and perhaps a shorter one behind."""
    run: list[memoryview] = []
    total = 0
    for each in due:
        size = len(each)
        full = run and (
            len(run) == _MOST or total + size > _LARGEST or size > len(run[0]) or len(run[-1]) < len(run[0])
        )
        if full:
            yield run
            run, total = [], 0
        run.append(each)
        total += size
    if run:
        yield run


class Path:
    """Both directions over one socket."""

    def __init__(self, address: str, ends: tuple[str, str]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        for option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
            self._socket.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
        self._socket.bind((address, PORT))
        self._socket.setblocking(False)
        self._ends = ends
        self._order = itertools.count()
        self._waiting: tuple[Waiting, Waiting] = [], []  # by where they came from
        self._links: tuple[Link, Link] = Link(rate=1e9, delay=0.0), Link(rate=1e9, delay=0.0)

    def configure(self, settings: dict[str, float]) -> None:
        """Be this path in both directions, and forget what is on its way."""
        seed = int(settings.pop("seed", 1))
        self._links = Link(**settings, seed=seed), Link(**settings, seed=seed + 1000)  # type: ignore[arg-type]
        for waiting in self._waiting:
            waiting.clear()

    def run(self) -> None:
        """Until the input ends."""
        tick = 0.0
        while True:
            first = min((waiting[0][0] for waiting in self._waiting if waiting), default=None)
            timeout = None if first is None else max(first, tick + _TICK) - time.monotonic()
            ready, _, _ = select.select([sys.stdin, self._socket], [], [], timeout and max(timeout, 0.0))
            if self._socket in ready:
                self._receive()
            now = time.monotonic()
            if now >= tick + _TICK:
                tick = now
                self._deliver(now)
            if sys.stdin in ready:
                if not (line := sys.stdin.readline()):
                    return
                told = {"lost": [link.lost for link in self._links], "full": [link.overflowed for link in self._links]}
                self.configure(json.loads(line))
                print(json.dumps(told), flush=True)

    def _receive(self) -> None:
        for _ in range(64):
            try:
                data, extra, _, source = self._socket.recvmsg(65535, 64)
            except BlockingIOError:
                return
            except OSError:
                continue
            side = source[0] == self._ends[1]
            size = len(data)
            for level, kind, value in extra:
                if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
                    size = struct.unpack_from("i", value)[0]
            now, link, waiting = time.monotonic(), self._links[side], self._waiting[side]
            for each in datagrams(memoryview(data), max(size, 1)):
                at = link.arrival(len(each), now)
                if at is not None:
                    heapq.heappush(waiting, (at, next(self._order), each))

    def _deliver(self, now: float) -> None:
        for side, waiting in enumerate(self._waiting):
            due = []
            while waiting and waiting[0][0] <= now:
                due.append(heapq.heappop(waiting)[2])
            for run in runs(due):
                extra = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("H", len(run[0])))] if len(run) > 1 else []
                try:
                    self._socket.sendmsg(run, extra, 0, (self._ends[not side], PORT))
                except OSError:  # a full queue: they are lost
                    continue


if __name__ == "__main__":
    Path(sys.argv[1], (sys.argv[2], sys.argv[3])).run()
