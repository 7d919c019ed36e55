"""The helper's side of a kill switch: closes and opens the machine, and closes it again when others open it.

The helper is the place for it: it may run nft, which the tunnel gave up, and it hears of a flushed rule or a flushed
firewall from the kernel while the tunnel carries packets. Where it may, it answers before other programs go on: what
was flushed is back within a millisecond or two. The networks that this machine is on come from the kernel as well, and
`unblock` of another process from the block's file. It closes for its own tunnel alone, by the name it was forked with,
and for the socket mark that all tunnels have.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ikeclient.control.directory import system_directories
from ikeclient.errors import PlatformError
from ikeclient.net.block import firewall
from ikeclient.net.block.files import SUFFIX
from ikeclient.net.block.state import BLOCK_TABLES, Block
from ikeclient.net.block.store import Blocks, Closed, now
from ikeclient.net.changes.surroundings import network_namespace
from ikeclient.net.model import ANYWHERE, MARK
from ikeclient.net.watch import netlink
from ikeclient.net.watch.clock import POLL, next_round
from ikeclient.net.watch.files import FileBell
from ikeclient.process.helper.messages import Blocked, CloseMachine, OpenMachine

if TYPE_CHECKING:
    import asyncio

APART = 0.01  # seconds between two looks that notifications cause
PERIOD = POLL  # seconds between looks without any
DEAF = 5.0  # and if there are no notifications

State = tuple[Block, bool] | None


def _nobody() -> None:
    """Tell nobody."""


class BlockKeeper:
    """What the helper keeps closed for the tunnel `name`; `tell` is called when `look` has something new to say.

    `blocks` exists for tests.
    """

    def __init__(
        self, directory: Path, name: str, blocks: Blocks | None = None, tell: Callable[[], None] = _nobody
    ) -> None:
        self._name = name
        self._file = str(directory / (name + SUFFIX))
        self._tell = tell
        self._blocks = blocks or Blocks(directory, system_directories)
        self._put_back: dict[str, None] = {}
        self._closed: Closed | None = None
        self._released = False  # opened for good, until the next start
        self._known: State = None  # when it was told last
        self._bells: list[socket.socket] = []
        self._firewall_rang = False  # since the last look
        self._files: FileBell | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looked = 0.0  # when, by the clock of the loop

    def close(self, request: CloseMachine) -> Blocked:
        """Close what is asked for, from now on. Raises PlatformError."""
        former = self._blocks.get(self._name)
        if self._released or (self._closed is not None and former is None):  # by `unblock`
            self._release()
        needless = not request.networks and request.networks is not None
        if self._released or (needless and not self._blocks.all() and not self._blocks.others()):
            return self._answer()
        if not self._blocks.keep(self._name):
            raise PlatformError(f"tunnel '{self._name}' is already running", reason="another process keeps its switch")
        if self._closed is None and needless and former is not None and former.networks:
            raise PlatformError(
                f"tunnel '{self._name}' keeps this machine closed, but its profile has no kill switch any more",
                hint=f"`ikeclient unblock {self._name}` opens it; then `ikeclient connect` goes on without",
            )
        networks, granted = request.networks, request.granted
        if networks is None and former is not None and former.granted:  # what the gateway granted before a crash
            networks, granted = former.networks, True
        block = Block(
            name=self._name,
            networks=tuple(ANYWHERE.values()) if networks is None else networks,
            granted=granted,
            exclude=request.exclude,
            exclude_lan=request.exclude_lan,
            interface=request.interface,
            gateways=request.gateways,
            asked=request.asked,
            ports=request.ports,
            mark=MARK,
            table=former.table if former is not None else self._blocks.free_table(),
            network=network_namespace(),
            open_until=former.open_until if former is not None and self._closed is not None else 0.0,
        )
        closed = self._blocks.close(block, unless_opened=former is not None)
        if closed is None:  # by `unblock`, in this moment
            self._release()
        else:
            self._closed = closed
            if self._loop is not None:
                self._begin_to_watch(self._loop)
        return self._answer()

    def open(self, request: OpenMachine) -> Blocked:
        """Open what is closed: for some seconds, or for good. Raises PlatformError."""
        if request.seconds:
            self._closed = self._blocks.open_for(self._name, request.seconds)
        else:
            self._blocks.open(self._name)
            self._release()
        return self._answer()

    def _release(self) -> None:
        self._stop()
        self._closed, self._released = None, True

    def look(self) -> Blocked:
        """Tell what is in force, and what was put back since the last time."""
        self._uphold()
        return self._answer()

    @property
    def _state(self) -> State:
        return (self._closed.block, self._closed.is_open) if self._closed is not None else None

    def _answer(self) -> Blocked:
        self._known = self._state
        put_back, self._put_back = tuple(self._put_back), {}
        if self._closed is None:
            return Blocked(closed=False, means="", networks=(), put_back=put_back, problem=None)
        closed = self._closed
        return Blocked(
            closed=bool(closed.block.networks) and not closed.is_open,
            means=closed.means if closed.block.networks else "",
            networks=closed.block.networks,
            put_back=put_back,
            problem=closed.problem,
        )

    # What others do

    @property
    def is_closed(self) -> bool:
        """Whether there is something to watch over, for which `watch` is to be called."""
        return self._closed is not None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen to the kernel in this event loop whenever something is closed, also now."""
        self._loop = loop
        if self._closed is not None:
            self._begin_to_watch(loop)

    def _begin_to_watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            return
        for listen in (netlink.listen, firewall.listen):
            with contextlib.suppress(OSError):  # a kernel without nftables has nothing to tell of it
                bell = listen()
                self._bells.append(bell)
                loop.add_reader(bell, self._rung, bell)
        with contextlib.suppress(OSError):  # EPERM: without CAP_SYS_NICE, or where the administrator wants none
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        with contextlib.suppress(OSError):
            self._files = FileBell([self._file])
            loop.add_reader(self._files, self._file_changed)
        self._timer = loop.call_at(self._next_look(loop), self._look)

    def _stop(self) -> None:
        if self._loop is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for bell in self._bells:
            self._loop.remove_reader(bell)
            bell.close()
        self._bells = []
        if self._files is not None:
            self._loop.remove_reader(self._files)
            self._files.close()
            self._files = None

    def _rung(self, bell: socket.socket) -> None:
        self._firewall_rang = self._firewall_rang or not _is_of_routes(bell)
        any_change = self._firewall_rang or (self._closed is not None and self._closed.block.exclude_lan)
        try:
            concerns = netlink.concerns(bell, -1, BLOCK_TABLES) if not any_change else True
            netlink.drain(bell)
        except OSError:
            if self._loop is not None:
                self._loop.remove_reader(bell)
            return
        if concerns:
            self._look_soon()

    def _file_changed(self) -> None:
        if self._files is not None and self._files.rung():
            self._look_soon()

    def _look_soon(self) -> None:
        if self._loop is None or self._timer is None:
            return
        when = max(self._loop.time(), self._looked + APART)
        if self._timer.when() > when:
            self._timer.cancel()
            self._timer = self._loop.call_at(when, self._look)

    def _next_look(self, loop: asyncio.AbstractEventLoop) -> float:
        """When to look without a notification."""
        present = loop.time()
        deaf = self._files is None or not any(map(_is_of_routes, self._bells))
        times = [present + DEAF if deaf else next_round(present, PERIOD)]
        if (
            self._closed is not None
            and self._closed.block.networks
            and not self._closed.firewall
            and firewall.lacks() is None
        ):
            times.append(present + DEAF)  # which could not load it
        if self._closed is not None and (left := self._closed.block.open_until - now()) > 0:
            times.append(present + left + APART)
        return min(times)

    def _look(self) -> None:
        self._uphold()
        if self._put_back or self._state != self._known:
            self._tell()

    def _uphold(self) -> None:
        if self._loop is None or self._timer is None or self._closed is None:
            return
        self._timer.cancel()
        with contextlib.suppress(PlatformError, OSError):  # tried again at the next look
            if self._firewall_rang:  # what it closes, nothing else does
                self._put_back |= dict.fromkeys(self._blocks.uphold_firewall())
            self._put_back |= dict.fromkeys(self._blocks.uphold())
            block = self._blocks.get(self._name)
            if block is None:  # opened by `unblock`
                self._release()
                return
            self._closed = self._blocks.in_force(block)
        self._firewall_rang = False
        self._looked = self._loop.time()
        if self._files is not None:
            self._files.watch()
        self._timer = self._loop.call_at(self._next_look(self._loop), self._look)


def _is_of_routes(bell: socket.socket) -> bool:
    return bell.proto == socket.NETLINK_ROUTE
