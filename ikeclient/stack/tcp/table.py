"""All TCP connections of the host: which one a segment is for, and when one is to be looked at (RFC 9293 section 3.10).

- There is one heap of times. A connection is in it once or a few times; an entry that came too early is put back, so
  that a timer that is moved to later, as with every acknowledgement, costs nothing.
- What could grow at the will of others is bounded: connections half open by the listener, TIME-WAIT by the table,
  answers to segments of no connection by a queue, what receive windows grow by together by their budget.
"""

from __future__ import annotations

import errno
from heapq import heapify, heappop, heappush

from ikeclient.stack.interfaces import LONGEST_PACKET, Entropy, Handler, Inbound, Outlet, Quoted
from ikeclient.stack.tcp.connection import Connection
from ikeclient.stack.tcp.control_block import ControlBlock
from ikeclient.stack.tcp.frame import Flow
from ikeclient.stack.tcp.handshake import SMALLEST_MSS, Handshake
from ikeclient.stack.tcp.listener import Accept, Listener
from ikeclient.stack.tcp.numbers import Numbers
from ikeclient.stack.tcp.refusals import Refusals
from ikeclient.stack.tcp.segment import ACK, RST, SYN, Segment
from ikeclient.stack.tcp.shares import Shares
from ikeclient.stack.tcp.time_wait import LENGTH, TimeWait
from ikeclient.stack.tcp.timestamps import Timestamps
from ikeclient.stack.tcp.window import WindowBudget

MOST_WAITING = 4096
_ROOM = 64
_LARGEST_MSS = LONGEST_PACKET - 200  # so that a segment fits into a frame, whatever its headers


class Tcp:
    """Connections by flow (see `stack.interfaces`), listeners by port and address."""

    __slots__ = (
        "_connections",
        "_entries",
        "_heap",
        "_listeners",
        "_numbers",
        "_refusals",
        "_segment",
        "_waiting",
        "flights",
        "outlet",
        "windows",
    )

    def __init__(self, outlet: Outlet, entropy: Entropy) -> None:
        self.outlet = outlet
        self._connections: dict[bytes, Connection] = {}
        self._waiting: dict[bytes, TimeWait] = {}  # in order of their ends, almost
        self._listeners: dict[tuple[int, bytes | None], Listener] = {}
        self._heap: list[tuple[float, int, ControlBlock]] = []
        self._entries = 0
        self._numbers = Numbers(entropy)
        self._segment = Segment()
        self._refusals = Refusals(outlet)
        self.windows = WindowBudget()
        self.flights = Shares()

    # For users

    def connect(self, remote: bytes, port: int, handler: Handler, now: float) -> Connection:
        """Open a connection. Raises `OSError` if there is no address to do that from, or no port left."""
        local = self.outlet.local(remote)
        if local is None:
            raise OSError(errno.EADDRNOTAVAIL, "the tunnel has no inner address of that family")
        addresses = remote + local
        for own in self._numbers.ports(addresses, port):
            key = addresses + port.to_bytes(2, "big") + own.to_bytes(2, "big")
            if key not in self._connections and key not in self._waiting and (own, None) not in self._listeners:
                connection = self._make(key, now, passive=False)
                connection.begin(handler)
                return connection
        raise OSError(errno.EADDRNOTAVAIL, "every local port to that destination is in use")

    def listen(self, port: int, accept: Accept, local: bytes | None = None) -> Listener:
        """Take connections to a port; to one address, or to all. Raises `OSError` if the port is taken."""
        if (port, local) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"TCP port {port} is in use inside the tunnel")
        listener = Listener(local, port, accept, self._close)
        self._listeners[port, local] = listener
        return listener

    def _close(self, listener: Listener) -> None:
        self._listeners.pop((listener.port, listener.local), None)

    def _make(self, key: bytes, now: float, *, passive: bool) -> Connection:
        flow = Flow(key)
        mss = min(max(self.outlet.mtu(flow.remote[0]) - flow.overhead, SMALLEST_MSS), _LARGEST_MSS)
        iss = self._numbers.sequence(key, now)
        handshake = Handshake(iss, mss, passive=passive)
        connection = Connection(flow, handshake, Timestamps(self._numbers.clock(key)), self)
        self._connections[key] = connection
        return connection

    @property
    def count(self) -> int:
        """How many connections there are, those in TIME-WAIT left out."""
        return len(self._connections)

    # For the host

    def deliver(self, inbound: Inbound, now: float) -> None:
        """Take a segment."""
        if self.deliver_known(inbound.flow, inbound.segment, inbound.ecn, inbound.size, now):
            return
        segment = self._segment
        if segment.read(inbound.segment, inbound.ecn, inbound.size):
            self._unknown(inbound.flow, segment, now)
        segment.release()

    def deliver_known(self, flow: bytes, text: memoryview, ecn: int, size: int, now: float) -> bool:
        """Take a segment if it is of a connection; see `stack.interfaces.Inbound`."""
        connection = self._connections.get(flow)
        if connection is None:
            return False
        segment = self._segment
        if segment.read(text, ecn, size):
            connection.arrive(segment, now)
        segment.release()
        return True

    def _unknown(self, key: bytes, segment: Segment, now: float) -> None:
        if self._waiting:
            self._sweep(now, MOST_WAITING)
        waiting = self._waiting.get(key)
        if waiting is not None:
            if not waiting.admits(segment) or self._listener(key) is None:
                if waiting.arrive(segment, now):
                    del self._waiting[key]
                return
            del self._waiting[key]
        flags = segment.flags
        listener = self._listener(key) if flags & (SYN | ACK | RST) == SYN else None
        if listener is None:
            self._refusals.refuse(key, segment)  # section 3.10.7.1
            return
        connection = self._make(key, now, passive=True)
        oldest = listener.add(connection)
        if oldest is not None:
            oldest.drop()
        connection.answer(segment, now)

    def _listener(self, key: bytes) -> Listener | None:
        port = int.from_bytes(key[-2:], "big")
        return self._listeners.get((port, key[len(key) // 2 - 2 : -4])) or self._listeners.get((port, None))

    def unreachable(self, quoted: Quoted, *, hard: bool) -> None:
        """An ICMP error has come: hard is what will not pass, such as a port without a listener."""
        connection = self._connections.get(quoted.flow)
        if connection is not None:
            connection.unreachable(quoted.sequence, hard=hard)

    def too_big(self, quoted: Quoted, mtu: int, now: float) -> bool:
        """An ICMP error tells the path MTU; whether it is of something that is in flight."""
        connection = self._connections.get(quoted.flow)
        return connection is not None and connection.too_big(quoted.sequence, mtu, now)

    def mtu_changed(self, now: float) -> None:
        """The host knows new path MTUs: segments that are too long now leave again in shorter ones."""
        for connection in list(self._connections.values()):
            connection.mtu_changed(now)

    def path_restored(self, now: float) -> None:
        """The tunnel works again: send what was lost meanwhile now, not after a timeout that was backed off."""
        for connection in list(self._connections.values()):
            connection.hurry(now)

    def forget(self, local: bytes) -> None:
        """This address of ours is gone, and with it every connection from it."""
        for key, connection in list(self._connections.items()):
            if key[len(key) // 2 - 2 : -4] == local:
                connection.lose_address()
        for key in [key for key in self._waiting if key[len(key) // 2 - 2 : -4] == local]:
            del self._waiting[key]

    def deadline(self) -> float | None:
        """When to call `expire`, at the latest."""
        return self._heap[0][0] if self._heap else None

    def expire(self, now: float) -> None:
        """Look at what is due."""
        self._sweep(now, MOST_WAITING)
        while self._heap and self._heap[0][0] <= now:
            at, _, connection = heappop(self._heap)
            if connection.armed == at:
                connection.expire(now)

    # For connections: `stack.tcp.services.Services`

    def arm(self, connection: ControlBlock, at: float) -> None:
        """Call `expire` then, or before."""
        self._entries += 1
        heap = self._heap
        heappush(heap, (at, self._entries, connection))
        if len(heap) > _ROOM + 4 * len(self._connections):
            # Entries for later are left behind whenever one for sooner is added.
            self._heap = [entry for entry in heap if entry[2].armed == entry[0]]
            heapify(self._heap)

    def opened(self, flow: Flow) -> bool:
        """One that a listener began is established; whether somebody wants it."""
        key = flow.key
        connection, listener = self._connections[key], self._listener(key)
        if listener is None or not listener.remove(key):
            return False
        handler = listener.accept(connection)
        if handler is None:
            return False
        connection.adopt(handler)
        return True

    def gone(self, connection: ControlBlock) -> None:
        """There is no such connection any more."""
        key = connection.flow.key
        if self._connections.get(key) is connection:
            del self._connections[key]
        if self._listeners and (listener := self._listener(key)) is not None:
            listener.remove(key)

    def wait(self, flow: Flow, following: int, expected: int, stamps: Timestamps | None, due: bool, now: float) -> None:
        """There is only TIME-WAIT left of one: SND.NXT and RCV.NXT, and whether an ACK is due."""
        self._connections.pop(flow.key, None)
        self._sweep(now, MOST_WAITING - 1)
        waiting = self._waiting
        waiting[flow.key] = left = TimeWait(flow, following, expected, stamps, self, now + LENGTH)
        if due:
            left.acknowledge()

    def _sweep(self, now: float, most: int) -> None:
        """Forget those in TIME-WAIT whose time is over, and the oldest if there are more than so many."""
        waiting = self._waiting
        while waiting:
            first = next(iter(waiting))
            if waiting[first].until > now and len(waiting) <= most:
                break
            del waiting[first]

    def refuse(self, flow: Flow, segment: Segment) -> None:
        """Answer a segment with a RST."""
        self._refusals.refuse(flow.key, segment)
