"""How an IKE SA ends: why, what the peer is told, and how long."""

from __future__ import annotations

from ikeclient.errors import IkeclientError
from ikeclient.ike.v2.message import window
from ikeclient.wire.registry import NotifyType


class Ending:
    """`error` is why the SA ends, `reason` what the DELETE says, `timeout` how many seconds its answer is awaited."""

    def __init__(self) -> None:
        self.error: IkeclientError | None = None
        self.reason: NotifyType | None = None
        self.timeout = window.TIMEOUT_CLOSING

    def because(self, error: IkeclientError | None) -> None:
        """Give the cause; the first one counts."""
        self.error = self.error or error

    def broken(self, error: IkeclientError) -> None:
        """Give a cause that counts whatever was given before."""
        self.error = error

    def tell(self, reason: NotifyType | None) -> None:
        """Tell the peer this in the DELETE."""
        self.reason = reason

    def without_waiting(self) -> None:
        """Repeat the DELETE for long: the peer may be busy with a request before it."""
        self.timeout = window.TIMEOUT_LEAVING
