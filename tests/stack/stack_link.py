"""Two hosts with a TCP table each, joined by a link under virtual time.

Frames are cut into packets by the real codec, so that headers and checksums are those that would travel. The link can
lose, double, delay and reorder packets, has a rate and a queue, a longest packet that it tells of or not, and can fall
silent in one direction. What arrives at the same time is merged, as the real codec merges it, if that is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from ikeclient.esp.codec.choice import examine, segment
from ikeclient.esp.codec.sums import ones_sum
from ikeclient.stack.interfaces import FRAME_HEADER, LONGEST_PACKET, CloseReason, Inbound, Quoted, Sends
from ikeclient.stack.tcp.connection import Connection
from ikeclient.stack.tcp.segment import PSH
from ikeclient.stack.tcp.table import Tcp

V4 = (bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
V6 = (b"\xfd" + bytes(14) + b"\1", b"\xfd" + bytes(14) + b"\2")


@dataclass(slots=True, kw_only=True)
class Path:
    """One direction of the link. Times in seconds, `rate` in bytes a second and `queue` in bytes (0: without limit)."""

    delay: float = 0.01
    loss: float = 0.0
    double: float = 0.0
    reorder: float = 0.0  # how many are late
    late: float = 0.005  # by at most so much
    rate: float = 0.0
    queue: int = 0
    mark: int = 0  # ECN: mark instead of dropping above so many bytes in the queue
    longest: int = 65535
    tells: bool = True
    silent: list[tuple[float, float]] = field(default_factory=list)
    drop: Callable[[bytes], bool] | None = None


class Clock:
    """Virtual time, and what happens then."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._events, (when, self._count, what))

    def next(self) -> float | None:
        return self._events[0][0] if self._events else None

    def run_one(self) -> None:
        when, _, what = heappop(self._events)
        self.now = max(self.now, when)
        what()


class Host:
    """A table, and the outlet that it sends through."""

    def __init__(self, world: World, address: bytes, seed: int, path: Path) -> None:
        self.world, self.address, self.path = world, address, path
        self.longest = 1500
        self.random = Random(seed)
        self.tcp = Tcp(self, self.random.randbytes)
        self.peer: Host = self
        self.queue: deque[Sends] = deque()
        self.frame = memoryview(bytearray(66000))
        self.packets: list[bytes] = []
        self.trace: Callable[[float, bytes], None] | None = None
        self.sent = self.frames = self.lost = 0
        self._free = 0.0  # when the link has sent what waits
        self._inbound = Inbound()
        self._arriving: list[tuple[float, bytes]] = []

    # Outlet

    def ready(self, source: Sends) -> None:
        assert source not in self.queue, "ready twice"
        self.queue.append(source)

    def mtu(self, remote: bytes) -> int:
        return self.longest

    def local(self, remote: bytes) -> bytes | None:
        return self.address

    # The link

    def pump(self) -> None:
        """Send until nobody has anything."""
        queue = self.queue
        rounds = 0
        while queue:
            rounds += 1
            assert rounds < 100_000, "it never stops sending"
            source = queue.popleft()
            length = source.fill(self.frame, self.world.clock.now)
            if length:
                if source.queued:
                    queue.append(source)
                self.frames += 1
                self._cut(length)

    def _cut(self, length: int) -> None:
        frame = bytearray(self.frame[:length])
        count, size, last, _, _ = examine(frame, length)
        assert count, "a frame that makes no sense"
        assert count <= 64
        assert length <= FRAME_HEADER + LONGEST_PACKET
        stride = size + 8
        out = bytearray(count * stride)
        segment(frame, length, out, 0, stride, 0, 0, 0, count)
        for index in range(count):
            at = index * stride
            self._carry(bytes(out[at : at + (size if index < count - 1 else last)]))

    def _carry(self, packet: bytes) -> None:
        path, clock, random = self.path, self.world.clock, self.world.random
        self.sent += 1
        if self.trace is not None:
            self.trace(clock.now, packet)
        if len(packet) > path.longest:
            if path.tells:
                self._tell(packet, path.longest)
            return
        silent = any(start <= clock.now < end for start, end in path.silent)
        if silent or random.random() < path.loss or (path.drop is not None and path.drop(packet)):
            self.lost += 1
            return
        leaves = clock.now
        if path.rate:
            waiting = max(self._free - clock.now, 0.0) * path.rate
            if path.queue and waiting > path.queue:
                self.lost += 1
                return
            if path.mark and waiting > path.mark and packet[1] & 3:
                packet = marked(packet)
            self._free = leaves = max(self._free, clock.now) + len(packet) / path.rate
        for _ in range(2 if random.random() < path.double else 1):
            late = random.random() * path.late if random.random() < path.reorder else 0.0
            self._arrive(leaves + path.delay + late, packet)

    def _arrive(self, when: float, packet: bytes) -> None:
        clock = self.world.clock
        peer = self.peer
        if self.world.merge:
            # What arrives within a moment is handed over together.
            when = (int(when / self.world.merge) + 1) * self.world.merge
        clock.at(when, lambda: peer.take(packet))

    def _tell(self, packet: bytes, mtu: int) -> None:
        four = packet[0] >> 4 == 4
        l4 = 20 if four else 40
        source, destination = (packet[12:16], packet[16:20]) if four else (packet[8:24], packet[24:40])
        flow = destination + source + packet[l4 + 2 : l4 + 4] + packet[l4 : l4 + 2]
        quoted = Quoted(flow=flow, sequence=int.from_bytes(packet[l4 + 4 : l4 + 8], "big"))
        clock = self.world.clock

        def tell() -> None:
            self.longest = min(self.longest, mtu)
            self.tcp.too_big(quoted, mtu, clock.now)

        clock.at(clock.now + self.path.delay, tell)

    def take(self, packet: bytes) -> None:
        """A packet has arrived."""
        self.packets.append(packet)

    def hand_over(self) -> None:
        """Give what has arrived to the table, merged or not."""
        packets, self.packets = self.packets, []
        while packets:
            packet = packets.pop(0)
            four = packet[0] >> 4 == 4
            l4 = 20 if four else 40
            check(packet)
            size = 0
            if self.world.merge:
                head = l4 + (packet[l4 + 12] >> 4) * 4
                first = len(packet) - head
                parts = [packet]
                while packets and first and follows(parts[-1], packets[0], l4, head, first, len(parts)):
                    check(packets[0])
                    parts.append(packets.pop(0))
                if len(parts) > 1:
                    size = first
                    packet = packet[: l4 + 13] + parts[-1][l4 + 13 : l4 + 14] + packet[l4 + 14 :]
                    packet += b"".join(part[head:] for part in parts[1:])
            flow = packet[12:20] if four else packet[8:40]
            ecn = packet[1] & 3 if four else packet[1] >> 4 & 3
            view = memoryview(packet)[l4:]
            self._inbound.fill(flow + packet[l4 : l4 + 4], view, ecn, size)
            self.tcp.deliver(self._inbound, self.world.clock.now)


def follows(before: bytes, packet: bytes, l4: int, head: int, size: int, count: int) -> bool:
    """Whether the codec would merge the packet with those before."""
    if len(packet) <= head or count >= 40 or before[l4 + 13] & PSH or len(before) - head != size:
        return False
    same = (slice(l4 - 8, l4 + 4), slice(l4 + 8, l4 + 13), slice(l4 + 14, l4 + 16), slice(l4 + 18, head))
    if any(before[part] != packet[part] for part in same) or packet[l4 + 13] & ~PSH != 0x10 or before[1] != packet[1]:
        return False
    expected = int.from_bytes(before[l4 + 4 : l4 + 8], "big") + size & 0xFFFFFFFF
    return int.from_bytes(packet[l4 + 4 : l4 + 8], "big") == expected and len(packet) - head <= size


def check(packet: bytes) -> None:
    """Every checksum is right."""
    if packet[0] >> 4 == 4:
        assert ones_sum(packet[:20]) == 0xFFFF
        pseudo, l4 = packet[12:20], packet[20:]
        assert int.from_bytes(packet[2:4], "big") == len(packet)
    else:
        pseudo, l4 = packet[8:40], packet[40:]
        assert int.from_bytes(packet[4:6], "big") == len(packet) - 40
    assert ones_sum(pseudo + bytes((0, 6)) + len(l4).to_bytes(2, "big") + l4) == 0xFFFF


def marked(packet: bytes) -> bytes:
    """The IPv4 packet with the mark of congestion."""
    text = bytearray(packet)
    text[1] |= 3
    text[10:12] = b"\0\0"
    text[10:12] = (ones_sum(text[:20]) ^ 0xFFFF).to_bytes(2, "big")
    return bytes(text)


class World:
    """Both hosts, and the time. `merge`: packets within so many seconds arrive together, and as one if they fit."""

    def __init__(
        self,
        seed: int = 1,
        *,
        there: Path | None = None,
        back: Path | None = None,
        addresses: tuple[bytes, bytes] = V4,
        merge: float = 0.0,
    ) -> None:
        self.clock = Clock()
        self.random = Random(seed)
        self.merge = merge
        self.a = Host(self, addresses[0], seed + 1, there or Path())
        self.b = Host(self, addresses[1], seed + 2, back or Path())
        self.a.peer, self.b.peer = self.b, self.a

    @property
    def now(self) -> float:
        return self.clock.now

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass until the condition holds; whether it does."""
        end = self.clock.now + seconds
        steps = 0
        while True:
            for host in (self.a, self.b):
                if host.packets:
                    host.hand_over()
                host.pump()
            if until is not None and until():
                return True
            times = [self.clock.next(), self.a.tcp.deadline(), self.b.tcp.deadline()]
            when = min((t for t in times if t is not None), default=None)
            if when is None or when > end:
                self.clock.now = end
                return until is not None and until()
            steps += 1
            assert steps < 5_000_000
            self.clock.now = max(self.clock.now, when)
            while (following := self.clock.next()) is not None and following <= self.clock.now:
                self.clock.run_one()
            for host in (self.a, self.b):
                deadline = host.tcp.deadline()
                if deadline is not None and deadline <= self.clock.now:
                    host.tcp.expire(self.clock.now)


class User:
    """Who uses a connection: sends what it is told to, and keeps what it gets."""

    def __init__(self, to_send: bytes = b"", *, shut: bool = True, piece: int = 65536) -> None:
        self.to_send, self.shut, self.piece = to_send, shut, piece
        self.at = 0
        self.got = bytearray()
        self.opened = self.ended = self.done = False
        self.reason: CloseReason | None = None
        self.connection: Connection | None = None
        self.takes = True  # or leaves what arrives in the connection

    def on_open(self) -> None:
        assert not self.opened
        self.opened = True
        self.push()

    def push(self) -> None:
        assert self.connection is not None
        while self.at < len(self.to_send):
            taken = self.connection.send(self.to_send[self.at : self.at + self.piece])
            self.at += taken
            if not taken:
                return
        if self.shut and not self.done:
            self.done = True
            self.connection.shutdown()

    def on_data(self, data: memoryview) -> int:
        if not self.takes:
            return 0
        self.got += data
        return len(data)

    def read(self, limit: int = 1 << 30) -> int:
        """Take what waits."""
        assert self.connection is not None
        data = self.connection.receive(limit)
        self.got += data
        return len(data)

    def on_end(self) -> None:
        assert not self.ended
        self.ended = True

    def on_writable(self) -> None:
        self.push()

    def on_closed(self, reason: CloseReason) -> None:
        assert self.reason is None
        self.reason = reason


class Source(User):
    """Sends for ever."""

    block = bytes(65536)

    def push(self) -> None:
        assert self.connection is not None
        while self.connection.send(self.block):
            pass


class Sink(User):
    """Counts."""

    size = 0

    def on_data(self, data: memoryview) -> int:
        self.size += len(data)
        return len(data)


PORT = 443


def connected(world: World, client: User, server: User, seconds: float = 60.0) -> None:
    """Open a connection from a to b."""
    listen(world, server)
    start(world, client)
    assert world.run(seconds, lambda: client.opened and server.opened)


def listen(world: World, server: User) -> None:
    def accept(connection: Connection) -> User:
        server.connection = connection
        return server

    world.b.tcp.listen(PORT, accept)


def start(world: World, client: User) -> None:
    client.connection = world.a.tcp.connect(world.b.address, PORT, client, world.now)


def join(world: World, count: int) -> list[Sink]:
    """Open connections from a to b, which a sends into for ever; where their data arrives."""
    sinks = [Sink() for _ in range(count)]
    waiting = list(sinks)

    def accept(connection: Connection) -> Sink:
        sink = waiting.pop(0)
        sink.connection = connection
        return sink

    listener = world.b.tcp.listen(PORT, accept)
    for _ in sinks:
        start(world, Source())
    assert world.run(60.0, lambda: not waiting)
    listener.close()
    return sinks
