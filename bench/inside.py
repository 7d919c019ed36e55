"""TCP of the in-process stack at one end of a tunnel, told what to do as `bench.traffic` is; and a proxy into it."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.traffic import ECHO, GO, PIECE, PORTS
from ikeclient.dataplane.async_host import AsyncHost, Connection
from ikeclient.proxy.in_stack import StackNetwork
from ikeclient.proxy.server import Server
from ikeclient.proxy.settings import Kind, Limits, Listener, Settings
from ikeclient.stack.interfaces import CloseReason, Stream

_SAID = bytes(10_000)  # what each connection has carried before it is idle


class Flow:
    """One connection that sends, or receives and counts, as much as it can (`stack.interfaces.Handler`)."""

    def __init__(self, counts: Inside, *, sends: bool) -> None:
        self._counts = counts
        self._sends = sends
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stream: Stream | None = None

    async def open(self, host: AsyncHost, address: str, port: int) -> None:
        """Return when it is established."""
        self.stream = host.connect(address, port, self)
        async with asyncio.timeout(10):
            await self._opened

    def go(self) -> None:
        """Begin."""
        if self._sends:
            self.on_writable()
        elif self.stream is not None:
            self.stream.send(GO)

    def on_open(self) -> None:
        """See `Handler`."""
        self._opened.set_result(None)

    def on_writable(self) -> None:
        """See `Handler`."""
        stream = self.stream
        while stream is not None and stream.send(PIECE) == len(PIECE):
            pass

    def on_data(self, data: memoryview) -> int:
        """See `Handler`."""
        self._counts.received += len(data)
        return len(data)

    def on_end(self) -> None:
        """See `Handler`."""

    def on_closed(self, reason: CloseReason) -> None:
        """See `Handler`."""
        self._counts.closed.append(reason)


class Inside:
    """Everything that the host carries. See `bench.traffic` for the commands; besides them:

    - `idle HOST COUNT`: that many connections that have carried ten kilobytes to an echo and back
    - `rate HOST SECONDS AT_ONCE`: connections opened and closed again; how many a second
    - `proxy`: serve a SOCKS proxy; its port
    """

    def __init__(self, host: AsyncHost) -> None:
        self._host = host
        self._flows: list[Flow] = []
        self._idle: list[Connection] = []
        self._server: Server | None = None
        self.received = 0
        self.closed: list[CloseReason] = []

    async def run(self) -> None:
        """Until the input ends."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            word, *arguments = json.loads(line)
            act: Callable[..., Awaitable[dict[str, Any] | None]] = getattr(self, f"do_{word}")
            try:
                answer = await act(*arguments)
            except OSError as error:
                answer = {"error": str(error)}
            print(json.dumps(answer or {}), flush=True)

    async def do_open(self, kind: str, host: str, flows: int, proxy: int) -> None:
        """See `bench.traffic`."""
        if proxy:
            raise OSError("there is no proxy inside")
        for _ in range(flows):
            flow = Flow(self, sends=kind == "up")
            self._flows.append(flow)
            await flow.open(self._host, host, PORTS[kind])
        for flow in self._flows:
            flow.go()

    async def do_count(self) -> dict[str, Any]:
        """See `bench.traffic`."""
        return {"bytes": self.received, "at": time.monotonic(), "closed": self.closed}

    async def do_stop(self) -> None:
        """See `bench.traffic`."""
        for flow in self._flows:
            if flow.stream is not None:
                flow.stream.abort()
        self._flows.clear()
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def do_idle(self, host: str, count: int) -> None:
        """See the class."""
        for start in range(0, count, 50):
            self._idle += await asyncio.gather(*(self._one(host) for _ in range(min(50, count - start))))

    async def _one(self, host: str) -> Connection:
        connection = await self._host.open_connection(host, ECHO)
        await connection.write(_SAID)
        got = 0
        while got < len(_SAID):
            got += len(await connection.read())
        return connection

    async def do_rate(self, host: str, seconds: float, at_once: int) -> dict[str, float]:
        """See the class."""
        begin = time.monotonic()
        counts = await asyncio.gather(*(self._open_and_close(host, begin + seconds) for _ in range(at_once)))
        return {"per_second": sum(counts) / (time.monotonic() - begin)}

    async def _open_and_close(self, host: str, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            (await self._host.open_connection(host, ECHO)).close()
            count += 1
        return count

    async def do_proxy(self) -> dict[str, int]:
        """See the class."""
        listener = socks_listener()
        limits = Limits()
        self._server = Server(Settings(listeners=(listener,), limits=limits), StackNetwork(self._host, limits))
        self._server.start()
        return {"port": listener.socket.getsockname()[1]}


def socks_listener() -> Listener:
    """A SOCKS listener at any port."""
    return Listener(socket=socket.create_server(("127.0.0.1", 0)), kind=Kind.SOCKS)
