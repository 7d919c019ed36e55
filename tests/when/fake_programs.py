"""A machine whose only tunnels are those that a test starts on it, as processes that end as the test says."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence

from ikeclient.errors import PrivilegeError
from ikeclient.when.supervisor import Programs


class FakeProcess:
    """A process that ends `goodbye` seconds after SIGTERM, or never if that is None; `end` ends it by itself."""

    def __init__(self, pid: int, goodbye: float | None, seen: list[str]) -> None:
        self.pid = pid
        self._goodbye = goodbye
        self._seen = seen
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def over(self) -> bool:
        return self._exit.done()

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    def end(self, code: int) -> None:
        if not self.over:
            self._exit.set_result(code)

    def terminate(self) -> None:
        if self.over:
            raise ProcessLookupError
        self._seen.append(f"TERM {self.pid}")
        if self._goodbye is not None:
            asyncio.get_running_loop().call_later(self._goodbye, self.end, 0)

    def kill(self) -> None:
        self._seen.append(f"KILL {self.pid}")
        self.end(-9)


class FakePrograms(Programs):
    """A machine whose only processes are those that are started here."""

    def __init__(self, goodbye: float | None = 1.0) -> None:
        self.seen: list[str] = []
        self.tunnels: list[FakeProcess] = []
        self.started: list[float] = []
        self.missing = False
        self.has_socket = False  # whether a tunnel that runs is found by its socket
        self.is_foreign = False
        self._goodbye = goodbye

    async def start(self, command: Sequence[str]) -> FakeProcess:
        if self.missing:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", command[0])
        self.seen.append(command[1])
        process = FakeProcess(len(self.seen) + 100, self._goodbye, self.seen)
        if command[1] == "connect":
            assert all(each.over for each in self.tunnels), "two processes for one tunnel"
            self.tunnels.append(process)
            self.started.append(asyncio.get_running_loop().time())
        else:
            process.end(0)
        return process

    async def runs(self, name: str) -> bool:
        return self.is_foreign

    async def disconnect(self, name: str) -> bool:
        self.seen.append("disconnect")
        if self.is_foreign:
            raise PrivilegeError("tunnel 'work' is not ours to control")
        if self.has_socket and self.tunnels and not self.tunnels[-1].over:
            assert self._goodbye is not None
            await asyncio.sleep(self._goodbye)
            self.tunnels[-1].end(0)
        return True
