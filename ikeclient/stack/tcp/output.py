"""What a connection sends: segments with data, acknowledgements, SYN and RST (RFC 9293 sections 3.8 and 3.10.7)."""

from __future__ import annotations

from ikeclient.stack.tcp.control_block import ControlBlock
from ikeclient.stack.tcp.handshake import Handshake
from ikeclient.stack.tcp.options import of_segment
from ikeclient.stack.tcp.segment import ACK, FIN, PSH, RST, SYN
from ikeclient.stack.tcp.state import GONE, State

_BLOCKS_ROOM = 28  # of three SACK blocks among the options


class Output(ControlBlock):
    """A connection as the host asks it for frames (`stack.interfaces.Sends`)."""

    __slots__ = ()

    def fill(self, frame: memoryview, now: float) -> int:
        """Write the next frame; see `stack.interfaces.Sends`."""
        out = self._out
        if self.state in GONE:
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
