"""One connection: what arrives, what leaves, and what its user asks for (RFC 9293 section 3.10).

A segment in order costs a few comparisons; whatever is unusual takes a path of its own and ends there. Nothing is sent
from inside `arrive` or a call of the user: both only say that there is something to send, and `fill` writes it.
"""

from __future__ import annotations

from ikeclient.stack.interfaces import CloseReason, Data, Handler
from ikeclient.stack.tcp.ecn import Ecn
from ikeclient.stack.tcp.frame import Flow
from ikeclient.stack.tcp.handshake import Handshake
from ikeclient.stack.tcp.life import Life
from ikeclient.stack.tcp.options import TIMESTAMPS_LENGTH, of_segment
from ikeclient.stack.tcp.outgoing import Outgoing
from ikeclient.stack.tcp.receiver import Receiver
from ikeclient.stack.tcp.segment import ACK, FIN, PSH, RST, SYN, Segment
from ikeclient.stack.tcp.send_timer import Kind
from ikeclient.stack.tcp.sender import Sender
from ikeclient.stack.tcp.sequence import MASK, unwrap
from ikeclient.stack.tcp.services import Services
from ikeclient.stack.tcp.state import Input, State, after
from ikeclient.stack.tcp.timestamps import Timestamps

# Tuples, because looking for a member of an enumeration in a set calls its hash function, which is in Python.
_RECEIVING = State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2
_SHUTTABLE = State.ESTABLISHED, State.CLOSE_WAIT
_GONE = State.CLOSED, State.TIME_WAIT
_FALLBACK = 576, 1280  # what every path carries (RFC 9293 section 3.7.1)
_BLOCKS_ROOM = 28  # of three SACK blocks among the options
_PATIENCE = 2, 4  # timeouts in a row that tell of a black hole: for a size that never arrived, and for one that did


class Connection:
    """A TCP connection; `stack.interfaces.Stream` for its user, `Sends` for the host.

    `armed` is when the table will look at it next, None for never.
    """

    __slots__ = (
        "_ecn",
        "_handler",
        "_handshake",
        "_left",
        "_life",
        "_out",
        "_receiver",
        "_sender",
        "_services",
        "_stamps",
        "_starved",
        "armed",
        "flow",
        "state",
    )

    def __init__(self, flow: Flow, handshake: Handshake, stamps: Timestamps, services: Services) -> None:
        self.flow = flow
        self.state = State.SYN_RECEIVED if handshake.passive else after(State.CLOSED, Input.OPEN)
        self.armed: float | None = None
        self._services = services
        self._handshake: Handshake | None = handshake
        self._handler: Handler | None = None
        self._stamps: Timestamps | None = stamps
        self._ecn = Ecn()
        self._life = Life()
        self._out = Outgoing()
        self._sender = Sender(handshake.iss + 1)
        self._receiver = Receiver(0, scale=0, selective=False, size=0, windows=services.windows)
        self._left = False  # by its user
        self._starved = False  # the user was told that there is no room

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

    def expire(self, now: float) -> None:
        """Its time has come, perhaps."""
        self.armed = None
        if self.state in _GONE:
            return
        handshake, timer, acks, life = self._handshake, self._sender.timer, self._receiver.acks, self._life
        if handshake is not None:
            if handshake.at is not None and handshake.at <= now:
                if not handshake.expire():
                    self._end(Input.ABORT, CloseReason.TIMED_OUT)
                    return
                self._wake()
        elif timer.at is not None and timer.at <= now:
            kind = self._sender.expire(now)
            if kind is Kind.NONE:
                self._reset(CloseReason.TIMED_OUT)
                return
            if kind is Kind.PERSIST:
                self._out.ask()
            elif kind is Kind.RETRANSMIT:
                self._suspect_black_hole()
            self._wake()
        if acks.at is not None and acks.at <= now:
            acks.expire(now)
            self._wake()
        if life.at is not None and life.at <= now:
            probe, over = life.expire(now)
            if over:
                self._reset(CloseReason.TIMED_OUT)
                return
            if probe:
                self._out.ask()
                self._wake()
        self._arm()

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
        size = max(mtu, _FALLBACK[overhead > 40]) - overhead - self._options_length
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
        if self.state not in _GONE:
            self._end(Input.ABORT, CloseReason.ADDRESS_LOST)

    # What arrives

    def arrive(self, segment: Segment, now: float) -> None:
        """Take a segment of this connection (section 3.10.7.4)."""
        if self._handshake is not None and not self._open(self._handshake, segment, now):
            return
        receiver, stamps, flags, length = self._receiver, self._stamps, segment.flags, segment.length
        if flags & ~PSH == ACK and segment.sequence == receiver.next & MASK:
            plain = self._is_plain_data if length else self._is_plain
            if plain(segment, now):
                return
        start = unwrap(segment.sequence, receiver.next)
        if stamps is not None:
            if segment.stamped:
                if stamps.is_old(segment.value_and_echo[0], now) and not flags & RST:
                    self._repeat_acknowledgement(length, now)
                    return
            elif not flags & RST:
                return  # RFC 7323 section 3.2
        if not receiver.acceptable(start, length):
            self._unacceptable(start, segment, now)
            return
        if flags & (RST | SYN):
            if flags & RST and start == receiver.next:
                self._end(Input.RESET, CloseReason.RESET)
            else:
                self._challenge(now)  # RFC 5961 sections 3.2 and 4.2
            return
        if not flags & ACK:
            return
        if stamps is not None and start <= receiver.acknowledged:
            stamps.update(segment.value_and_echo[0], now)
        if not self._acknowledge(segment, start, now):
            return
        if segment.data and self.state in _RECEIVING:
            self._take(segment, start, now)
        if flags & FIN and self.state in _RECEIVING:
            receiver.note_fin(start + len(segment.data))
        if receiver.fin == receiver.next and self.state in _RECEIVING and receiver.take_fin():
            self._peer_finished(now)
        if self.state not in _GONE:
            if receiver.acks.due or self._sender.may_send:
                self._wake()
            self._arm()

    def _is_plain(self, segment: Segment, now: float) -> bool:
        """Take an acknowledgement that is next in order and says nothing special; false if it is to be looked at."""
        sender, stamps = self._sender, self._stamps
        una = sender.una
        position = una + ((segment.acknowledgment - una) & MASK)
        if not una < position <= sender.nxt or self.state is not State.ESTABLISHED or not sender.recovery.is_plain:
            return False
        if segment.has_blocks or self._ecn.codepoint:
            return False
        following = self._receiver.next
        if stamps is not None:
            value = segment.value_and_echo[0]
            if not segment.stamped or stamps.is_old(value, now):
                return False
            if following == self._receiver.acknowledged:
                stamps.update(value, now)
        if self._life.at is not None:
            self._life.heard(now)
        changed = sender.peer.update(segment.window, following, position)
        sender.advance(position, now)
        if changed:
            sender.opened(now)
        if self._starved and sender.room > sender.enough and self._handler is not None:
            self._starved = False
            self._handler.on_writable()
            if self.state in _GONE:
                return True
        if sender.may_send or self._receiver.acks.due:
            self._wake()
        at = sender.timer.at
        if at is None or self.armed is None or at < self.armed:
            self._arm()
        return True

    def _is_plain_data(self, segment: Segment, now: float) -> bool:
        """Take data that is next in order while we send nothing; false if it is to be looked at."""
        sender, receiver, stamps = self._sender, self._receiver, self._stamps
        position, una = receiver.next, sender.una
        if segment.acknowledgment != una & MASK or self.state is not State.ESTABLISHED or self._left:
            return False
        if not receiver.is_plain(segment.length) or segment.has_blocks or self._ecn.codepoint:
            return False
        tuner = receiver.tuner
        if stamps is not None:
            value, echo = segment.value_and_echo
            if not segment.stamped or stamps.is_old(value, now):
                return False
            if position == receiver.acknowledged:
                stamps.update(value, now)
            if tuner.is_due(now) and (sent := stamps.when(echo, now)) is not None:
                tuner.measure(now - sent)
        tuner.look(now)
        if self._life.at is not None:
            self._life.heard(now)
        if sender.peer.update(segment.window, position, una):
            sender.opened(now)
            self._wake()
        receiver.advance(segment.length, segment.count, now)
        self._hand_over(segment.data)
        if self.state not in _GONE:
            acks = receiver.acks
            if acks.due:
                self._wake()
            elif acks.at is not None and (self.armed is None or acks.at < self.armed):
                self._arm()
        return True

    def _acknowledge(self, segment: Segment, start: int, now: float) -> bool:
        """The ACK field; false if nothing else of the segment counts."""
        sender = self._sender
        una = sender.una
        position = unwrap(segment.acknowledgment, una)
        if position > sender.nxt or position < una - sender.peer.largest:
            self._challenge(now)  # RFC 5961 section 5.2
            return False
        if self._life.at is not None:
            self._life.heard(now)
        changed = sender.peer.update(segment.window, start, position)
        recovery = sender.recovery
        # What comes late tells nothing of selection that is not known by now.
        blocks = segment.options.blocks if segment.has_blocks and recovery.selective and position >= una else ()
        if position > una or blocks:
            echo = None
            if not recovery.at_ease and segment.stamped and self._stamps is not None:
                echo = self._stamps.when(segment.value_and_echo[1], now)
            ranges = [(unwrap(low, una), unwrap(high, una)) for low, high in blocks]
            sender.acknowledge(position, ranges, echo, now)
        elif position == una and not segment.length and not changed:
            sender.duplicate_acknowledgement()
        if changed:
            sender.opened(now)
        ecn = self._ecn
        if ecn.codepoint and ecn.received(segment.ecn if segment.length else 0, segment.flags) and sender.congested():
            ecn.reduced()
        if sender.fin_acknowledged and not self._our_fin_arrived(now):
            return False
        if self._starved and sender.room > sender.enough and self._handler is not None:
            self._starved = False
            self._handler.on_writable()
            return self.state not in _GONE
        return True

    def _our_fin_arrived(self, now: float) -> bool:
        """Whether there is something left of the connection."""
        state = self.state
        if state is State.FIN_WAIT_1:
            self.state = after(state, Input.ACK_OF_FIN)
            if self._left:
                self._life.linger(now)
        elif state in (State.CLOSING, State.LAST_ACK):
            self._finish(Input.ACK_OF_FIN, now)
            return False
        return True

    def _take(self, segment: Segment, start: int, now: float) -> None:
        receiver = self._receiver
        data = segment.data
        if self._left and start + len(data) > receiver.next:
            self._reset(CloseReason.RESET)  # nobody reads it (section 3.6.1)
            return
        tuner = receiver.tuner
        if segment.stamped and self._stamps is not None:
            sent = self._stamps.when(segment.value_and_echo[1], now)
            if sent is not None:
                tuner.measure(now - sent)
        tuner.look(now)
        for part in receiver.place(start, data, segment.count, now):
            if self._left:  # meanwhile
                self._reset(CloseReason.RESET)
                return
            self._hand_over(part)
            if self.state in _GONE:
                return

    def _hand_over(self, part: memoryview) -> None:
        """Let the user have what is next in order; what is not taken waits. The connection may be over afterwards."""
        receiver, taken = self._receiver, 0
        if self._handler is not None and not receiver.buffer.size:
            taken = self._handler.on_data(part)
            if self.state in _GONE:
                return
            receiver.tuner.read(taken)
        if taken < len(part):
            receiver.buffer.append(part[taken:])

    def _peer_finished(self, now: float) -> None:
        handler = self._handler
        if self.state is State.FIN_WAIT_2:
            if handler is not None:
                handler.on_end()
            if self.state is State.FIN_WAIT_2:
                self._finish(Input.FIN, now)
            return
        self.state = after(self.state, Input.FIN)
        if handler is not None:
            handler.on_end()

    def _unacceptable(self, start: int, segment: Segment, now: float) -> None:
        """It lies outside the window: answer it, unless it is a RST (section 3.10.7.4, first)."""
        receiver, flags = self._receiver, segment.flags
        if flags & RST:
            return
        if start == receiver.next and flags & ACK and not flags & SYN:
            self._acknowledge(segment, start, now)  # the window is closed, but the acknowledgement counts
        if self.state in _GONE:
            return
        if segment.data and not flags & SYN and start + len(segment.data) <= receiver.next:
            receiver.place(start, segment.data, 1, now)  # all of it came before, and is acknowledged as such
        self._repeat_acknowledgement(segment.length, now)
        self._arm()

    def _repeat_acknowledgement(self, length: int, now: float) -> None:
        """Data, which may have been sent again, is always answered; what has none, twice a second."""
        if length or self._out.may_challenge(now):
            self._receiver.acks.at_once()
            self._wake()

    def _challenge(self, now: float) -> None:
        if self._out.may_challenge(now):
            self._receiver.acks.at_once()
            self._wake()

    # How it is opened

    def _open(self, handshake: Handshake, segment: Segment, now: float) -> bool:
        """A segment before the connection is established; whether it is now, and the segment counts further."""
        flags, expected = segment.flags, (handshake.iss + 1) & MASK
        right = bool(flags & ACK) and segment.acknowledgment == expected
        if self.state is State.SYN_SENT:  # section 3.10.7.3
            if flags & ACK and not right:
                if not flags & RST:
                    self._services.refuse(self.flow, segment)
            elif flags & RST:
                if right:
                    self._end(Input.RESET, CloseReason.REFUSED)
            elif flags & SYN:
                self._heard_syn(handshake, segment, now)
                if right:
                    self._establish(handshake, Input.SYN_ACK, now)
                    self._receiver.acks.at_once()
                else:
                    self.state = after(self.state, Input.SYN)
                    handshake.repeat()
                self._wake()
                self._arm()
            return False
        receiver = self._receiver
        start = unwrap(segment.sequence, receiver.next)
        if flags & SYN and start == receiver.next - 1 and not flags & RST:
            if right and not handshake.passive:
                self._establish(handshake, Input.ACK_OF_SYN, now)  # both have opened, and this answers our SYN
                receiver.acks.at_once()
            else:
                handshake.repeat()
            self._wake()
            self._arm()
            return False
        stamps = self._stamps
        old = stamps is not None and segment.stamped and stamps.is_old(segment.value_and_echo[0], now)
        if not receiver.acceptable(start, segment.length) or old:
            if not flags & RST:
                self._repeat_acknowledgement(0, now)
            return False
        if flags & (RST | SYN):
            if flags & RST and start == receiver.next:
                self._end(Input.RESET, CloseReason.REFUSED)
            else:
                self._challenge(now)
            return False
        if not flags & ACK:
            return False
        if not right:
            self._services.refuse(self.flow, segment)
            return False
        return self._establish(handshake, Input.ACK_OF_SYN, now)

    def _heard_syn(self, handshake: Handshake, segment: Segment, now: float) -> None:
        handshake.heard(segment)
        if not handshake.stamped:
            self._stamps = None
        elif self._stamps is not None:
            self._stamps.begin(segment.value_and_echo[0], now)
        size = handshake.mss - self._options_length
        self._receiver = Receiver(
            handshake.position + 1,
            scale=handshake.scales[1],
            selective=handshake.selective,
            size=size,
            windows=self._services.windows,
        )
        self._receiver.promise(handshake.window(self._receiver.tuner.capacity))

    def _establish(self, handshake: Handshake, event: Input, now: float) -> bool:
        """The connection is open; whether anybody wants it."""
        self._handshake = None
        self.state = after(self.state, event)
        sender = self._sender
        overhead = self.flow.overhead
        mss = handshake.segment_size(_FALLBACK[overhead > 40] - overhead)
        sender.open(mss, handshake.peer_window, handshake.scales[0], handshake.position, selective=handshake.selective)
        handshake.measure(sender.trip, now)
        if handshake.ecn:
            self._ecn.enable()
        if handshake.passive and not self._services.opened(self):
            self._reset(None)
            return False
        if self._handler is not None:
            self._handler.on_open()
        if self.state is State.ESTABLISHED and sender.finishing:
            self.state = after(self.state, Input.SHUTDOWN)
        return self.state not in _GONE

    # How it ends

    def _end(self, event: Input, reason: CloseReason | None) -> None:
        """It is over at once."""
        self.state = after(self.state, event)
        self._services.gone(self)
        handler, self._handler = self._handler, None
        self._release()
        if handler is not None and reason is not None:
            handler.on_closed(reason)

    def _finish(self, event: Input, now: float) -> None:
        """Both ends have said everything."""
        self.state = after(self.state, event)
        if self.state is State.TIME_WAIT:
            self._services.wait(
                self.flow, self._sender.nxt, self._receiver.next, self._stamps, self._receiver.acks.due > 0, now
            )
        else:
            self._services.gone(self)
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.on_closed(CloseReason.CLOSED)

    def _reset(self, reason: CloseReason | None) -> None:
        """Send RST; it is over."""
        self._out.refuse(self._sender.nxt, self._receiver.next)
        self._wake()
        self._end(Input.ABORT, reason)

    def _release(self) -> None:
        self._sender.clear()
        self._receiver.clear()

    # What leaves

    def _wake(self) -> None:
        if self._out.enqueue():
            self._services.outlet.ready(self)

    def _arm(self) -> None:
        at = self._sender.timer.at
        other = self._receiver.acks.at
        if other is not None and (at is None or other < at):
            at = other
        if self._handshake is not None:
            at = self._handshake.at
        other = self._life.at
        if other is not None and (at is None or other < at):
            at = other
        if at is not None and (self.armed is None or at < self.armed):
            self.armed = at
            self._services.arm(self, at)

    @property
    def _options_length(self) -> int:
        return 0 if self._stamps is None else TIMESTAMPS_LENGTH

    def _stamp(self, now: float) -> tuple[int, int] | None:
        stamps = self._stamps
        return None if stamps is None else (stamps.value(now), stamps.recent)

    def fill(self, frame: memoryview, now: float) -> int:
        """Write the next frame; see `stack.interfaces.Sends`."""
        out = self._out
        if self.state in _GONE:
            return self._fill_end(frame)
        handshake, sender = self._handshake, self._sender
        if handshake is not None:
            length = self._fill_opening(handshake, frame, now)
        elif sender.has_work:
            length = self._fill_open(frame, now)
        else:
            acks = self._receiver.acks
            length = self._fill_acknowledgement(frame, now) if acks.due or out.probe else 0
            if not acks.due:  # most often: then it need not be asked once more
                out.emptied()
                self._arm()
            return length
        if not length:
            out.emptied()
            self._arm()
        return length

    @property
    def queued(self) -> bool:
        """See `stack.interfaces.Sends`."""
        return self._out.queued

    def _fill_open(self, frame: memoryview, now: float) -> int:
        sender, receiver = self._sender, self._receiver
        mss = sender.mss - _BLOCKS_ROOM if receiver.has_blocks else sender.mss
        found = sender.next_range(mss, now)
        if found is None:
            if receiver.acks.due or self._out.probe:
                return self._fill_acknowledgement(frame, now)
            sender.check_window(now)
            return 0
        start, end = found
        buffer = sender.buffer
        length = min(end, buffer.end) - start
        flags = ACK
        if end >= buffer.end:
            flags |= PSH if length else 0
            if end > buffer.end:
                flags |= FIN
        ecn, codepoint = self._ecn, 0
        if ecn.codepoint:
            new = start >= sender.nxt and length > 0
            flags |= ecn.flags(new=new)
            codepoint = ecn.codepoint if new else 0
        blocks = receiver.blocks() if receiver.has_blocks else []
        options = of_segment(self._stamp(now), blocks)
        window = receiver.advertise()
        at = self.flow.write(frame, start, receiver.next, flags, window, options, length, mss, codepoint)
        if length:
            buffer.copy(frame, at, start, length)
        sender.sent(start, end, mss, now)
        receiver.acks.sent()
        return at + length

    def _fill_acknowledgement(self, frame: memoryview, now: float) -> int:
        sender, receiver, out = self._sender, self._receiver, self._out
        sequence = sender.nxt
        if out.probe:
            out.asked()
            sequence = sender.una - 1  # outside of the window, so that the peer answers
        flags = ACK | self._ecn.flags(new=False) if self._ecn.codepoint else ACK
        blocks = receiver.blocks() if receiver.has_blocks else []
        options = of_segment(self._stamp(now), blocks)
        length = self.flow.write(frame, sequence, receiver.next, flags, receiver.advertise(), options)
        receiver.acks.sent()
        return length

    def _fill_opening(self, handshake: Handshake, frame: memoryview, now: float) -> int:
        if not handshake.due:
            receiver = self._receiver
            if self.state is State.SYN_RECEIVED and receiver.acks.due:
                receiver.acks.sent()
                options = of_segment(self._stamp(now), [])
                return self.flow.write(frame, handshake.iss + 1, receiver.next, ACK, receiver.advertise(), options)
            return 0
        flags, acknowledgment = SYN | handshake.flags(), 0
        if self.state is State.SYN_RECEIVED:
            flags, acknowledgment = flags | ACK, handshake.position + 1
        window = handshake.window(self._receiver.tuner.capacity)
        stamp = self._stamp(now)
        options = handshake.options((0, 0) if stamp is None else stamp)
        handshake.sent(now)
        self._receiver.acks.sent()
        return self.flow.write(frame, handshake.iss, acknowledgment, flags, window, options)

    def _fill_end(self, frame: memoryview) -> int:
        out = self._out
        if out.reset is not None:
            sequence, acknowledgment = out.reset
            out.refused()
            return self.flow.write(frame, sequence, acknowledgment, RST | ACK, 0)
        out.emptied()
        return 0

    def _suspect_black_hole(self) -> None:
        """After timeouts in a row, try what every path carries: perhaps nobody tells that it is too long (RFC 8899)."""
        sender, overhead = self._sender, self.flow.overhead
        size = max(_FALLBACK) - overhead - self._options_length
        if sender.timer.backoffs >= _PATIENCE[sender.proven] and sender.mss > size:
            sender.set_mss(size)

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
        if sender.finishing or self.state in _GONE:
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
        if size and self.state in _RECEIVING:
            receiver.tuner.read(size)
            if receiver.has_opened():
                receiver.acks.at_once()
                self._wake()

    def shutdown(self) -> None:
        """Send FIN behind what was taken; receiving goes on."""
        sender = self._sender
        if sender.finishing or self.state in _GONE:
            return
        sender.finish()
        if self.state in _SHUTTABLE:
            self.state = after(self.state, Input.SHUTDOWN)
            self._wake()

    def close(self) -> None:
        """Shut down and receive no more; see `stack.interfaces.Stream`."""
        if self._left or self.state in _GONE:
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
        if self.state in _GONE:
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
