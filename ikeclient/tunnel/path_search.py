"""How large a packet the path carries, found out by asking the other end (RFC 8899, over IKE).

Routers may say that a packet was too big, may say it wrongly, and often say nothing. So their word is taken at once,
because traffic must go on, and then put to the test; and where nothing is said, packets of the size in use are tried
now and then, and whenever the tunnel seems to swallow what is sent. A probe is a padded IKE message whose answer is
authenticated, so nobody else can make a size pass, and only the path itself can make one fail.

A failure proves nothing before a small probe has passed: on a path that is slow or loses a lot, nothing is changed.
"""

from __future__ import annotations

from enum import Enum, auto

from ikeclient.esp.sa.mtu import MINIMUM_PATH_MTU

BASE = {4: 1200, 6: 1280}  # what nearly every path carries (RFC 8899 section 5.1.2)
TRIES = 3  # lost probes of one size before it counts as too large (MAX_PROBES)
TRIES_SEARCHING = 2
PRECISE = 4  # bytes; ESP grows in steps of four
CONFIRM_AFTER = 60.0  # seconds between looks at the size in use, while there is traffic
RAISE_AFTER = 600.0  # between attempts to use more (PMTU_RAISE_TIMER)
SUSPECT_AFTER, SUSPECT_LONGEST = 2.0, 10.0  # after a look, before a suspicion causes another one: ever later
SUSPECT_FORGOTTEN = 30.0  # without a suspicion, after which the next one is looked at soon again
LOST_AFTER = 20.0  # without any outcome a probe is forgotten


class Phase(Enum):
    """What the next probe is to show."""

    CONFIRM = auto()  # that the size in use still passes
    DOUBT = auto()  # that a report about a smaller size was wrong
    BASE = auto()  # that anything passes
    SEARCH = auto()  # which is the largest
    COMPLETE = auto()


class Suspicion:
    """When a suspicion is followed: soon, and later each time, until there was none for a while."""

    def __init__(self) -> None:
        self._last, self._wait = float("-inf"), SUSPECT_AFTER

    def follows(self, looked: float, now: float) -> bool:
        """Whether to look again now; the last look was at `looked`."""
        if now - looked < self._wait:
            return False
        forgotten = now - self._last >= SUSPECT_FORGOTTEN
        self._wait = SUSPECT_AFTER if forgotten else min(self._wait * 2, SUSPECT_LONGEST)
        self._last = now
        return True


class PathSearch:
    """One path of IP version `version`. Ask for `next_probe`, report what happens; sizes are those of IP packets.

    `ceiling` is what the interface allows, `known` what an earlier search on this path came to. `mtu` is the size to
    use, `proven` whether a packet of that size is known to have arrived.
    """

    def __init__(self, version: int, ceiling: int, now: float, *, known: int | None = None) -> None:
        self._floor = MINIMUM_PATH_MTU[version]
        self._base = max(min(BASE[version], ceiling), self._floor)
        self._ceiling = max(ceiling, self._floor)
        self._asked: float | None = None
        self._looked = now
        self._suspicion = Suspicion()
        self._raise_at = now + RAISE_AFTER
        self._low = self._high = 0  # while searching: the largest that passed, the smallest that did not
        self.mtu = self._ceiling if known is None else max(min(known, self._ceiling), self._floor)
        self._enter(Phase.CONFIRM, self.mtu)
        self.proven = False

    @property
    def complete(self) -> bool:
        """Whether there is nothing to find out at the moment."""
        return self._phase is Phase.COMPLETE

    @property
    def raisable(self) -> bool:
        """Whether more may be possible than what is used."""
        return self.mtu + PRECISE <= self._ceiling

    @property
    def raise_at(self) -> float | None:
        """When to try to use more; None if there is no more, or something is being found out."""
        return self._raise_at if self.complete and self.raisable else None

    def _enter(self, phase: Phase, target: int) -> None:
        self._phase, self._target, self._failures = phase, target, 0

    def next_probe(self, now: float, *, traffic: bool = False) -> int | None:
        """The size to probe now; None where there is none, or an outcome is awaited. `traffic` was sent meanwhile."""
        if self._asked is not None and now - self._asked < LOST_AFTER:
            return None
        if self._phase is Phase.COMPLETE:
            if now >= self._raise_at and self.raisable:
                self._low, self._high = self.mtu, self._ceiling + 1
                self._enter(Phase.SEARCH, self._ceiling)
            elif traffic and now - self._looked >= CONFIRM_AFTER:
                self._enter(Phase.CONFIRM, self.mtu)
            else:
                return None
        self._asked = now
        return self._target

    def suspect(self, now: float) -> None:
        """The tunnel seems to swallow packets: look at the size in use soon, but ever less often."""
        if self._phase is Phase.COMPLETE and self._suspicion.follows(self._looked, now):
            self._enter(Phase.CONFIRM, self.mtu)

    def widen(self, ceiling: int) -> None:
        """The interface or the routing now allows packets of `ceiling` bytes."""
        self._ceiling = max(ceiling, self._ceiling)

    def reported(self, mtu: int, now: float) -> None:
        """Somebody says that at most `mtu` bytes pass: believed until the size in use has been tried again."""
        mtu = max(mtu, self._floor)
        if mtu < self.mtu:
            self._enter(Phase.DOUBT, self.mtu)
            self.mtu, self.proven = mtu, False
            self._raise_at = now + RAISE_AFTER
        elif self._phase is Phase.SEARCH and mtu < self._target:
            self._high = mtu + 1
            if mtu > self._low:
                self._enter(Phase.SEARCH, mtu)
            else:
                self._finish(now)

    def result(self, asked: int, size: int, passed: bool, now: float) -> None:
        """What became of a probe that was `asked` for and had `size` bytes."""
        self._asked = None
        if asked != self._target or self._phase is Phase.COMPLETE:
            return
        if passed:
            self._passed(size, now)
            return
        self._failures += 1
        if self._failures >= (TRIES_SEARCHING if self._phase in (Phase.SEARCH, Phase.DOUBT) else TRIES):
            self._failed(now)

    def _passed(self, size: int, now: float) -> None:
        self.mtu, self.proven = size, True
        if self._phase is Phase.BASE:
            self._low = size
            self._search(now)
        elif self._phase is Phase.SEARCH:
            self._low = max(size, self._target)  # a cipher that works in blocks cannot try every size
            self._search(now)
        else:
            self._finish(now)

    def _failed(self, now: float) -> None:
        match self._phase:
            case Phase.SEARCH:
                self._high = self._target
                self._search(now)
            case Phase.DOUBT:
                self._enter(Phase.CONFIRM, self.mtu)
            case Phase.CONFIRM if self._target > self._base:
                self._high = self._target
                self._enter(Phase.BASE, self._base)
            case Phase.CONFIRM | Phase.BASE if self._target > self._floor:
                self._high = self._target
                self._enter(Phase.BASE, self._floor)
            case _:  # nothing passes, so this says nothing about sizes
                self.proven = False
                self._finish(now)

    def _search(self, now: float) -> None:
        if self._high - self._low <= PRECISE:
            self._finish(now)
        else:
            self._enter(Phase.SEARCH, (self._low + self._high) // 2)

    def _finish(self, now: float) -> None:
        self._enter(Phase.COMPLETE, 0)
        self._looked = now
        if self._raise_at <= now:
            self._raise_at = now + RAISE_AFTER
