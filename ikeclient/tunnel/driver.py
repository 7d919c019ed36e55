"""Joins one `Initiator` to the event loop: datagrams out, events to a callback, one timer. Nothing else.

A connection that is closed may still have to tell the gateway so, until that is acknowledged: `closed` comes first,
`done` when there is nothing left to send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ikeclient.errors import NegotiationRefused
from ikeclient.ike.events import Closed, Datagram, Event, Need, Path
from ikeclient.ike.v2.initiator import Initiator

LATE = 1.0  # seconds after which a timer shows that the process was stopped, or busy


class Driver:
    """Calls the initiator and carries out what it asks for.

    `clock` must count sleep, as lifetimes do; the loop's own clock only decides when to look again. `deaf` tells
    whether datagrams may have been missed lately.
    """

    def __init__(
        self,
        initiator: Initiator,
        clock: Callable[[], float],
        send: Callable[[Datagram], None],
        on_event: Callable[[Event], None],
        deaf: Callable[[], bool] = lambda: False,
    ) -> None:
        self.initiator = initiator
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._clock = clock
        self._send = send
        self._on_event = on_event
        self._deaf = deaf
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None  # what the timer is armed for
        self._flushing = False

    def start(self, path: Path) -> None:
        """Begin connecting along `path`."""
        self.initiator.start(path, self._clock())
        self.flush()

    def receive(self, data: bytes, path: Path) -> None:
        """Hand over one IKE message that arrived on `path`."""
        self.initiator.receive(data, path, self._clock())
        self._deliver()
        if self.initiator.next_deadline() != self._deadline:
            self._arm()

    def close(self) -> None:
        """End in order; `closed` resolves when that is done."""
        self.initiator.close(self._clock())
        self.flush()

    def give_up(self) -> None:
        """Stop connecting: `closed` resolves at once, `done` when the gateway has acknowledged that."""
        self.initiator.give_up(self._clock())
        self.flush()

    def abandon(self) -> None:
        """Forget the connection at once."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.closed.done():
            self.closed.set_result(Closed())
        if not self.done.done():
            self.done.set_result(None)

    def flush(self) -> None:
        """Send what is to be sent, deliver events, and arm the timer for the next deadline."""
        self._deliver()
        self._arm()

    def _deliver(self) -> None:
        if self._flushing:
            return  # an event's receiver called in again; the loop below sees what it caused
        self._flushing = True
        try:
            while True:
                for datagram in self.initiator.datagrams_to_send():
                    self._send(datagram)
                event = self.initiator.next_event()
                if event is None:
                    break
                if isinstance(event, Need):  # of a person, whom nobody can ask now
                    error = NegotiationRefused(
                        "the gateway asks for a credential", reason=f"the gateway says: {event.request}"
                    )
                    self.initiator.refuse(event, error, self._clock())
                    continue
                self._on_event(event)
                if isinstance(event, Closed) and not self.closed.done():
                    self.closed.set_result(event)
        finally:
            self._flushing = False

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.done.done():
            return
        deadline = self._deadline = self.initiator.next_deadline()
        if deadline is None and self.closed.done():
            self.done.set_result(None)
        if deadline is not None:
            delay = max(0.0, deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._expired)

    def _expired(self) -> None:
        now, deadline = self._clock(), self._deadline
        self._timer = self._deadline = None
        late = deadline is not None and now > deadline + LATE
        self.initiator.handle_timer(now, deaf=self._deaf() or late)
        self.flush()
