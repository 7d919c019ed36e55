"""Segments of a connection that is established, until its end (RFC 9293 section 3.10.7.4).

A segment in order costs a few comparisons; whatever is unusual takes a path of its own and ends there.
"""

from __future__ import annotations

from ikeclient.stack.interfaces import CloseReason
from ikeclient.stack.tcp.ecn import EXPERIENCED
from ikeclient.stack.tcp.opening import Opening
from ikeclient.stack.tcp.segment import ACK, FIN, PSH, RST, SYN, Segment
from ikeclient.stack.tcp.sequence import MASK, unwrap
from ikeclient.stack.tcp.state import GONE, RECEIVING, Input, State, after


class Arrival(Opening):
    """A connection as segments arrive for it."""

    __slots__ = ()

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
        if not self._acknowledge(segment, start, now):
            return
        if stamps is not None and start <= receiver.acknowledged:
            stamps.update(segment.value_and_echo[0], now)  # not before the ACK field has shown that it is the peer's
        if flags & FIN and self.state in RECEIVING:
            receiver.note_fin(start + len(segment.data))
        if segment.data and self.state in RECEIVING:
            self._take(segment, start, now)
        if receiver.fin == receiver.next and self.state in RECEIVING and receiver.take_fin():
            self._peer_finished(now)
        if self.state not in GONE:
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
        if segment.has_blocks:
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
            if self.state in GONE:
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
        if not receiver.is_plain(segment.length) or segment.has_blocks or segment.ecn == EXPERIENCED:
            return False
        if stamps is not None:
            value = segment.value_and_echo[0]
            if not segment.stamped or stamps.is_old(value, now):
                return False
            if position == receiver.acknowledged:
                stamps.update(value, now)
        if receiver.tuner.is_due(now):
            self._tune(segment, now)
        if self._life.at is not None:
            self._life.heard(now)
        if sender.peer.update(segment.window, position, una):
            sender.opened(now)
            self._wake()
        receiver.advance(segment.length, segment.count, now)
        self._hand_over(segment.data)
        if self.state not in GONE:
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
            return self.state not in GONE
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
        if receiver.tuner.is_due(now):
            self._tune(segment, now)
        for part in receiver.place(start, data, segment.count, now):
            if self._left:  # meanwhile
                self._reset(CloseReason.RESET)
                return
            self._hand_over(part)
            if self.state in GONE:
                return

    def _tune(self, segment: Segment, now: float) -> None:
        """Fit the receive window to what a round trip has brought."""
        receiver, stamps = self._receiver, self._stamps
        if stamps is not None and (sent := stamps.when(segment.value_and_echo[1], now)) is not None:
            receiver.tuner.measure(now - sent)
        receiver.tuner.look(now, receiver.promised)

    def _hand_over(self, part: memoryview) -> None:
        """Let the user have what is next in order; what is not taken waits. The connection may be over afterwards."""
        receiver, taken = self._receiver, 0
        if self._handler is not None and not receiver.buffer.size:
            taken = self._handler.on_data(part)
            if self.state in GONE:
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
        if self.state in GONE:
            return
        if segment.data and not flags & SYN and start + len(segment.data) <= receiver.next:
            receiver.place(start, segment.data, 1, now)  # all of it came before, and is acknowledged as such
        self._repeat_acknowledgement(segment.length, now)
        self._arm()
