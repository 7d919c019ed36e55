"""When the profile's `up` and `down` commands run, and the small environment that they see."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ikeclient.control.events import HOOKS
from ikeclient.tunnel.status import Status
from ikeclient.tunnel.status_events import StatusEvents

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

    `run` runs them. One that fails is warned of, which is its only effect on the tunnel.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[Sequence[str]]],
        events: StatusEvents,
        run: Runner,
    ) -> None:
        self._commands = commands
        self._events = events
        self._run = run
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
                    self._events.warn(f"{reason} command {command[0]!r} {problem}")
