"""Has one tunnel up or down, as it was told last: starts the process that carries it, starts it again, and ends it.

One task does one thing after the other: a process that is ending is over before the next one is started.

A tunnel that ends by itself is started again after a pause that grows, except where that would only repeat what was
refused, or undo what somebody asked for: then it takes another order, or another network.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from ikeclient.control import client
from ikeclient.control.directory import system_directories
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
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.block.store import Blocks

_ASKED_FOR = {0, Interrupted.exit_code}
_REFUSED = {
    kind.exit_code for kind in (UsageError, AuthenticationFailed, ProfileError, ProfileNotFound, PrivilegeError)
}
_REFUSED_HERE = {  # a network can stand between us and the gateway
    NegotiationRefused.exit_code,
    GatewayNotAuthenticated.exit_code,
}
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
END = 15.0  # seconds in which a tunnel ends
_KILLED = 5.0  # seconds in which a killed process is gone


class Process(Protocol):
    """A process that was started, as asyncio has it."""

    @property
    def pid(self) -> int:
        """Its process ID."""

    async def wait(self) -> int:
        """Wait for its end; returns the exit code, negative for a signal."""

    def terminate(self) -> None:
        """Send SIGTERM. Raises ProcessLookupError if it has ended."""

    def kill(self) -> None:
        """Send SIGKILL. Raises ProcessLookupError if it has ended."""


class Programs:
    """Processes and tunnels of this machine."""

    async def start(self, command: Sequence[str]) -> Process:
        """Start a program that reads nothing. Raises OSError."""
        return await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)

    async def runs(self, name: str) -> bool:
        """Whether a tunnel of that name runs, ours or the machine's."""
        return await asyncio.to_thread(client.find, name) is not None

    async def disconnect(self, name: str) -> bool:
        """End the tunnel of that name, if it runs, and open its kill switch; false if it is still there after END.

        Raises IkeclientError.
        """
        return await asyncio.to_thread(_disconnect, name)


def _disconnect(name: str) -> bool:
    if (found := client.find(name)) is not None:
        return client.disconnect(name, directory=found[0], timeout=END)
    for directory in (client.runtime_directory(), *system_directories()):
        Blocks(directory, system_directories).open(name)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Started:
    """A process of ours: its `exit` code is awaited by a task, and it was started `at` a time of the event loop's."""

    process: Process
    exit: asyncio.Task[int]
    at: float


class Supervisor:
    """Keeps the tunnel `name`.

    `program` is the command line of ikeclient itself, `reference` what it calls the profile. `report` is told in a
    sentence without its subject what is wrong, and "" when that is over.
    """

    def __init__(
        self,
        name: str,
        reference: str,
        program: Sequence[str],
        report: Callable[[str], None],
        programs: Programs | None = None,
    ) -> None:
        self.name = name
        self._connect = (*program, "connect", reference, "--retry-first")
        self._repair = (*program, "repair")
        self._report = report
        self._programs = programs or Programs()
        self._ours: _Started | None = None
        self._up = self._ordered = self._closing = False
        self._start_at: float | None = None  # when a process is to be started, on the event loop's clock
        self._pause = FIRST_PAUSE
        self._refused_here = False
        self._changed = asyncio.Event()

    def order(self, *, up: bool) -> None:
        """Have the tunnel up, or down, from now on."""
        self._up, self._ordered = up, True
        self._changed.set()

    def moved(self) -> None:
        """Try again at once, on another network, unless it was refused for a reason that goes along."""
        if self._up and (self._refused_here or self._start_at is not None):
            self._start_now()
            self._changed.set()

    def close(self) -> None:
        """Have `run` end the process that was started here, and return."""
        self._closing = True
        self._changed.set()

    async def run(self) -> None:
        """Do as ordered until `close`."""
        try:
            while not self._closing:
                self._changed.clear()
                self._look_for_end()
                if self._ordered:
                    await self._obey()
                if self._start_at is not None and self._start_at <= self._now:
                    await self._start()
                await self._wait()
        finally:
            await self._end()

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _start_now(self) -> None:
        self._refused_here, self._pause, self._start_at = False, FIRST_PAUSE, self._now

    async def _wait(self) -> None:
        """Wait for an order, the end of the process, or the time to start one."""
        timeout = None if self._start_at is None else max(self._start_at - self._now, 0.0)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout)

    async def _obey(self) -> None:
        self._ordered = False
        if not self._up:
            self._start_at = None
            await self._bring_down()
        elif self._ours is None:
            self._start_now()

    async def _start(self) -> None:
        self._start_at = None
        if await self._programs.runs(self.name):
            return  # somebody has started it
        try:
            process = await self._programs.start(self._connect)
        except OSError as error:
            self._start_later(f"cannot be started ({self._connect[0]}: {error.strerror})")
            return
        self._report("")
        over = asyncio.get_running_loop().create_task(process.wait())
        over.add_done_callback(lambda _: self._changed.set())
        self._ours = _Started(process=process, exit=over, at=self._now)

    def _look_for_end(self) -> None:
        ours = self._ours
        if ours is None or not ours.exit.done():
            return
        self._ours = None
        code = ours.exit.result()
        how = f"was ended by signal {-code}" if code < 0 else f"has ended with exit code {code}"
        if code in _ASKED_FOR:
            self._report("was ended by somebody, and stays down until the rules decide otherwise")
        elif code in _REFUSED:
            self._report(f"{how}, and stays down until the rules decide otherwise")
        elif code in _REFUSED_HERE:
            self._refused_here = True
            self._report(f"{how}, and is not started again on this network")
        else:
            if self._now - ours.at > LONGEST_PAUSE:
                self._pause = FIRST_PAUSE
            self._start_later(how)

    def _start_later(self, why: str) -> None:
        self._start_at = self._now + self._pause
        self._report(f"{why}, and is started again in {self._pause:g} s")
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def _bring_down(self) -> None:
        """End the tunnel, whoever has started it: the gateway is told, and a kill switch opened."""
        trouble = await self._disconnect()
        if self._ours is None:
            self._report(trouble)
        else:
            await self._end()
            await self._disconnect()  # what was ended by a signal leaves its kill switch closed

    async def _disconnect(self) -> str:
        """End the tunnel; returns what is wrong."""
        try:
            return "" if await self._programs.disconnect(self.name) else f"has not ended within {END:g} s"
        except IkeclientError as error:
            return f"cannot be ended: {error.message}"

    async def _end(self) -> None:
        """End the process that was started here with SIGTERM, and if it does not go, with SIGKILL."""
        ours = self._ours
        if ours is None:
            return
        with contextlib.suppress(ProcessLookupError):
            ours.process.terminate()
        await asyncio.wait({ours.exit}, timeout=END)
        if not ours.exit.done():
            with contextlib.suppress(ProcessLookupError):
                ours.process.kill()
            await asyncio.wait({ours.exit}, timeout=_KILLED)
            self._report(f"had not ended {END:g} s after SIGTERM: its process {ours.process.pid} was killed")
            await self._undo()
        self._ours = None

    async def _undo(self) -> None:
        """Have undone what a killed process has left of its changes to the machine."""
        with contextlib.suppress(OSError, TimeoutError):
            repair = await self._programs.start(self._repair)
            await asyncio.wait_for(repair.wait(), END)
