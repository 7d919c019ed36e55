"""How long a tunnel in a namespace lives: as long as its last command, whoever that is."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from ikeclient.control import protocol
from ikeclient.control.directory import Peer
from ikeclient.errors import IkeclientError, UsageError
from ikeclient.ipc.messages import receive
from ikeclient.process.run_in_namespace import STAYS, Commands


class FakeConnection:
    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        self.error: IkeclientError | None = None
        self.session = SimpleNamespace(status=SimpleNamespace(life=SimpleNamespace(word="connected")))

    def stop(self, error: IkeclientError | None = None) -> None:
        self.error = error
        self.stopped.set()


class FakeNamespace:
    init = 4711

    class handle:  # noqa: N801
        inodes = (1, 2, 3)

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()

    def fileno(self) -> int:
        return self.ours.fileno()

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def command() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


async def stands(connection: FakeConnection) -> bool:
    """Whether it was not stopped after everything that is ready was handled."""
    for _ in range(3):
        await asyncio.sleep(0.01)
    return not connection.stopped.is_set()


class Scene:
    """The commands of a tunnel, with the first command's end of its socket."""

    def __init__(self) -> None:
        self.connection, self.namespace = FakeConnection(), FakeNamespace()
        self.commands = Commands(self.connection, self.namespace)  # type: ignore[arg-type]
        self.first, theirs = socket.socketpair()
        self.commands.watch_first(theirs)

    def __enter__(self) -> tuple[FakeConnection, FakeNamespace, Commands, socket.socket]:
        return self.connection, self.namespace, self.commands, self.first

    def __exit__(self, *_: object) -> None:
        self.commands.close()
        self.namespace.close()
        self.first.close()


def test_the_end_of_the_only_command_is_the_end() -> None:
    async def body() -> None:
        with Scene() as (connection, _, commands, first):
            assert await stands(connection)
            first.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(connection.stopped.wait(), 10)
            assert first.recv(16) == b""
            with pytest.raises(UsageError, match=protocol.ENDING):
                commands.join(Peer(os.getpid(), os.geteuid()))

    asyncio.run(body())


def test_a_command_that_joined_keeps_it(command: subprocess.Popen[bytes]) -> None:
    async def body() -> None:
        with Scene() as (connection, _, commands, first):
            assert commands.join(Peer(command.pid, os.geteuid())) == {
                "state": "connected",
                "pid": 4711,
                "namespaces": (1, 2, 3),
            }
            first.shutdown(socket.SHUT_WR)
            assert await stands(connection)
            assert receive(first.recv) == STAYS
            command.send_signal(signal.SIGKILL)
            await asyncio.wait_for(connection.stopped.wait(), 10)

    asyncio.run(body())


def test_the_first_command_keeps_it_when_others_end(command: subprocess.Popen[bytes]) -> None:
    async def body() -> None:
        with Scene() as (connection, _, commands, first):
            commands.join(Peer(command.pid, os.geteuid()))
            command.send_signal(signal.SIGKILL)
            assert await stands(connection)
            first.close()
            await asyncio.wait_for(connection.stopped.wait(), 10)

    asyncio.run(body())


def test_only_the_same_user_and_a_process_in_sight_may_join() -> None:
    async def body() -> None:
        with Scene() as (_, _, commands, _):
            with pytest.raises(UsageError, match="only user"):
                commands.join(Peer(os.getpid(), os.geteuid() + 1))
            with pytest.raises(UsageError, match="cannot watch"):
                commands.join(Peer(0, os.geteuid()))

    asyncio.run(body())


def test_the_loss_of_the_namespaces_init_is_an_error() -> None:
    async def body() -> None:
        with Scene() as (connection, namespace, _, _):
            namespace.theirs.close()
            await asyncio.wait_for(connection.stopped.wait(), 10)
            assert connection.error is not None
            assert "holds the tunnel's namespace" in connection.error.message

    asyncio.run(body())
