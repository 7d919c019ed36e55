"""Notices that the machine moved to another network, or was not there for a while.

What happens makes it look, and an idle machine is left alone:

- The kernel's notifications ring a bell. What they say is not read, since the difference of two snapshots is the truth
  however many notifications came or were lost.
- The end of a sleep steps the clock on the wall, of which a timer tells at once. How long it was is the growth of the
  gap between CLOCK_BOOTTIME, which runs while the machine sleeps, and CLOCK_MONOTONIC, which does not.
- SIGCONT tells that this process goes on after it was stopped. One that was starved, or frozen without a signal, is
  known by a timer that comes far too late.

A look once a minute covers for a bell that never rings. If notifications or that timer are not permitted, a tick once a
second takes their place.

A look follows a notification almost at once, because every hundredth of a second counts while a tunnel is cut off, and
because a move is many small changes: carrier, address, route. When they keep coming, looks are spaced instead, but
nothing that comes prolongs a wait: a flood cannot starve the looks, and the last state is always seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Protocol

from ikeclient.net.model import IPAddress
from ikeclient.net.watch import netlink
from ikeclient.net.watch.clock import POLL, ClockBell, next_round
from ikeclient.net.watch.probe import Probes
from ikeclient.net.watch.snapshot import Change, OuterAddress, RouteTo, Snapshot, candidates, difference

Clock = Callable[[], float]

TICK = 1.0
TOLERANCE = 2.0
PACE = 0.25
BURST = 5
_FORBIDDEN = frozenset({errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOSYS})


class Source(Protocol):
    """Where snapshots come from; methods raise OSError when they cannot tell."""

    def snapshot(self, *, ignore: Collection[str], remotes: Iterable[IPAddress], mark: int) -> Snapshot:
        """The network as it is now; see `Netlink.snapshot`."""

    def route_to(self, remote: IPAddress, *, mark: int = 0, source: IPAddress | None = None) -> RouteTo | None:
        """The kernel's decision; see `Netlink.route_to`."""

    def close(self) -> None:
        """Give back what is open."""


def boottime() -> float:
    """Seconds since the machine started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SleepWatch:
    """Tells, whenever it is asked, how long the machine slept and this process stood still since the last time.

    From `listen` on, `bell` tells that it may have slept; None if the kernel has no such thing.
    """

    def __init__(
        self,
        monotonic: Clock = time.monotonic,
        boot: Clock = boottime,
        open_bell: Callable[[], ClockBell] = ClockBell,
    ) -> None:
        self._monotonic = monotonic
        self._boot = boot
        self._open_bell = open_bell
        self.bell: ClockBell | None = None
        self.reset(TICK)

    def listen(self) -> ClockBell | None:
        """Open `bell` and return it."""
        with contextlib.suppress(OSError):
            self.bell = self._open_bell()
        return self.bell

    def close(self) -> None:
        """Close `bell`."""
        if self.bell is not None:
            self.bell.close()
            self.bell = None

    def reset(self, within: float) -> None:
        """Forget what was before. It is asked again `within` so many seconds, unless this process stands still."""
        self._last = self._monotonic(), self._boot()
        self._due = self._last[0] + within
        self._stopped = False

    def continued(self, *_: object) -> None:
        """Know that this process was stopped since the last time; a handler of SIGCONT."""
        self._stopped = True

    def measure(self, within: float) -> tuple[float, float]:
        """Seconds slept and seconds stalled, each 0.0 up to TOLERANCE, and `reset`.

        If it is known that the process was stopped, that counts from the last time.
        """
        (then, boot_then), due, stopped = self._last, self._due, self._stopped
        self.reset(within)
        awake = self._last[0] - then
        slept = self._last[1] - boot_then - awake
        stalled = awake if stopped else self._last[0] - due
        return (slept if slept > TOLERANCE else 0.0), (stalled if stalled > TOLERANCE else 0.0)


def netlink_or_probes() -> Source:
    """Netlink where it is permitted, else probes. Raises OSError when there is no telling for now."""
    source = None
    try:
        source = netlink.Netlink()
        source.snapshot()
    except OSError as error:
        if source is not None:
            source.close()
        if error.errno in _FORBIDDEN:
            return Probes()
        raise
    return source


class _Looker:
    """Takes snapshots and asks for routes; a source that fails is opened anew."""

    __slots__ = ("_mark", "_open", "_remotes", "_source", "ignore")

    def __init__(self, open_source: Callable[[], Source], ignore: Collection[str], mark: int) -> None:
        self._open = open_source
        self._mark = mark
        self._remotes: tuple[IPAddress, ...] = ()
        self._source: Source | None = None
        self.ignore = frozenset(ignore)

    def watch(self, remotes: tuple[IPAddress, ...]) -> None:
        """Make the routes to these addresses part of every snapshot."""
        self._remotes = remotes

    def read(self) -> Snapshot | None:
        """The network as it is now; None if there is no telling."""
        try:
            return self._opened().snapshot(ignore=self.ignore, remotes=self._remotes, mark=self._mark)
        except OSError:
            self.close()
            return None

    def route_to(self, remote: IPAddress, source: IPAddress | None) -> RouteTo | None:
        """What the kernel decides now. Raises OSError if there is no telling."""
        try:
            return self._opened().route_to(remote, mark=self._mark, source=source)
        except OSError:
            self.close()
            raise

    def _opened(self) -> Source:
        if self._source is None:
            self._source = self._open()
        return self._source

    def close(self) -> None:
        """Give back what is open."""
        if self._source is not None:
            self._source.close()
            self._source = None


class NetworkMonitor:
    """Calls `on_change` from the running event loop whenever something happened that may move a tunnel.

    - `ignore`: names of interfaces that do not exist for this monitor, first of all the tunnel's own.
    - `mark`: the firewall mark of the packets whose routes are asked for.
    - `debounce`: seconds from a notification to the look it causes. After BURST looks they are PACE seconds apart, and
      every PACE seconds without one more makes up for one.
    - `poll`: seconds between looks that nothing caused, on the whole; without notifications at most TICK.
    - `absence`: tells how long the machine slept or this process stood still.
    - `open_source`, `open_bell`: where snapshots and notifications come from.

    Everything happens in the thread and the network namespace of the event loop, and a look takes about a millisecond.
    What the kernel refuses to tell is asked again later: nothing in here raises.
    """

    def __init__(
        self,
        on_change: Callable[[Change], None],
        *,
        ignore: Collection[str] = (),
        mark: int = 0,
        debounce: float = 0.02,
        poll: float = POLL,
        absence: SleepWatch | None = None,
        open_source: Callable[[], Source] = netlink_or_probes,
        open_bell: Callable[[], socket.socket] = netlink.listen,
    ) -> None:
        self._on_change = on_change
        self._looker = _Looker(open_source, ignore, mark)
        self._debounce, self._poll = debounce, poll
        self._absence = absence or SleepWatch(time.monotonic, boottime)
        self._open_bell = open_bell
        self._snapshot = Snapshot()
        self._bell: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._paced_until = self._next_poll = 0.0

    @property
    def snapshot(self) -> Snapshot:
        """The network when it was looked at last; empty before `start`."""
        return self._snapshot

    @property
    def listening(self) -> bool:
        """Whether the kernel's notifications arrive; if not, changes are noticed up to TICK late."""
        return self._bell is not None

    def start(self) -> None:
        """Take the first snapshot, which is reported to nobody, and watch from now on. Needs a running event loop."""
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._listen()  # first, so that nothing can happen between the snapshot and the first notification
        if (clock := self._absence.listen()) is not None:
            self._loop.add_reader(clock, self._clock_set)
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
            self._loop.add_signal_handler(signal.SIGCONT, self._measure)
            # Known before any timer that came due meanwhile, since all of them measure and each looks back only once.
            signal.signal(signal.SIGCONT, self._absence.continued)
        first = self._looker.read()
        self._snapshot = first or Snapshot()
        if first is None:
            self._look_soon()
        self._next_poll = next_round(self._loop.time(), self._poll)
        self._rest()
        self._absence.reset(self._left)

    def close(self) -> None:
        """Stop watching and give everything back. `on_change` is not called any more."""
        for timer in (self._tick_timer, self._look_timer):
            if timer is not None:
                timer.cancel()
        self._tick_timer = self._look_timer = None
        self._stop_listening()
        self._ignore_clock()
        self._looker.close()
        if self._loop is not None:
            with contextlib.suppress(ValueError, RuntimeError):
                self._loop.remove_signal_handler(signal.SIGCONT)
        self._loop = None

    def watch(self, *remotes: IPAddress) -> None:
        """From now on the routes to these addresses are part of every snapshot, and of the present one."""
        self._looker.watch(remotes)
        routes = tuple(route for remote in remotes if (route := self.route_to(remote)))
        self._snapshot = replace(self._snapshot, routes=routes)

    def look(self) -> Change | None:
        """Look at once, because something else suggests it. Calls `on_change` as usual and returns the same."""
        if self._loop is None:
            return None
        return self._look(*self._absence.measure(self._left))

    def route_to(self, remote: IPAddress, *, source: IPAddress | None = None) -> RouteTo | None:
        """What the kernel decides now for marked packets to `remote`, from `source` if given; None without a way."""
        try:
            return self._looker.route_to(remote, source)
        except OSError:
            return None if source else self._snapshot.route_to(remote)

    def sources_for(self, remote: IPAddress) -> tuple[OuterAddress, ...]:
        """The addresses of the latest snapshot that can speak to `remote`, the best first.

        The kernel's own choice leads, even if it is in a tunnel of somebody else's. Of the other candidates only those
        count whose packets would leave by their own interface, since no other network would pass them on.
        """
        known = {address.address: address for address in self._snapshot.addresses}
        sources: dict[IPAddress, OuterAddress] = {}
        chosen = self.route_to(remote)
        if chosen is not None and chosen.interface not in self._looker.ignore:
            unknown = OuterAddress(index=chosen.index, interface=chosen.interface, address=chosen.source)
            sources[chosen.source] = known.get(chosen.source, unknown)
        for candidate in candidates(self._snapshot, remote.version):
            route = self.route_to(remote, source=candidate.address)
            if route is not None and route.index == candidate.index:
                sources.setdefault(candidate.address, candidate)
        return tuple(sources.values())

    def _listen(self) -> None:
        assert self._loop is not None
        try:
            self._bell = self._open_bell()
        except OSError:
            return
        self._loop.add_reader(self._bell, self._rung)

    def _stop_listening(self) -> None:
        if self._bell is not None and self._loop is not None:
            self._loop.remove_reader(self._bell)
            self._bell.close()
            self._bell = None

    def _ignore_clock(self) -> None:
        if self._absence.bell is not None and self._loop is not None:
            self._loop.remove_reader(self._absence.bell)
            self._absence.close()

    @property
    def _left(self) -> float:
        """Seconds until the next tick."""
        assert self._loop is not None
        assert self._tick_timer is not None
        return max(0.0, self._tick_timer.when() - self._loop.time())

    def _rest(self) -> None:
        """Wait for the next tick: often if something can only be noticed by it."""
        assert self._loop is not None
        now = self._loop.time()
        when = next_round(now, self._poll)
        if self._bell is None or self._absence.bell is None:
            when = min(when, now + TICK)
        self._tick_timer = self._loop.call_at(when, self._ticked)

    def _hurry(self) -> None:
        """Have the next tick come sooner, now that something can only be noticed by it."""
        if self._tick_timer is not None:
            self._tick_timer.cancel()
            self._rest()

    def _clock_set(self) -> None:
        assert self._absence.bell is not None
        try:
            self._absence.bell.rung()
        except OSError:
            self._ignore_clock()
            self._hurry()
        self._measure()

    def _measure(self) -> None:
        """Look if the machine slept or this process stood still."""
        slept, stalled = self._absence.measure(self._left)
        if slept or stalled:
            self._look(slept, stalled)

    def _rung(self) -> None:
        assert self._bell is not None
        try:
            netlink.drain(self._bell)
        except OSError:
            self._stop_listening()
            self._hurry()
        self._look_soon()

    def _look_soon(self) -> None:
        if self._look_timer is not None or self._loop is None:
            return
        pause = self._paced_until - BURST * PACE - self._loop.time()
        self._look_timer = self._loop.call_later(max(self._debounce, pause), self._look_now)

    def _look_now(self) -> None:
        assert self._loop is not None
        self._look_timer = None
        self._paced_until = max(self._paced_until, self._loop.time()) + PACE
        self.look()

    def _ticked(self) -> None:
        assert self._loop is not None
        deaf = self._bell is None
        if deaf:
            self._listen()
        self._rest()
        slept, stalled = self._absence.measure(self._left)
        if slept or stalled or deaf or self._loop.time() >= self._next_poll:
            self._look(slept, stalled)

    def _look(self, slept: float, stalled: float) -> Change | None:
        assert self._loop is not None
        self._next_poll = next_round(self._loop.time(), self._poll)
        new = self._looker.read()
        if new is None:
            self._look_soon()
            change = None
        else:
            change = difference(self._snapshot, new)
            self._snapshot = new
        if slept or stalled:
            change = replace(change or Change(), resumed=bool(slept), slept=slept, stalled=stalled)
        if change is not None:
            self._on_change(change)
        return change
