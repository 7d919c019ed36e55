"""What ends a wait of the tunnel before its time, or puts it off: one value a kind instead of an event and flags."""

from __future__ import annotations

from enum import Enum, auto

from ikeclient.errors import IkeclientError


class Wakeup(Enum):
    """Why a wait may end."""

    NETWORK = auto()  # the outer network changed, so that another attempt may succeed
    PACKET = auto()  # a packet wants to leave while there is no connection
    COMMAND = auto()  # a connection is to be made now, whatever was waited for
    STOP = auto()  # the tunnel is to end
    SLEEP = auto()  # the machine is about to sleep: what was waited for is put off until it is awake


class Wakeups:
    """The wakeups that were given and not taken."""

    def __init__(self) -> None:
        self.error: IkeclientError | None = None  # why the tunnel cannot go on
        self._given: set[Wakeup] = set()

    def give(self, wakeup: Wakeup) -> None:
        """End every wait for it, also one that begins later, until it is taken. After a stop nothing else counts."""
        if not self.stopping:
            self._given.add(wakeup)

    def stop(self, error: IkeclientError | None = None) -> None:
        """End every wait for good; the first `error` is kept."""
        self.error = self.error or error
        self.give(Wakeup.STOP)

    def take(self, wakeup: Wakeup) -> bool:
        """Have it end no further wait; whether it was given."""
        given = wakeup in self._given
        self._given.discard(wakeup)
        return given

    def given(self, *wakeups: Wakeup) -> bool:
        """Whether one of these was given and not taken."""
        return not self._given.isdisjoint(wakeups)

    @property
    def stopping(self) -> bool:
        """Whether the tunnel is to end."""
        return Wakeup.STOP in self._given
