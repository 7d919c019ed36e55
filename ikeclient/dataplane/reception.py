"""The transports that datagrams come from, and what is known of what they bring."""

from __future__ import annotations

from collections.abc import Callable

from ikeclient.dataplane.interfaces import RunTransport, Transport

DEAFNESS = 5.0  # longer than the pauses in which a request is repeated


class Reception:
    """The attached transports of one pump.

    `transports` has for each the same transport for the fast path, if it is one for it. `last_inbound` is when genuine
    ESP last came; None before the first time.
    """

    __slots__ = ("_deaf_until", "_now", "_overflowed", "_overflows_seen", "last_inbound", "transports")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._overflowed = 0  # datagrams for which transports that are gone had no room
        self._overflows_seen = 0
        self._deaf_until = float("-inf")
        self.last_inbound: float | None = None
        self.transports: dict[Transport, RunTransport | None] = {}

    def heard(self) -> None:
        """Note that genuine ESP has come."""
        self.last_inbound = self._now()

    def detach(self, transport: Transport) -> None:
        """Forget a transport; nothing happens if it is not attached."""
        if transport in self.transports:
            self._overflowed += transport.receive_queue()[1]
            del self.transports[transport]

    @property
    def latest(self) -> Transport | None:
        """The transport attached last."""
        return next(reversed(self.transports), None)

    @property
    def overflows(self) -> int:
        """How many datagrams receive buffers had no room for."""
        return self._overflowed + sum(transport.receive_queue()[1] for transport in self.transports)

    def deaf(self) -> bool:
        """Whether datagrams lie unread or got lost in full receive buffers, now or within the last `DEAFNESS` seconds.

        What is not looked at for longer is not seen.
        """
        overflows = self.overflows
        if overflows != self._overflows_seen or any(transport.receive_queue()[0] for transport in self.transports):
            self._overflows_seen = overflows
            self._deaf_until = self._now() + DEAFNESS
        return self._now() < self._deaf_until
