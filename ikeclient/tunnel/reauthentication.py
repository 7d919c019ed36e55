"""Authenticates anew in parallel to the link in use, which goes on until the new one can carry its traffic.

A gateway may limit how long an authentication is good for (RFC 4478), and only a new IKE SA authenticates
(RFC 7296 section 2.8.3). Each attempt is a login: it is not cut short while the gateway may be working on it, and the
pauses between attempts grow. Credentials that a proven gateway refused several times are left alone, since more of that
can lock an account: the connection in use goes on for as long as the gateway lets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ikeclient.errors import AuthenticationFailed, IkeclientError, NoResponse
from ikeclient.ike.events import ChildEstablished, Event
from ikeclient.tunnel.link import Link

PAUSE = 5.0  # seconds between the first two attempts; doubled each time
LONGEST_PAUSE = 80.0
TIMEOUT = 3.0  # seconds for an attempt without any answer yet, if the link in use ends meanwhile


class Owner(Protocol):
    """Whose link in use is to be replaced."""

    def open_parallel(self, on_event: Callable[[Event], None]) -> Link:
        """Open a link that reports to `on_event`. Raises IkeclientError."""

    def take_over(self, new: Link, events: list[Event]) -> None:
        """Use the link, which is up and has reported `events`. Raises IkeclientError if that is of no use."""

    def report(self, link: Link, event: Event) -> None:
        """Take what a link that took over reports from then on."""

    def reauthentication_failed(self, error: IkeclientError) -> None:
        """Hear why an attempt did not succeed."""

    def leave(self, link: Link) -> None:
        """Take a link that was given up, until the gateway knows."""


class Reauthentication:
    """One new authentication, tried until it succeeds or is cancelled.

    After so many `refusals` of our credentials there is no further attempt.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        refusals: int,
    ) -> None:
        self.link: Link | None = None
        self._refusals = refusals  # of our credentials in a row, that are still to be had
        self._owner = owner
        self._task = asyncio.get_running_loop().create_task(self._run())

    def restart(self) -> None:
        """Begin again, on the path that is in use now."""
        self.cancel()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def last_chance(self) -> None:
        """Wait for the link being opened, if there is one: a moment, or as long as a login goes on. Then give up."""
        link = self.link
        while link is not None and link is self.link:
            await asyncio.wait({self._task}, timeout=TIMEOUT)
            if not link.driver.initiator.logging_in:
                break
        self.cancel()

    def cancel(self) -> None:
        """Give up; the gateway forgets a link that was being opened."""
        self._task.cancel()
        self._forget()

    def _forget(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.driver.give_up()
            self._owner.leave(link)

    async def _run(self) -> None:
        pause = PAUSE
        while self._refusals > 0:
            try:
                await self._once()
            except IkeclientError as error:
                proven = self.link is not None and self.link.driver.initiator.refused_by_gateway
                self._refusals -= proven and isinstance(error, AuthenticationFailed)
                self._forget()
                self._owner.reauthentication_failed(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return

    async def _once(self) -> None:
        events: list[Event] = []
        up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        taken = False

        def heard(event: Event) -> None:
            if taken:
                self._owner.report(link, event)
                return
            events.append(event)
            if up.done():
                return
            match event:
                case ChildEstablished():
                    up.set_result(None)

        link = self.link = self._owner.open_parallel(heard)
        link.start()
        ends: list[asyncio.Future[Any]] = [up, link.driver.closed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not up.done():
            raise link.driver.closed.result().error or NoResponse("the connection ended before it was up")
        up.result()
        self.link, taken = None, True
        try:
            self._owner.take_over(link, events)
        except IkeclientError:
            self.link, taken = link, False
            raise
