"""One TCP and a peer that is written by hand: segments of any kind go in, and what comes out is read."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from struct import pack, unpack_from

from ikeclient.stack.interfaces import CloseReason, Inbound, Sends
from ikeclient.stack.tcp.connection import Connection
from ikeclient.stack.tcp.listener import Listener
from ikeclient.stack.tcp.options import Options, parse
from ikeclient.stack.tcp.segment import ACK, FIN, SYN
from ikeclient.stack.tcp.sequence import MASK
from ikeclient.stack.tcp.state import State
from ikeclient.stack.tcp.table import Tcp

US, PEER = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
PORT = 443
IRS = 0xFFFFFF00  # of the peer, so that its numbers soon wrap around
WINDOW = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Out:
    """A segment of ours, which may stand for several (`size` bytes each)."""

    flags: int
    sequence: int
    acknowledgment: int
    window: int
    data: bytes
    size: int
    options: Options
    ecn: int


class Rig:
    """The TCP, the time, and what its user hears."""

    def __init__(self, *, mtu: int = 1500) -> None:
        self.now = 5000.0
        self.longest = mtu
        self.queue: deque[Sends] = deque()
        self.tcp = Tcp(self, Random(1).randbytes)
        self.frame = memoryview(bytearray(66000))
        self.flow = b""
        self.iss = 0
        self.sent = 0  # our data and FIN, as numbers after the SYN
        self.got = 0  # what the peer has sent, likewise
        self.heard: list[str] = []
        self.data = bytearray()
        self.takes = True
        self.connection: Connection | None = None
        self.listener: Listener | None = None
        self.accepts = True

    # Outlet

    def ready(self, source: Sends) -> None:
        assert source not in self.queue
        self.queue.append(source)

    def mtu(self, remote: bytes) -> int:
        return self.longest

    def local(self, remote: bytes) -> bytes | None:
        return US

    # Handler

    def on_open(self) -> None:
        self.heard.append("open")

    def on_data(self, data: memoryview) -> int:
        if self.takes:
            self.data += data
            return len(data)
        return 0

    def on_end(self) -> None:
        self.heard.append("end")

    def on_writable(self) -> None:
        self.heard.append("writable")

    def on_closed(self, reason: CloseReason) -> None:
        self.heard.append(reason.name.lower())

    # The peer

    def put(
        self,
        flags: int,
        *,
        sequence: int | None = None,
        acknowledgment: int | None = None,
        data: bytes = b"",
        window: int = WINDOW,
        options: bytes = b"",
        size: int = 0,
        ecn: int = 0,
    ) -> list[Out]:
        """A segment arrives, by default the next in order that acknowledges everything; what we answer."""
        if sequence is None:
            sequence = IRS + 1 + self.got
        if acknowledgment is None:
            acknowledgment = self.iss + 1 + self.sent if flags & ACK else 0
        word = (20 + len(options)) << 10 | flags
        text = self.flow[-4:] + pack(">IIHHHH", sequence & MASK, acknowledgment & MASK, word, window, 0, 0)
        inbound = Inbound()
        inbound.fill(self.flow, memoryview(text + options + data), ecn, size)
        self.tcp.deliver(inbound, self.now)
        return self.out()

    def out(self, most: int = 1000) -> list[Out]:
        """What wants to leave."""
        found: list[Out] = []
        while self.queue and len(found) < most:
            source = self.queue.popleft()
            length = source.fill(self.frame, self.now)
            if length:
                if source.queued:
                    self.queue.append(source)
                found.append(self._read(bytes(self.frame[10:length]), int.from_bytes(self.frame[4:6], "little")))
        return found

    def _read(self, packet: bytes, size: int) -> Out:
        assert packet[12:16] == US
        assert packet[16:20] == PEER
        sequence, acknowledgment, word, window = unpack_from(">IIHH", packet, 24)
        head = 20 + (word >> 12) * 4
        return Out(
            flags=word & 0xFF,
            sequence=sequence,
            acknowledgment=acknowledgment,
            window=window,
            data=packet[head:],
            size=size,
            options=parse(memoryview(packet)[40:head]),
            ecn=packet[1] & 3,
        )

    def wait(self, seconds: float) -> list[Out]:
        """Let time pass; everything that is sent meanwhile."""
        end, found = self.now + seconds, self.out()
        while (deadline := self.tcp.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.tcp.expire(self.now)
            found += self.out()
        self.now = end
        self.tcp.expire(end)
        return found + self.out()

    # Towards a state

    def connect(self, options: bytes = b"") -> Out:
        """Our SYN."""
        self.options = options
        self.connection = self.tcp.connect(PEER, PORT, self, self.now)
        self.flow = self.connection.flow.key
        (syn,) = self.out()
        self.iss = syn.sequence
        return syn

    def establish(self, options: bytes = b"", window: int = WINDOW) -> None:
        """We have connected."""
        self.connect()
        self.put(SYN | ACK, sequence=IRS, options=options, window=window)
        assert self.state is State.ESTABLISHED

    def listen(self) -> None:
        """A port of ours is open."""

        def accept(connection: Connection) -> Rig | None:
            self.connection = connection
            return self if self.accepts else None

        self.listener = self.tcp.listen(PORT, accept)
        self.flow = PEER + US + pack(">HH", 50000, PORT)

    def receive_syn(self, options: bytes = b"") -> Out:
        """The peer connects."""
        self.listen()
        (answer,) = self.put(SYN, sequence=IRS, options=options)
        self.iss = answer.sequence
        return answer

    def shut_down(self) -> None:
        """Our FIN leaves."""
        assert self.connection is not None
        self.connection.shutdown()
        assert [out.flags & FIN for out in self.out()] == [FIN]
        self.sent += 1

    def receive_fin(self, *, acknowledges: bool = True) -> None:
        """The peer's FIN comes."""
        acknowledgment = None if acknowledges else self.iss + self.sent
        self.put(FIN | ACK, acknowledgment=acknowledgment)
        self.got += 1

    @property
    def state(self) -> State:
        """That of the connection, as the table has it."""
        table = self.tcp
        found = table._connections.get(self.flow)
        if found is not None:
            return found.state
        if self.flow in table._waiting:
            return State.TIME_WAIT
        return State.LISTEN if table._listeners else State.CLOSED

    def enter(self, state: State) -> None:
        """Bring the connection into a state along the usual way."""
        if state is State.CLOSED:
            self.flow = PEER + US + pack(">HH", PORT, 40000)
        elif state is State.LISTEN:
            self.listen()
        elif state is State.SYN_SENT:
            self.connect()
        elif state is State.SYN_RECEIVED:
            self.receive_syn()
        else:
            self.establish()
        if state in (State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSING, State.TIME_WAIT):
            self.shut_down()
        if state in (State.FIN_WAIT_2, State.TIME_WAIT):
            self.put(ACK)
        if state in (State.CLOSE_WAIT, State.LAST_ACK, State.TIME_WAIT):
            self.receive_fin()
        if state is State.CLOSING:
            self.receive_fin(acknowledges=False)
        if state is State.LAST_ACK:
            self.shut_down()
        assert self.state is state
        self.now += 10  # whatever is limited to some per second is so no more
