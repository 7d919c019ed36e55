"""What ends a wait of the tunnel before its time: one value for each kind, instead of an event and flags beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any, TypeVar

from ikeclient.errors import IkeclientError

_Result = TypeVar("_Result")


class Wakeup(Enum):
    """Why a wait may end."""

    NETWORK = auto()  # the outer network changed, so that another attempt may succeed
    PACKET = auto()  # a packet wants to leave while there is no connection
    COMMAND = auto()  # a connection is to be made now, whatever was waited for
    STOP = auto()  # the tunnel is to end


class Wakeups:
    """The wakeups that were given and not taken; `clock` is in seconds and counts the machine's sleep."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.error: IkeclientError | None = None  # why the tunnel cannot go on
        self._clock = clock
        self._given: set[Wakeup] = set()
        self._changed = asyncio.Event()

    def give(self, wakeup: Wakeup) -> None:
        """End every wait for it, also one that begins later, until it is taken. After a stop nothing else counts."""
        if not self.stopping:
            self._given.add(wakeup)
            self._changed.set()

    def stop(self, error: IkeclientError | None = None) -> None:
        """End every wait for good; the first `error` is kept."""
        self.error = self.error or error
        self.give(Wakeup.STOP)

    def take(self, wakeup: Wakeup) -> bool:
        """Have it end no further wait; whether it was given."""
        given = wakeup in self._given
        self._given.discard(wakeup)
        return given

    def given(self, wakeup: Wakeup) -> bool:
        """Whether it was given and not taken."""
        return wakeup in self._given

    @property
    def stopping(self) -> bool:
        """Whether the tunnel is to end."""
        return Wakeup.STOP in self._given

    async def wait(self, *wakeups: Wakeup, seconds: float | None = None) -> bool:
        """Wait for a stop or one of `wakeups`; false if it took all the `seconds`."""
        until = self._clock() + seconds if seconds is not None else None
        while not self._given & {Wakeup.STOP, *wakeups}:
            left = until - self._clock() if until is not None else None
            if left is not None and left <= 0:
                return False
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return bool(self._given & {Wakeup.STOP, *wakeups})
        return True

    async def unless_stopped(self, answer: Coroutine[Any, Any, _Result]) -> _Result | None:
        """Wait for an answer, but give it up as soon as the tunnel is to end: None. Raises what `answer` raises."""
        loop = asyncio.get_running_loop()
        asked, stopped = loop.create_task(answer), loop.create_task(self.wait())
        await asyncio.wait({asked, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if asked.done():
            return asked.result()
        asked.cancel()
        return None
