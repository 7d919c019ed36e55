"""Keeps in force what a tunnel put on the machine, whoever takes it away.

Other programs flush rules and tables (systemd-networkd does when it starts), set links down, remove addresses, switch
IPv6 off, rewrite the resolver's configuration. Nothing leaves in the clear by most of that (see `desired`), but the
tunnel is dead or half dead afterwards, and a flush of the rules opens it. So the kernel's notifications about our
interface, our tables and any rule make it look at once, and what is missing is put back.

What is written over in files is told by inotify. A look right after the first notification, one after the last of a
burst, and one a minute for what causes none.
Whoever takes things away again and again has us wait longer: two programs that undo each other's work for ever would
help nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable

from ikeclient.errors import PlatformError
from ikeclient.net.changes.steps import Address, DnsStep, Link, LocalRuleLast, Route, Rule, Step
from ikeclient.net.machine.machine import Machine
from ikeclient.net.watch import netlink
from ikeclient.net.watch.clock import POLL, next_round
from ikeclient.net.watch.files import FileBell

APART = 0.02  # seconds between two looks that notifications cause
PERIOD = POLL  # seconds between looks without any
DEAF = 5.0  # and if there are no notifications
AGAIN = 1.0  # seconds until a look tells whether something amiss was for a moment only
MANY, WITHIN, WAIT = 20, 60.0, 5.0  # so many repairs in so many seconds, and each further one waits so long
TELL = 0.5  # seconds from the first repair of a burst to its notice

_WORDS: dict[type[Step], str] = {Rule: "rules", LocalRuleLast: "rules", Route: "routes", Address: "addresses"}


class Mender:
    """Watches over what `machine` applied, in the running event loop. `tell` gets a line for people.

    The arguments after it exist for tests.
    """

    def __init__(
        self,
        machine: Machine,
        tell: Callable[[str], None],
        *,
        open_bell: Callable[[], socket.socket] = netlink.listen,
    ) -> None:
        self._machine = machine
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._looked = self._loop.time() - APART
        self._repairs: deque[float] = deque(maxlen=MANY)
        self._mended: dict[str, None] = {}  # what is to be told, in order
        self._failed: str | None = None
        self._amiss: list[str] = []  # at the last look; said when it lasts
        self._said: list[str] = []
        self._warned = False
        self._teller: asyncio.TimerHandle | None = None
        self._bell: socket.socket | None = None
        self._files: FileBell | None = None
        with contextlib.suppress(OSError):  # then there are the looks without a notification
            self._bell = open_bell()
            self._loop.add_reader(self._bell, self._rung)
            self._files = FileBell(machine.files)
            self._loop.add_reader(self._files, self._file_changed)
        self._timer = self._loop.call_at(self._next_look(), self._look)

    def close(self) -> None:
        """Watch no more."""
        self._timer.cancel()
        if self._teller is not None:
            self._teller.cancel()
        self._stop_listening()

    def _stop_listening(self) -> None:
        if self._bell is not None:
            self._loop.remove_reader(self._bell)
            self._bell.close()
            self._bell = None
        if self._files is not None:
            self._loop.remove_reader(self._files)
            self._files.close()
            self._files = None

    def _rung(self) -> None:
        assert self._bell is not None
        index, tables = self._machine.extent
        try:
            concerns = netlink.concerns(self._bell, index, tables)
        except OSError:
            self._stop_listening()
            return
        if concerns:
            self._look_soon()

    def _file_changed(self) -> None:
        if self._files is not None and self._files.rung():
            self._look_soon()

    def _look_soon(self) -> None:
        self._look_at(max(self._looked + APART, self._not_before()))

    def _next_look(self) -> float:
        """When to look without a notification."""
        now = self._loop.time()
        return next_round(now, PERIOD) if self._files is not None else now + min(PERIOD, DEAF)

    def _not_before(self) -> float:
        """When the next repair may be."""
        now = self._loop.time()
        if len(self._repairs) < MANY or self._repairs[0] < now - WITHIN:
            return now
        if not self._warned:
            self._warned = True
            self._tell(f"another program changes what is the tunnel's again and again: put back every {WAIT:.0f} s")
        return self._repairs[-1] + WAIT

    def _look_at(self, when: float) -> None:
        """Look then, unless an earlier look is due."""
        if when <= self._loop.time():
            self._look()
        elif when < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer.cancel()
        try:
            mended = self._machine.uphold()
        except PlatformError as error:
            if self._failed != error.message:
                self._failed = error.message
                self._tell(f"the tunnel's part of this machine cannot be put back: {': '.join(error.lines()[:2])}")
            mended = []
        else:
            self._failed = None
        self._looked = self._loop.time()
        again = self._say_what_lasts()
        if self._files is not None:
            self._files.watch()
        self._timer = self._loop.call_at(self._looked + AGAIN if again else self._next_look(), self._look)
        if mended:
            self._repairs.append(self._looked)
            self._mended |= dict.fromkeys(_word(step) for step in mended)
            self._teller = self._teller or self._loop.call_later(TELL, self._report)

    def _say_what_lasts(self) -> bool:
        """Tell what is amiss for the second time in a row; whether something is for the first time."""
        before, self._amiss = self._amiss, self._machine.amiss
        for text in self._amiss:
            if text in before and text not in self._said:
                self._tell(text)
        self._said = [text for text in self._amiss if text in before]
        return self._said != self._amiss

    def _report(self) -> None:
        self._teller = None
        words, self._mended = list(self._mended), {}
        self._tell(f"another program changed what is the tunnel's, and it was put back: {', '.join(words)}")


def _word(step: Step) -> str:
    match step:
        case Link(interface=interface):
            return f"the interface {interface}"
        case _ if isinstance(step, DnsStep):
            return "name servers"
    return _WORDS[type(step)]
