"""SIGHUP without a terminal: the profile is read again, and a tunnel that runs goes on with it as gently as it can.

Reading may take its time (a command that asks a password manager), so it happens in a thread that nobody waits for at
the end. Whatever is wrong with the new profile, the tunnel keeps the one it has and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable

from ikeclient.errors import IkeclientError, ProfileError
from ikeclient.profile.compiled import CompiledProfile

Reread = Callable[[], CompiledProfile]


def has_terminal() -> bool:
    """Return whether this process belongs to a terminal, whose hangup then is what SIGHUP means."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def read_again(reread: Reread) -> CompiledProfile:
    """Read the profile as it is now, in a thread of its own. Raises IkeclientError."""
    loop = asyncio.get_running_loop()
    read: asyncio.Future[CompiledProfile] = loop.create_future()

    def deliver(profile: CompiledProfile | None, error: IkeclientError) -> None:
        if read.done():
            return
        if profile is not None:
            read.set_result(profile)
        else:
            read.set_exception(error)

    def work() -> None:
        profile = None
        failure = IkeclientError("nothing was read")
        try:
            profile = reread()
        except IkeclientError as error:
            failure = error
        except Exception as error:  # its message may quote a secret
            failure = ProfileError("the profile could not be read", reason=f"unexpected {type(error).__name__}")
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(deliver, profile, failure)

    threading.Thread(target=work, name="ikeclient-reload", daemon=True).start()
    return await read


class Reloader:
    """Takes SIGHUPs: reads the profile once for each, one after the other, however many arrive meanwhile.

    `adopt` makes the tunnel go on with a profile, or raises IkeclientError and leaves it with the one it has; `report`
    takes the sentence about what went wrong; `busy` is called with true before and with false afterwards.
    """

    def __init__(
        self,
        reread: Reread,
        adopt: Callable[[CompiledProfile], Awaitable[None]],
        report: Callable[[str], None],
        busy: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._reread = reread
        self._adopt = adopt
        self._report = report
        self._busy = busy
        self._again = False
        self._task: asyncio.Task[None] | None = None

    async def settled(self) -> None:
        """Return once every SIGHUP so far has had its effect."""
        if self._task is not None:
            await self._task

    def hangup(self) -> None:
        """Take a SIGHUP."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._again:
            self._again = False
            self._busy(True)
            try:
                await self._adopt(await read_again(self._reread))
            except IkeclientError as error:
                self._report(": ".join(("the profile was not loaded again", *error.lines()[:2])))
            finally:
                self._busy(False)

    def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
