"""The variables of one connection (RFC 9293 section 3.3.1), its timeouts (section 3.10.8) and its end.

Nothing is sent from here: `_wake` says that there is something to send, and `fill` writes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from ikeclient.stack.interfaces import CloseReason, Handler
from ikeclient.stack.tcp.ecn import Ecn
from ikeclient.stack.tcp.frame import Flow
from ikeclient.stack.tcp.handshake import Handshake
from ikeclient.stack.tcp.life import Life
from ikeclient.stack.tcp.options import TIMESTAMPS_LENGTH
from ikeclient.stack.tcp.outgoing import Outgoing
from ikeclient.stack.tcp.receiver import Receiver
from ikeclient.stack.tcp.send_timer import Kind
from ikeclient.stack.tcp.sender import Sender
from ikeclient.stack.tcp.services import Services
from ikeclient.stack.tcp.state import GONE, Input, State, after
from ikeclient.stack.tcp.timestamps import Timestamps

FALLBACK_MTU = 576, 1280  # what every path carries (RFC 9293 section 3.7.1)
_PATIENCE = 2, 4  # timeouts in a row that tell of a black hole: for a size that never arrived, and for one that did


class ControlBlock(ABC):
    """What `Opening`, `Arrival`, `Output` and `Connection` share.

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
        self._sender = Sender(handshake.iss + 1, services.flights)
        self._receiver = Receiver(0, scale=0, selective=False, size=0, windows=services.windows)
        self._left = False  # by its user
        self._starved = False  # the user was told that there is no room

    # What leaves

    @abstractmethod
    def fill(self, frame: memoryview, now: float) -> int:
        """Write the next frame; see `stack.interfaces.Sends`."""

    def _wake(self) -> None:
        if self._out.enqueue():
            self._services.outlet.ready(self)

    @property
    def queued(self) -> bool:
        """See `stack.interfaces.Sends`."""
        return self._out.queued

    @property
    def _options_length(self) -> int:
        return 0 if self._stamps is None else TIMESTAMPS_LENGTH

    def _stamp(self, now: float) -> tuple[int, int] | None:
        stamps = self._stamps
        return None if stamps is None else (stamps.value(now), stamps.recent)

    def _repeat_acknowledgement(self, length: int, now: float) -> None:
        """Data, which may have been sent again, is always answered; what has none, twice a second."""
        if length or self._out.may_challenge(now):
            self._receiver.acks.at_once()
            self._wake()

    def _challenge(self, now: float) -> None:
        if self._out.may_challenge(now):
            self._receiver.acks.at_once()
            self._wake()

    # Timeouts

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

    def expire(self, now: float) -> None:
        """Its time has come, perhaps."""
        self.armed = None
        if self.state in GONE:
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

    def _suspect_black_hole(self) -> None:
        """After timeouts in a row, try what every path carries: perhaps nobody tells that it is too long (RFC 8899)."""
        sender, overhead = self._sender, self.flow.overhead
        size = max(FALLBACK_MTU) - overhead - self._options_length
        if sender.timer.backoffs >= _PATIENCE[sender.proven] and sender.mss > size:
            sender.set_mss(size)

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
