"""Segments before a connection is established: SYN-SENT and SYN-RECEIVED (RFC 9293 sections 3.10.7.3 and 3.10.7.4)."""

from __future__ import annotations

from ikeclient.stack.interfaces import CloseReason
from ikeclient.stack.tcp.control_block import FALLBACK_MTU, ControlBlock
from ikeclient.stack.tcp.handshake import Handshake
from ikeclient.stack.tcp.receiver import Receiver
from ikeclient.stack.tcp.segment import ACK, RST, SYN, Segment
from ikeclient.stack.tcp.sequence import MASK, unwrap
from ikeclient.stack.tcp.state import GONE, Input, State, after


class Opening(ControlBlock):
    """A connection that is being opened."""

    __slots__ = ()

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
        mss = handshake.segment_size(FALLBACK_MTU[overhead > 40] - overhead)
        sender.open(mss, handshake.peer_window, handshake.scales[0], handshake.position, selective=handshake.selective)
        handshake.measure(sender.trip, now)
        if sender.trip.smoothed:
            self._receiver.tuner.measure(sender.trip.smoothed)
        if handshake.ecn:
            self._ecn.enable()
        if handshake.passive and not self._services.opened(self.flow):
            self._reset(None)
            return False
        if self._handler is not None:
            self._handler.on_open()
        if self.state is State.ESTABLISHED and sender.finishing:
            self.state = after(self.state, Input.SHUTDOWN)
        return self.state not in GONE
