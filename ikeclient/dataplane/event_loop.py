"""The event loop of a tunnel: asyncio's, with a short way for packets.

A packet that comes alone finds every cache cold, so each function on its way costs microseconds that its sender waits
for. Here a packet descriptor's callback is called straight from the selector, before asyncio hears of anything. Timers
and everything else are asyncio's and get their turn after each look at the packets.

A source without a descriptor, such as the in-process stack, says by itself that it has packets. What it says is carried
before the next look at the descriptors, once for all that happened meanwhile; a loop without sources pays nothing.
"""

from __future__ import annotations

import asyncio
import math
import select
import selectors
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from ikeclient.dataplane.interfaces import Relayed

COALESCING_DELAY = 1e-3  # seconds: at a gigabit per second some hundred packets come in this time
PACING = 300e-6  # seconds: with runs of forty full packets this is one and a half gigabits per second

_TURN = 2e-3  # seconds for packets before timers and all else have theirs
_MOST_EVENTS = 16
Carry = Callable[[bool], object]
Relay = Callable[[int, int], Relayed | None]
_Result = TypeVar("_Result")


class PacketSelector(selectors.BaseSelector):
    """A selector for asyncio that carries packets while it waits.

    `failed` is called with an exception that left a callback, which then goes on being called.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._others = selectors.DefaultSelector()
        self._poll = select.epoll()
        self._poll.register(self._others.fileno(), select.EPOLLIN)
        self._packets: dict[int, tuple[Carry, Callable[[], bool] | None]] = {}
        self._next: list[Callable[[], None]] = []
        self._relay: tuple[int, Relay] | None = None  # and whose it is

    def call_next(self, call: Callable[[], None]) -> None:
        """Call this once before the next look at the descriptors."""
        self._next.append(call)

    def watch(
        self,
        descriptor: int,
        carry: Carry,
        wants_delay: Callable[[], bool] | None = None,
        relay: Relay | None = None,
    ) -> None:
        """Call `carry` whenever the descriptor is readable, and then wait a moment if `wants_delay` says so.

        Its argument tells whether the descriptor was found readable again right after the last call.

        `relay(poll, timeout)` may wait in our place, as epoll_wait(2), and carry packets that come alone meanwhile. It
        returns the descriptors and events that are ready then, and those whose packets it has carried just before; None
        if it has not waited. There is one.
        """
        if relay is not None:
            self._relay = descriptor, relay
        elif self._relay is not None and self._relay[0] == descriptor:
            self._relay = None
        if descriptor not in self._packets:
            self._poll.register(descriptor, select.EPOLLIN)
        self._packets[descriptor] = carry, wants_delay

    def unwatch(self, descriptor: int) -> None:
        """Stop that; nothing happens where it is not watched. To be called before the descriptor is closed."""
        if self._relay is not None and self._relay[0] == descriptor:
            self._relay = None
        if self._packets.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As any selector, for the other descriptors; returns early, perhaps with nothing, after packets.

        While packets keep coming, each packet descriptor gets its turn, for `_TURN` at the most, unless a source has
        something to say to them.
        """
        if self._next:
            self._call_next()
            timeout = 0
        poll, carry = self._poll.poll, self._carry
        relayed = self._wait(self._relay[1], timeout) if self._relay is not None and timeout != 0 else None
        ready, relayed_for = relayed or (poll(timeout, _MOST_EVENTS), ())
        others, carried = carry(ready, relayed_for)
        carried = carried or relayed_for
        if carried:
            end = time.monotonic() + _TURN
            while carried and not others and not self._next and (ready := poll(0, _MOST_EVENTS)):
                others, carried = carry(ready, carried)
                if time.monotonic() >= end:
                    break
        return self._others.select(0) if others else []

    def _wait(self, relay: Relay, timeout: float | None) -> Relayed | None:
        try:
            return relay(self._poll.fileno(), -1 if timeout is None else math.ceil(max(timeout, 0) * 1000))
        except Exception as error:
            self._failed(error)
            return [], ()

    def _call_next(self) -> None:
        calls, self._next = self._next, []
        for call in calls:
            try:
                call()
            except Exception as error:
                self._failed(error)

    def _carry(self, ready: list[tuple[int, int]], before: Collection[int]) -> tuple[bool, Collection[int]]:
        """Carry packets; whether any other descriptor is ready, and whose packets have been carried.

        `before` are those whose packets were carried just before.
        """
        others = delay = False
        carried: list[int] = []
        for descriptor, _ in ready:
            found = self._packets.get(descriptor)
            if found is None:
                others = True  # or it was unwatched by the callback of another
                continue
            carry, wants_delay = found
            try:
                carry(descriptor in before)
                delay |= wants_delay is not None and wants_delay()
            except Exception as error:
                self._failed(error)
            carried.append(descriptor)
        if delay:
            time.sleep(COALESCING_DELAY)
        return others, carried

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As any selector."""
        return self._others.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As any selector."""
        return self._others.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As any selector."""
        return self._others.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """As any selector."""
        return self._others.get_map()

    def close(self) -> None:
        """Close both selectors, and no watched descriptor."""
        self._poll.close()
        self._others.close()


class PacketLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with `packets` for descriptors that packets come from."""

    def __init__(self) -> None:
        self.packets = PacketSelector(self._carrying_failed)
        super().__init__(self.packets)

    def _carrying_failed(self, error: Exception) -> None:
        self.call_exception_handler({"message": "carrying packets failed", "exception": error, "handle": None})


class Pacer:
    """Keep what follows each call apart from what followed the last one, by at least `PACING`."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self) -> None:
        """Sleep for what is left of it."""
        left = self._last + PACING - time.monotonic()
        if left > 0:
            time.sleep(left)
        self._last = time.monotonic()


def run_loop(main: Coroutine[Any, Any, _Result]) -> _Result:
    """As `asyncio.run`, in a `PacketLoop`."""
    with asyncio.Runner(loop_factory=PacketLoop) as runner:
        return runner.run(main)


def watch(
    descriptor: int, carry: Carry, wants_delay: Callable[[], bool] | None = None, relay: Relay | None = None
) -> None:
    """Have the running loop call `carry` when the descriptor is readable; see `PacketSelector.watch`."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, PacketLoop):
        loop.packets.watch(descriptor, carry, wants_delay, relay)
    else:
        loop.add_reader(descriptor, carry, True)


def unwatch(descriptor: int) -> None:
    """Undo `watch`."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, PacketLoop):
        loop.packets.unwatch(descriptor)
    else:
        loop.remove_reader(descriptor)


class Source(Protocol):
    """Packets that no descriptor tells of, and timers (`stack.device`)."""

    def watch(self, touched: Callable[[], None] | None) -> None:
        """Call this whenever packets may be `waiting` or `due_in` may be another; None: nothing."""

    @property
    def waiting(self) -> bool:
        """Whether packets may be waiting."""

    def due_in(self) -> float | None:
        """In how many seconds to call `expire`; None: never."""

    def expire(self) -> None:
        """Do what is due."""


class SourceWatch:
    """Calls `carry` in the running loop while packets of a source wait, and keeps its timer, until `close`.

    The timer may ring early: it is not moved when the deadline becomes a later one, as it does with every packet.
    """

    def __init__(self, source: Source, carry: Carry) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._schedule: Callable[[Callable[[], None]], object] = (
            loop.packets.call_next if isinstance(loop, PacketLoop) else loop.call_soon
        )
        self._source: Source | None = source
        self._carry = carry
        self._scheduled = False
        self._again = False
        self._timer: asyncio.TimerHandle | None = None
        source.watch(self._touched)
        self._touched()

    def close(self) -> None:
        """Leave packets where they are."""
        if self._source is not None:
            self._source.watch(None)
            self._source = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _touched(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._schedule(self._run)

    def _run(self) -> None:
        try:
            if self._source is not None and self._source.waiting:
                self._carry(self._again)
        finally:
            self._scheduled = False
            if (source := self._source) is not None:
                self._again = source.waiting
                if self._again:
                    self._touched()
                self._arm(source)

    def _arm(self, source: Source) -> None:
        seconds = source.due_in()
        if seconds is None:
            return
        at = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._source is not None:
            self._source.expire()
            self._run()
