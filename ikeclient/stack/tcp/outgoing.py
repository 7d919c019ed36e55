"""What a connection owes the network besides data and acknowledgements, and whether it waits to be asked for it."""

from __future__ import annotations

_CHALLENGE_INTERVAL = 0.5


class Outgoing:
    """What waits.

    `queued`: the connection waits to be asked. `reset`: sequence number and acknowledgment of a RST; `probe`: an
    acknowledgement that asks for an answer.
    """

    __slots__ = ("_challenged", "probe", "queued", "reset")

    def __init__(self) -> None:
        self.queued = False
        self._challenged = -_CHALLENGE_INTERVAL
        self.probe = False
        self.reset: tuple[int, int] | None = None

    def enqueue(self) -> bool:
        """Wait to be asked; false if that is so already."""
        if self.queued:
            return False
        self.queued = True
        return True

    def emptied(self) -> None:
        """There is nothing (more)."""
        self.queued = False

    def may_challenge(self, now: float) -> bool:
        """Whether an odd segment is answered, which is done twice a second (RFC 5961 section 7).

        The limit is this connection's own: one that is shared would tell a third party of other connections.
        """
        if now - self._challenged < _CHALLENGE_INTERVAL:
            return False
        self._challenged = now
        return True

    def ask(self) -> None:
        """Send a probe: keepalive, or for the peer's window."""
        self.probe = True

    def asked(self) -> None:
        """The probe is on its way."""
        self.probe = False

    def refused(self) -> None:
        """The RST is on its way."""
        self.reset = None

    def refuse(self, sequence: int, acknowledgment: int) -> None:
        """Send a RST."""
        self.reset = sequence, acknowledgment
