"""What is looked after while a link is up: signs of life, worn keys, the size of the path, and the NAT's mapping.

Two timers, each named for what moves it.

- LOOK is moved by traffic, and by whatever is in doubt. What it judges (packets that find no answer) is the absence of
  events, so it comes once a second while there is something to judge. An idle tunnel has no such timer: the first
  packet brings it back (`traffic`), for which the owner watches while `asleep`.
- KEEPALIVE is moved by whatever is sent: it comes when nothing has been sent for `KEEPALIVE` seconds. It runs only
  behind a NAT.

Without a link neither runs.
"""

from __future__ import annotations

from enum import Enum, auto

from ikeclient.ike.timers import Timers
from ikeclient.tunnel.data_keeper import DataKeeper
from ikeclient.tunnel.data_path import LOOK
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.roaming import SILENT, Roaming
from ikeclient.tunnel.session import Session
from ikeclient.tunnel.state import State

KEEPALIVE = 20.0  # RFC 3948 section 4
SOON = 0.1  # seconds before its time in which a timer counts as expired: clocks are not that exact
QUIET = 25.0  # seconds after the last packet in which its consequences show (`data_path`, `dataplane.bulk`)
SILENCE = 4.0  # sending without hearing anything for this long causes a liveness check


class Timer(Enum):
    """What is waited for."""

    LOOK = auto()
    KEEPALIVE = auto()


class Housekeeping:
    """Looks after one link at a time, from `begin` to `end`. Call `stir` after everything that happens."""

    def __init__(self, session: Session, roaming: Roaming, data_keeper: DataKeeper) -> None:
        self._session = session
        self._roaming = roaming
        self._data_keeper = data_keeper
        self._timers: Timers[Timer] = Timers()
        self._link: Link | None = None
        self._looking: float | None = None  # when the next look is due
        self._keeping = False  # whether the keepalive's timer runs

    def begin(self, link: Link) -> None:
        """Look after `link` from now on, and after no other one."""
        self.end()
        self._link = link
        self.traffic()

    def end(self) -> None:
        """Look after nothing any more."""
        self._link, self._looking, self._keeping = None, None, False
        for timer in Timer:
            self._timers.cancel(timer)

    @property
    def deadline(self) -> float | None:
        """When to call `handle_timer` at the latest."""
        return self._timers.next

    @property
    def asleep(self) -> bool:
        """Whether the first packet that is sent or comes is to be told with `traffic`."""
        return self._link is not None and (self._looking is None or self._looking > self._now() + LOOK)

    def _now(self) -> float:
        return self._session.ports.clock()

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for timer in self._timers.expired(now):
            if timer is Timer.LOOK and self._link is not None:
                self._looking = None
                self._look(self._link, now)
            elif timer is Timer.KEEPALIVE:
                self._nothing_sent(now)

    # The look

    def traffic(self) -> None:
        """Look at the traffic that begins now."""
        self._look_at(self._now() + LOOK)

    def stir(self) -> None:
        """Arm the timers for what may have changed."""
        link, ike = self._link, self._session.status.ike
        if link is None:
            return
        now = self._now()
        self._look_at(self._next_look(link, now))
        if not self._keeping and ike is not None and ike.nat.local:
            self._keeping = True
            self._timers.set(Timer.KEEPALIVE, max((self._session.pump.last_sent or now) + KEEPALIVE, now))

    def _look_at(self, at: float | None) -> None:
        """Look at that time, or sooner if that is due within a moment; None: there is nothing to look at."""
        if self._looking is not None and self._looking <= (at if at is not None else self._now() + LOOK):
            return
        self._looking = at
        if at is None:
            self._timers.cancel(Timer.LOOK)
        else:
            self._timers.set(Timer.LOOK, at)

    def _next_look(self, link: Link, now: float) -> float | None:
        """When to look again if nothing happens; None if there is no reason to."""
        pump, ike = self._session.pump, link.ike
        heard = max(ike.last_heard, pump.last_inbound or ike.last_heard)
        times = [self._data_keeper.next_look(now), self._roaming.path_mtu.next_look]
        if self._session.status.life.state is State.MOVING or self._roaming.path_mtu.searching:
            times.append(now + LOOK)
        if now - max(pump.last_outbound or -QUIET, pump.last_inbound or -QUIET) < QUIET:
            times.append(now + LOOK)
        if ike.unanswered_since is not None:
            times.append(max(ike.unanswered_since, heard) + SILENT)
        return min((time if time > now else now + LOOK for time in times if time is not None), default=None)

    def _look(self, link: Link, now: float) -> None:
        swallowed = self._ask(link, now)
        self._roaming.look_after(link, now, swallowed=swallowed)
        self._data_keeper.look_after(link, now, searching=self._roaming.path_mtu.searching)

    def _ask(self, link: Link, now: float) -> bool:
        """Tell IKE of signs of life, and have it ask for one; returns whether what is sent finds no answer."""
        pump, ike = self._session.pump, link.ike
        if pump.last_inbound is not None:
            ike.heard(pump.last_inbound)
        swallowed = pump.last_outbound is not None and pump.last_outbound > ike.last_heard + SILENCE
        if swallowed:
            ike.check_liveness(now)
        for spi in pump.rekey_due():
            ike.rekey_child(spi, now)
        return swallowed

    # The keepalive

    def _nothing_sent(self, now: float) -> None:
        """Keep the NAT's mapping, unless something was sent since the timer was set."""
        pump, ike = self._session.pump, self._session.status.ike
        left = (pump.last_sent or 0.0) + KEEPALIVE - now
        if left <= SOON:
            left = KEEPALIVE
            if ike is None or not ike.nat.local:
                self._keeping = False
                return
            pump.send_keepalive()
        self._timers.set(Timer.KEEPALIVE, now + left)
