"""One connection: what its user asks for (RFC 9293 sections 3.10.1 to 3.10.6), and what the host knows of its path.

What arrives is in `arrival` and `opening`, what leaves in `output`, what all of them share in `control_block`. Nothing
is sent from inside a call: each only says that there is something to send, and `fill` writes it.
"""

from __future__ import annotations

from ikeclient.stack.interfaces import CloseReason, Data, Handler
from ikeclient.stack.tcp.arrival import Arrival
from ikeclient.stack.tcp.control_block import FALLBACK_MTU
from ikeclient.stack.tcp.output import Output
from ikeclient.stack.tcp.segment import Segment
from ikeclient.stack.tcp.sequence import MASK, unwrap
from ikeclient.stack.tcp.state import GONE, RECEIVING, Input, State, after

_SHUTTABLE = State.ESTABLISHED, State.CLOSE_WAIT


class Connection(Arrival, Output):
    """A TCP connection; `stack.interfaces.Stream` for its user, `Sends` for the host."""

    __slots__ = ()

    # For the table

    def begin(self, handler: Handler) -> None:
        """Tell this handler what happens, and send our SYN."""
        self._handler = handler
        self._wake()

    def answer(self, segment: Segment, now: float) -> None:
        """A listener got this SYN: answer it."""
        assert self._handshake is not None
        self._heard_syn(self._handshake, segment, now)
        self._wake()

    def adopt(self, handler: Handler) -> None:
        """A listener's user wants it."""
        self._handler = handler

    def unreachable(self, sequence: int, *, hard: bool) -> None:
        """ICMP says so. Only a connection that is being opened ends by it (RFC 9293 section 3.9.2.2, RFC 5461)."""
        handshake = self._handshake
        if hard and handshake is not None and sequence == handshake.iss & MASK:
            self._end(Input.ABORT, CloseReason.UNREACHABLE)

    def too_big(self, sequence: int, mtu: int, now: float) -> bool:
        """ICMP says that a segment was longer than `mtu`; whether it is one in flight (RFC 5927 section 7)."""
        sender = self._sender
        position = unwrap(sequence, sender.una)
        if self._handshake is not None or not sender.una <= position < sender.nxt:
            return False
        self._shrink(mtu, now)
        return True

    def _shrink(self, mtu: int, now: float) -> None:
        overhead = self.flow.overhead
        size = max(mtu, FALLBACK_MTU[overhead > 40]) - overhead - self._options_length
        if size < self._sender.mss:
            self._sender.shrink(size, now)
            self._wake()
            self._arm()

    def mtu_changed(self, now: float) -> None:
        """The host knows a new path MTU; only a smaller one counts."""
        if self._handshake is None:
            self._shrink(self._services.outlet.mtu(self.flow.remote[0]), now)

    def hurry(self, now: float) -> None:
        """The path works again."""
        handshake = self._handshake
        if handshake is not None:
            handshake.repeat()
            self._wake()
            return
        sender = self._sender
        # Segments that were made shorter because none was answered may not have been to blame.
        size = self._services.outlet.mtu(self.flow.remote[0]) - self.flow.overhead - self._options_length
        if sender.mss < min(size, sender.agreed):
            sender.set_mss(min(size, sender.agreed))
        sender.hurry(now)
        self._arm()

    def drop(self) -> None:
        """A listener has too many that are not established: forget this one."""
        self._end(Input.ABORT, None)

    def lose_address(self) -> None:
        """Our address is gone."""
        if self.state not in GONE:
            self._end(Input.ABORT, CloseReason.ADDRESS_LOST)

    # What the user asks for

    @property
    def remote(self) -> tuple[bytes, int]:
        """Address and port of the peer."""
        return self.flow.remote

    @property
    def local(self) -> tuple[bytes, int]:
        """Our own."""
        return self.flow.local

    @property
    def waiting(self) -> int:
        """Bytes that can be read."""
        return self._receiver.buffer.size

    @property
    def unsent(self) -> int:
        """Bytes that were taken and that the peer has not acknowledged."""
        buffer = self._sender.buffer
        return buffer.end - buffer.start

    @property
    def at_end(self) -> bool:
        """Whether everything that the peer sent before its FIN was read."""
        receiver = self._receiver
        return not receiver.buffer.size and 0 <= receiver.fin < receiver.next

    def send(self, data: Data) -> int:
        """Take data; see `stack.interfaces.Stream`."""
        if isinstance(data, bytes):
            return self._append(data)
        taken = self._append(bytes(data[: max(self._sender.room, 0)]))
        self._starved |= taken < len(data)
        return taken

    def give(self, data: bytearray) -> int:
        """Take data by reference; see `stack.interfaces.Stream`."""
        return self._append(data)

    def _append(self, data: bytes | bytearray) -> int:
        sender = self._sender
        if sender.finishing or self.state in GONE:
            return 0
        room = sender.room
        size = len(data)
        if size > room:
            self._starved = True
            if room <= 0:
                return 0
            sender.append(memoryview(data)[:room])
            size = room
        elif size:
            sender.append(data)
        if self._handshake is None:
            self._wake()
        return size

    def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Copy what has arrived; see `stack.interfaces.Stream`."""
        size = self._receiver.buffer.read_into(memoryview(buffer))
        self._was_read(size)
        return size

    def receive(self, limit: int) -> bytes:
        """What has arrived, at most `limit` bytes."""
        data = self._receiver.buffer.read(limit)
        self._was_read(len(data))
        return data

    def _was_read(self, size: int) -> None:
        receiver = self._receiver
        if size and self.state in RECEIVING:
            receiver.tuner.read(size)
            if receiver.has_opened():
                receiver.acks.at_once()
                self._wake()

    def shutdown(self) -> None:
        """Send FIN behind what was taken; receiving goes on."""
        sender = self._sender
        if sender.finishing or self.state in GONE:
            return
        sender.finish()
        if self.state in _SHUTTABLE:
            self.state = after(self.state, Input.SHUTDOWN)
            self._wake()

    def close(self) -> None:
        """Shut down and receive no more; see `stack.interfaces.Stream`."""
        if self._left or self.state in GONE:
            return
        self._left = True
        if self._handshake is not None or self._receiver.buffer.size:
            self.abort()
            return
        if self.state is State.FIN_WAIT_2:
            self._life.leave()
            self._arm()
        self.shutdown()

    def abort(self) -> None:
        """Send RST and forget everything."""
        if self.state in GONE:
            return
        self._left = True
        self._handler = None
        if self.state is State.SYN_SENT:
            self._end(Input.ABORT, None)
        else:
            self._reset(None)

    def keep_alive(self, idle: float | None) -> None:
        """Probe after so many seconds of silence; None stops it."""
        self._life.keep_alive(idle)
        self._arm()
