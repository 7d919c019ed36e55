"""What is looked after while a link is up: signs of life, worn keys, the size of the path, and the NAT's mapping.

Two timers, each named for what moves it. The look comes once a second, since what it judges (packets that find no
answer) is the absence of events. The keepalive comes when nothing has been sent for `KEEPALIVE` seconds: it is moved by
whatever is sent. Without a link neither runs.
"""

from __future__ import annotations

import asyncio

from ikeclient.tunnel.data_keeper import DataKeeper
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.roaming import Roaming
from ikeclient.tunnel.session import Session

LOOK = 1.0
KEEPALIVE = 20.0  # RFC 3948 section 4
SOON = 0.1  # seconds before its time in which a timer counts as expired: clocks are not that exact
SILENCE = 4.0  # sending without hearing anything for this long causes a liveness check


class Housekeeping:
    """Looks after one link at a time, from `begin` to `end`."""

    def __init__(self, session: Session, roaming: Roaming, data_keeper: DataKeeper) -> None:
        self._session = session
        self._roaming = roaming
        self._data_keeper = data_keeper
        self._look_timer: asyncio.TimerHandle | None = None
        self._keepalive_timer: asyncio.TimerHandle | None = None

    def begin(self, link: Link) -> None:
        """Look after `link` from now on, and after no other one."""
        self.end()
        self._look_timer = self._session.ports.later(LOOK, self._look, link)
        self._keepalive_timer = self._session.ports.later(KEEPALIVE, self._nothing_sent)

    def end(self) -> None:
        """Look after nothing any more."""
        for timer in (self._look_timer, self._keepalive_timer):
            if timer is not None:
                timer.cancel()
        self._look_timer = self._keepalive_timer = None

    def _look(self, link: Link) -> None:
        now = self._session.ports.clock()
        self._look_timer = self._session.ports.later(LOOK, self._look, link)
        swallowed = self._ask(link, now)
        self._roaming.look_after(link, now, swallowed=swallowed)
        self._data_keeper.look_after(link, now, searching=self._roaming.searching)

    def _ask(self, link: Link, now: float) -> bool:
        """Tell IKE of signs of life, and have it ask for one; returns whether what is sent finds no answer."""
        pump, initiator = self._session.pump, link.driver.initiator
        if pump.last_inbound is not None:
            initiator.heard(pump.last_inbound)
        swallowed = pump.last_outbound is not None and pump.last_outbound > initiator.last_heard + SILENCE
        if swallowed:
            initiator.check_liveness(now)
        for spi in pump.rekey_due():
            initiator.rekey_child(spi, now)
        link.driver.flush()
        return swallowed

    def _nothing_sent(self) -> None:
        """Keep the NAT's mapping, unless something was sent since the timer was set."""
        ports, pump, ike = self._session.ports, self._session.pump, self._session.status.ike
        left = (pump.last_sent or 0.0) + KEEPALIVE - ports.clock()
        if left <= SOON:
            left = KEEPALIVE
            if ike is not None and ike.nat.local:
                pump.send_keepalive()
        self._keepalive_timer = ports.later(left, self._nothing_sent)
