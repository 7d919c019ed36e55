"""The event loop of a tunnel: asyncio's, with a short way for packets.

A packet that comes alone finds every cache cold, so each function on its way costs microseconds that its sender waits
for. Here a packet descriptor's callback is called straight from the selector, before asyncio hears of anything. Timers
and everything else are asyncio's and get their turn after each look at the packets.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, TypeVar

COALESCING_DELAY = 700e-6  # seconds: at a gigabit per second some seventy packets come in this time
PACING = 300e-6  # seconds: with runs of forty full packets this is one and a half gigabits per second

_TURN = 2e-3  # seconds for packets before timers and all else have theirs
_MOST_EVENTS = 16
Carry = Callable[[bool], object]
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

    def watch(self, descriptor: int, carry: Carry, wants_delay: Callable[[], bool] | None = None) -> None:
        """Call `carry` whenever the descriptor is readable, and then wait a moment if `wants_delay` says so.

        Its argument tells whether the descriptor was found readable again right after the last call.
        """
        if descriptor not in self._packets:
            self._poll.register(descriptor, select.EPOLLIN)
        self._packets[descriptor] = carry, wants_delay

    def unwatch(self, descriptor: int) -> None:
        """Stop that; nothing happens where it is not watched. To be called before the descriptor is closed."""
        if self._packets.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As any selector, for the other descriptors; returns early, perhaps with nothing, after packets.

        While packets keep coming, each packet descriptor gets its turn, for `_TURN` at the most.
        """
        poll, carry = self._poll.poll, self._carry
        others, carried = carry(poll(timeout, _MOST_EVENTS), ())
        if carried:
            end = time.monotonic() + _TURN
            while carried and not others and (ready := poll(0, _MOST_EVENTS)):
                others, carried = carry(ready, carried)
                if time.monotonic() >= end:
                    break
        return self._others.select(0) if others else []

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


def watch(descriptor: int, carry: Carry, wants_delay: Callable[[], bool] | None = None) -> None:
    """Have the running loop call `carry` when the descriptor is readable; see `PacketSelector.watch`."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, PacketLoop):
        loop.packets.watch(descriptor, carry, wants_delay)
    else:
        loop.add_reader(descriptor, carry, True)


def unwatch(descriptor: int) -> None:
    """Undo `watch`."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, PacketLoop):
        loop.packets.unwatch(descriptor)
    else:
        loop.remove_reader(descriptor)
