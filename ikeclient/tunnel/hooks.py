"""The profile's `up` and `down` commands: argument lists, no shell, a bounded run time and a small environment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from ikeclient.control.events import HOOKS
from ikeclient.profile.load.author import Author
from ikeclient.tunnel.status import Status

TIMEOUT = 30.0
MOST_WAITING = 16  # transitions whose commands have not run yet; beyond that the oldest are left out
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# Runs a command of a reason ("up", "down") with these variables; returns what went wrong, if anything did.
Runner = Callable[[str, Sequence[str], Mapping[str, str]], Awaitable[str | None]]


def environment(status: Status, event: str) -> dict[str, str]:
    """Return the environment of a hook: PATH and the IKECLIENT_ variables, all of them free of secrets."""
    return {
        "PATH": SEARCH_PATH,
        "IKECLIENT_REASON": HOOKS[event],
        "IKECLIENT_EVENT": event,
        "IKECLIENT_NAME": status.name,
        "IKECLIENT_INTERFACE": status.interface or "",
        "IKECLIENT_GATEWAY": str(status.path.remote_address) if status.path else "",
        "IKECLIENT_ADDRESSES": " ".join(status.inner),
        "IKECLIENT_DNS_SERVERS": " ".join(status.dns_servers),
        "IKECLIENT_DNS_DOMAINS": " ".join(status.dns_domains),
        "IKECLIENT_ROUTES": " ".join(status.routes),
        "IKECLIENT_MTU": str(status.mtu),
    }


class Hooks:
    """Runs `commands` ("up" and "down") at every transition of a tunnel, one after the other in the order of events.

    They run in `directory`, or wherever `run` runs them. One that fails costs a call of `warn`, which is its only
    effect on the tunnel.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[Sequence[str]]],
        directory: Path,
        warn: Callable[[str], None],
        run: Runner | None = None,
    ) -> None:
        self._commands = commands
        self._directory = directory
        self._warn = warn
        self._run = run or self._run_here
        self._waiting: deque[dict[str, str]] = deque(maxlen=MOST_WAITING)
        self._task: asyncio.Task[None] | None = None
        self._last: str | None = None

    def use(self, commands: Mapping[str, Sequence[Sequence[str]]]) -> None:
        """Run other commands from now on."""
        self._commands = commands

    def tell(self, event: str, status: Status) -> None:
        """Run what is to be run after an event, and return at once; what is no transition is ignored."""
        news = event in HOOKS and (event != self._last or event == "roamed")
        if not news or (self._last is None and event != "connected"):
            return
        self._last = event
        self._waiting.append(environment(status, event))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def settle(self) -> None:
        """Wait until everything that was told is done."""
        if self._task is not None:
            await self._task

    async def finish(self, status: Status) -> None:
        """Stop what still runs, and run the last commands if there ever were any."""
        if self._task is None:
            return
        self._waiting.clear()
        self._task.cancel()
        await asyncio.wait({self._task})
        self.tell("disconnected", status)
        await self.settle()

    async def _work(self) -> None:
        while self._waiting:
            variables = self._waiting.popleft()
            reason = variables["IKECLIENT_REASON"]
            for command in self._commands[reason]:
                problem = await self._run(reason, command, variables)
                if problem:
                    self._warn(f"{reason} command {command[0]!r} {problem}")

    async def _run_here(self, _: str, command: Sequence[str], variables: Mapping[str, str]) -> str | None:
        return await run_command(command, variables, self._directory)


async def run_command(
    command: Sequence[str], variables: Mapping[str, str], directory: Path, author: Author | None = None
) -> str | None:
    """Run one command; returns what went wrong, if anything did. It ends with whoever waits for it.

    With an `author` it runs with that user's rights.
    """
    rights = {} if author is None else author.of_process()
    null = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=null,
            stdout=null,
            stderr=null,
            env=variables,
            cwd=directory,
            start_new_session=True,
            **rights,
        )
    except OSError as error:
        return f"cannot run: {error.strerror}"
    try:
        status = await asyncio.wait_for(process.wait(), TIMEOUT)
    except TimeoutError:
        return f"was stopped after {TIMEOUT:.0f} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with everything that it started
            await process.wait()
    return f"ended with status {status}" if status else None
