"""Has tunnels up where their rules say so: a process that watches the network and starts and ends others.

Nothing polls: the kernel tells of changes, also of the files that name servers stand in. What is not known yet of a new
network is looked for again within its first seconds.

A tunnel that ends by itself is started again after a pause that grows, except where that would only repeat what was
refused, or undo what somebody asked for: then the next change of the decision starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from ikeclient.control import automatic, client
from ikeclient.errors import (
    AuthenticationFailed,
    GatewayNotAuthenticated,
    IkeclientError,
    Interrupted,
    NegotiationRefused,
    PrivilegeError,
    ProfileError,
    ProfileNotFound,
    UsageError,
)
from ikeclient.net.watch.files import FileBell
from ikeclient.net.watch.monitor import NetworkMonitor, boottime
from ikeclient.when.decide import Action, Decision, Network, Rules, Settling, decide
from ikeclient.when.look import FILES, Looker

FINAL = {
    0,
    *(
        kind.exit_code
        for kind in (
            *(UsageError, AuthenticationFailed, NegotiationRefused, GatewayNotAuthenticated, ProfileError),
            *(ProfileNotFound, PrivilegeError, Interrupted),
        )
    ),
}
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
LOOKS = (0.1, 0.3, 0.7, 1.5, 3.0)  # seconds after a change at which it is looked for what was not known
_END = 15.0  # seconds in which a tunnel ends

Tell = Callable[[str], None]


class Watched:
    """One tunnel and the process that carries it. `program` is the command line before `connect`."""

    def __init__(self, name: str, reference: str, rules: Rules, program: Sequence[str], tell: Tell) -> None:
        self.name = name
        self.rules = rules
        self.settling = Settling()
        self._command = (*program, "connect", reference, "--retry-first")
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = False
        self._pause = FIRST_PAUSE
        self._again: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy = asyncio.Lock()

    def act(self, action: Action) -> None:
        """Begin to bring the tunnel up, or down."""
        self._wanted = action is Action.CONNECT
        self._cancel()
        self._begin(self._up() if self._wanted else self._down())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _up(self) -> None:
        async with self._busy:
            if not self._wanted or self._process is not None:
                return
            if await asyncio.to_thread(client.find, self.name) is not None:
                return  # somebody has started it
            self._process = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.DEVNULL)
        started = boottime()
        code = await self._process.wait()
        self._process = None
        if not self._wanted:
            return
        if code in FINAL:
            self._tell(f"tunnel '{self.name}' has ended with exit code {code}: it is not started again on this network")
            return
        self._pause = FIRST_PAUSE if boottime() - started > LONGEST_PAUSE else min(2 * self._pause, LONGEST_PAUSE)
        self._again = asyncio.get_running_loop().call_later(self._pause, lambda: self._begin(self._up()))

    async def _down(self) -> None:
        async with self._busy:
            if self._wanted:
                return
            try:
                await asyncio.to_thread(client.disconnect, self.name, timeout=_END)
            except IkeclientError as error:
                if self._process is None and await asyncio.to_thread(client.find, self.name) is not None:
                    self._tell(f"tunnel '{self.name}' cannot be ended: {error.message}")
            await self._end()

    async def _end(self) -> None:
        if (process := self._process) is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _END)

    async def close(self) -> None:
        """End the process that was started here."""
        self._wanted = False
        self._cancel()
        await self._end()

    def _cancel(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None


class Watcher:
    """Watches the network for `tunnels` until `stop`; decisions are told, and kept in `directory`."""

    def __init__(self, tunnels: Sequence[Watched], directory: Path, tell: Tell, looker: Looker | None = None) -> None:
        self._tunnels = tunnels
        self._directory = directory
        self._tell = tell
        self._looker = looker or Looker()
        self._changed_at = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        self._told: dict[str, Decision] = {}
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Watch, and act, until stopped; the tunnels that were started here end with it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopped.set)
        monitor = NetworkMonitor(lambda _: self._changed())
        bell = self._watch_files(loop)
        try:
            monitor.start()
            self._changed()
            await self._stopped.wait()
        finally:
            monitor.close()
            if bell is not None:
                loop.remove_reader(bell.fileno())
                bell.close()
            self._drop_timers()
            await asyncio.gather(*(each.close() for each in self._tunnels))
            for each in self._tunnels:
                automatic.remove(self._directory, each.name)

    def _watch_files(self, loop: asyncio.AbstractEventLoop) -> FileBell | None:
        try:
            bell = FileBell(FILES)
        except OSError:
            return None

        def rung() -> None:
            if bell.rung():
                bell.watch()
                self._changed()

        loop.add_reader(bell.fileno(), rung)
        return bell

    def _changed(self) -> None:
        self._changed_at = boottime()
        self._look()

    def _look(self) -> None:
        """Decide anew, and look again when that may tell more or something is due."""
        now = boottime()
        settled = now - self._changed_at >= LOOKS[-1]
        try:
            network = self._looker.look(settled=settled)
        except OSError:
            network = Network()
        moments = [] if settled else [self._changed_at + each for each in LOOKS if self._changed_at + each > now]
        for tunnel in self._tunnels:
            decision = decide(tunnel.rules, network)
            tunnel.settling.decided(decision, now)
            self._keep(tunnel.name, decision)
            action = tunnel.settling.act(now)
            if action is not None:
                tunnel.act(action)
            elif (due := tunnel.settling.due_at) is not None:
                moments.append(due)
        self._drop_timers()
        if moments:
            loop = asyncio.get_running_loop()
            self._timers = [loop.call_later(max(min(moments) - now, 0.0) + 0.01, self._look)]

    def _keep(self, name: str, decision: Decision) -> None:
        if self._told.get(name) != decision:
            self._told[name] = decision
            automatic.write(self._directory, name, decision.action, decision.why)
            self._tell(f"{name}: {decision.action}, because {decision.why}")

    def _drop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
