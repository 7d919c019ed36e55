"""A control server in a thread with its own event loop, so that tests can be plain blocking clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ikeclient.control import protocol
from ikeclient.control.directory import Peer
from ikeclient.control.server import ControlServer, Orders

T = TypeVar("T")


class ServerRig:
    """`call` and `run` work on the loop of the servers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loop = asyncio.new_event_loop()
        self.loop_errors: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.loop_errors.append(context))
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.actions: list[str] = []
        self.servers: list[ControlServer] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        async def inside() -> T:
            return function(*arguments)

        return self.run(inside())

    def server(
        self,
        name: str = "work",
        status: Callable[[], dict[str, object]] | None = None,
        on_join: Callable[[Peer], object] | None = None,
        ask: Callable[[protocol.Request], Coroutine[Any, Any, object]] | None = None,
    ) -> ControlServer:
        server = ControlServer(
            name,
            self.directory,
            status=status or (lambda: {"name": name, "state": "connected"}),
            orders=Orders(
                disconnect=lambda: self.actions.append(f"disconnect {name}"),
                reconnect=lambda: self.actions.append(f"reconnect {name}"),
                suspend=lambda: self.actions.append(f"suspend {name}"),
                resume=lambda: self.actions.append(f"resume {name}"),
                join=on_join,
                ask=ask,
            ),
        )
        self.run(server.start())
        self.servers.append(server)
        return server

    def stop(self) -> None:
        for server in self.servers:
            self.run(server.close())
        self.run(asyncio.sleep(0.02))  # connections that were being accepted come to their end
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def rig(directory: Path) -> Iterator[ServerRig]:
    rig = ServerRig(directory)
    try:
        yield rig
    finally:
        rig.stop()
