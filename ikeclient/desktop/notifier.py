"""Follows the tunnels that this user may look at, and says what is to be shown of each.

Nothing polls: the directories of control sockets tell when a tunnel comes or goes, and its own events tell the rest. A
socket is there before it listens, so that after each change of a directory it is looked at a few times more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ikeclient.control import client
from ikeclient.desktop.notice import Notice, TunnelNotices
from ikeclient.errors import IkeclientError, NoSuchTunnel
from ikeclient.net.watch.files import FileBell

if TYPE_CHECKING:
    from ikeclient.control.status import TunnelStatus

LOOKS = (0.02, 0.1, 0.5, 2.0)  # seconds of each wait for a change after which it is looked all the same
_AGAIN = 5.0  # seconds until a tunnel is asked again that would not have us listen
_ENDING = 0.1  # and one whose process is just ending
_MAY_BLOCK = ("reconnecting", "retrying", "blocked", "unblocked")

Show = Callable[[str, Notice | None], None]


class Notifier:
    """Calls `show` with a tunnel's name and its notice, also when that is as before.

    `blocked` names the tunnels whose kill switch is closed; it is called in a thread. `quiet` is that of
    `TunnelNotices`.
    """

    def __init__(self, show: Show, blocked: Callable[[], set[str]], *, quiet: bool = False) -> None:
        self._show = show
        self._blocked = blocked
        self._quiet = quiet
        self._notices: dict[str, TunnelNotices] = {}
        self._followed: set[str] = set()
        self._changed = asyncio.Event()
        self._waits: list[float] = []
        self._began = False

    async def run(self) -> None:
        """Follow tunnels until cancelled. Raises OSError if the kernel allows no more watches."""
        places = client.readable_directories()
        bell = self._watch(places)
        try:
            while True:
                self._changed.clear()
                if (now := client.readable_directories()) != places:
                    self._unwatch(bell)
                    bell, places = self._watch(now), now
                bell.watch()
                await self._look()
                await self._wait()
        finally:
            self._unwatch(bell)

    def _watch(self, places: Sequence[Path]) -> FileBell:
        paths = [str(each) for each in places]
        bell = FileBell(paths, inside=paths)

        def rung() -> None:
            if bell.rung():
                self._changed.set()

        asyncio.get_running_loop().add_reader(bell.fileno(), rung)
        return bell

    def _unwatch(self, bell: FileBell) -> None:
        asyncio.get_running_loop().remove_reader(bell.fileno())
        bell.close()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._waits.pop(0) if self._waits else None):
                await self._changed.wait()
        except TimeoutError:
            return
        self._waits = list(LOOKS)

    async def _look(self) -> None:
        """Begin to follow tunnels that have come, and tell of those that do not run."""
        running, blocked = await asyncio.to_thread(self._see)
        for name in running - self._followed:
            self._follow(name, news=self._began)
        for name in (blocked | self._notices.keys()) - running - self._followed:
            self._of(name).ended(asyncio.get_running_loop().time(), blocked=name in blocked)
            self._tell(name)
        self._began = True

    def _see(self) -> tuple[set[str], set[str]]:
        """Return the tunnels that run and are ours, or root's or a service's, and those that block."""
        return set(client.list_tunnels(ours=os.geteuid() == 0)), self._blocked()

    def _of(self, name: str) -> TunnelNotices:
        return self._notices.setdefault(name, TunnelNotices(name, quiet=self._quiet))

    # Tunnels that run: a thread for each, since it waits for one tunnel's socket and nothing else

    def _follow(self, name: str, *, news: bool) -> None:
        self._followed.add(name)
        loop = asyncio.get_running_loop()

        def post(what: Callable[..., None], *about: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(what, name, *about)

        def listen() -> None:
            pause = 0.0
            try:
                with client.events(name) as events:
                    with contextlib.suppress(IkeclientError):  # it is ending, as its events tell
                        post(self._found, client.status(name), news)
                    for event in events:
                        post(self._heard, event, event.get("event") in _MAY_BLOCK and _is_blocked(name))
            except NoSuchTunnel:
                pause = _ENDING
            except IkeclientError:
                pause = _AGAIN
            post(self._over, pause)

        threading.Thread(target=listen, name=f"events of {name}", daemon=True).start()

    def _found(self, name: str, status: TunnelStatus, news: bool) -> None:
        self._of(name).found(status, asyncio.get_running_loop().time(), news=news)
        self._tell(name)

    def _heard(self, name: str, event: dict[str, object], blocked: bool) -> None:
        self._of(name).heard(event, asyncio.get_running_loop().time(), blocked=blocked)
        self._tell(name)

    def _over(self, name: str, pause: float) -> None:
        def forget() -> None:
            self._followed.discard(name)
            self._changed.set()

        asyncio.get_running_loop().call_later(pause, forget)

    def _tell(self, name: str) -> None:
        notices = self._of(name)
        self._show(name, notices.notice)
        if notices.due is not None:
            asyncio.get_running_loop().call_at(notices.due, self._tick, name, notices.due)

    def _tick(self, name: str, due: float) -> None:
        notices = self._of(name)
        notices.tick(due)
        self._show(name, notices.notice)


def _is_blocked(name: str) -> bool:
    try:
        return client.status(name).blocked
    except IkeclientError:
        return False
