"""Authenticates anew in parallel to the link in use, which goes on until the new one can carry its traffic.

A gateway may limit how long an authentication is good for (RFC 4478), and only a new IKE SA authenticates
(RFC 7296 section 2.8.3). Each attempt is a login: it is not cut short while the gateway may be working on it, and the
pauses between attempts grow. Credentials that a proven gateway refused several times are left alone, since more of that
can lock an account: the connection in use goes on for as long as the gateway lets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ikeclient.errors import AuthenticationFailed, IkeclientError, NoResponse
from ikeclient.ike.events import ChildEstablished, Event
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.script import Script, Task, Wait, pause

PAUSE = 5.0  # seconds between the first two attempts; doubled each time
LONGEST_PAUSE = 80.0
TIMEOUT = 3.0  # seconds for an attempt without any answer yet, if the link in use ends meanwhile


class Owner(Protocol):
    """Whose link in use is to be replaced."""

    def now(self) -> float:
        """The time, in seconds on a clock that counts sleep."""

    def open_parallel(self) -> Link:
        """Open a link whose events come to `Reauthentication.heard`. Raises IkeclientError."""

    def take_over(self, new: Link, events: Sequence[Event]) -> None:
        """Use the link, which is up and has reported `events`. Raises IkeclientError if that is of no use."""

    def reauthentication_failed(self, error: IkeclientError) -> None:
        """Hear why an attempt did not succeed."""

    def leave(self, link: Link) -> None:
        """Take a link that was given up, until the gateway knows."""


class Reauthentication:
    """One new authentication, tried until it succeeds or is cancelled: run the `task`.

    After so many `refusals` of our credentials there is no further attempt.
    """

    def __init__(self, owner: Owner, *, refusals: int) -> None:
        self.link: Link | None = None
        self._refusals = refusals  # of our credentials in a row, that are still to be had
        self._owner = owner
        self._events: list[Event] = []  # of the link, until it takes over
        self.task = Task(self._run())

    def heard(self, event: Event) -> None:
        """Take an event of the link that is being opened."""
        self._events.append(event)

    def restart(self) -> None:
        """Begin again, on the path that is in use now."""
        self.cancel()
        self.task = Task(self._run())

    def last_chance(self) -> Script[None]:
        """Wait for the link being opened, if there is one: a moment, or as long as a login goes on. Then give up."""
        link = self.link
        while link is not None and link is self.link:
            yield Wait(lambda: self.link is not link, self._owner.now() + TIMEOUT)
            if not link.ike.logging_in:
                break
        self.cancel()

    def cancel(self) -> None:
        """Give up; the gateway forgets a link that was being opened."""
        self.task.cancel()
        self._forget()

    def _forget(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.give_up()
            self._owner.leave(link)

    def _run(self) -> Script[None]:
        rest = PAUSE
        while self._refusals > 0:
            try:
                yield from self._once()
            except IkeclientError as error:
                proven = self.link is not None and self.link.ike.refused_by_gateway
                self._refusals -= proven and isinstance(error, AuthenticationFailed)
                self._forget()
                self._owner.reauthentication_failed(error)
                yield pause(self._owner.now() + rest)
                rest = min(rest * 2, LONGEST_PAUSE)
            else:
                return

    def _up(self) -> bool:
        return any(isinstance(event, ChildEstablished) for event in self._events)

    def _once(self) -> Script[None]:
        self._events.clear()
        link = self.link = self._owner.open_parallel()
        yield Wait(lambda: self._up() or link.closed is not None)
        if not self._up():
            error = link.closed.error if link.closed is not None else None
            raise error or NoResponse("the connection ended before it was up")
        self.link = None
        try:
            self._owner.take_over(link, self._events)
        except IkeclientError:
            self.link = link
            raise
