"""Tunnels are found, followed and told of; the control sockets are the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from desktop_session import until

from ikeclient.control.events import failed, happened
from ikeclient.control.protocol import MAXIMUM_SUBSCRIBERS
from ikeclient.control.server import ControlServer, Orders
from ikeclient.desktop import notice, notifier
from ikeclient.desktop.notice import Notice, NoticeKind
from ikeclient.desktop.notifier import Notifier
from ikeclient.errors import AuthenticationFailed

CONNECTED = happened("connected", "work", addresses=["10.88.0.1/32"], gateway={"identity": "gw"})
LOST = happened("reconnecting", "work", error=["no answer"])


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    monkeypatch.setenv("IKECLIENT_RUNTIME_DIR", str(directory))
    monkeypatch.setattr(notice, "GRACE", 0.05)
    return directory


class Told:
    """What a notifier shows: each change of a tunnel's notice."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, NoticeKind | None]] = []
        self.blocked: set[str] = set()

    def show(self, name: str, told: Notice | None) -> None:
        change = name, told.kind if told is not None else None
        if change != next((each for each in reversed(self.changes) if each[0] == name), (name, None)):
            self.changes.append(change)


class Tunnel:
    """A control socket, and what the tunnel behind it says of itself."""

    def __init__(self, directory: Path, name: str = "work", **status: object) -> None:
        self.status: dict[str, Any] = {"name": name, "pid": 1, "state": "connecting", "mode": "tun", **status}
        nothing = lambda: None  # noqa: E731
        orders = Orders(disconnect=nothing, reconnect=nothing, suspend=nothing, resume=nothing)
        self.server = ControlServer(name, directory, status=lambda: self.status, orders=orders)

    @classmethod
    async def heard(cls, directory: Path, name: str = "work", **status: object) -> Tunnel:
        """Start one, and wait until it is listened to."""
        tunnel = cls(directory, name, **status)
        await tunnel.server.start()
        await until(lambda: tunnel.server._subscribers, "being listened to")
        return tunnel

    def becomes(self, state: str, event: dict[str, object], **status: object) -> None:
        """Change the state, and tell."""
        self.status |= {"state": state, **status}
        self.server.publish(event)


@asynccontextmanager
async def following(*, quiet: bool = False) -> AsyncIterator[Told]:
    told = Told()
    work = asyncio.ensure_future(Notifier(told.show, lambda: set(told.blocked), quiet=quiet).run())
    yield told
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work


def test_a_tunnel_is_told_of_from_its_start_to_its_end(directory: Path) -> None:
    async def life() -> None:
        async with following() as told:
            tunnel = await Tunnel.heard(directory)
            tunnel.becomes("connected", CONNECTED)
            await until(lambda: told.changes == [("work", NoticeKind.UP)])
            tunnel.becomes("reconnecting", LOST)
            await until(lambda: told.changes[1:] == [("work", NoticeKind.LOST)])
            tunnel.becomes("connected", CONNECTED)
            await until(lambda: told.changes[2:] == [("work", NoticeKind.UP)])
            tunnel.becomes("disconnected", happened("disconnected", "work"))
            await tunnel.server.close()
            await until(lambda: told.changes[3:] == [("work", None)])

    asyncio.run(life())


def test_a_refusal_is_told_and_the_next_attempt_is_followed(directory: Path) -> None:
    async def life() -> None:
        async with following() as told:
            for _ in range(2):
                tunnel = await Tunnel.heard(directory)
                tunnel.server.publish(failed(AuthenticationFailed("refused"), "work"))
                await tunnel.server.close()
                await until(lambda: told.changes == [("work", NoticeKind.REFUSED)])
            tunnel = await Tunnel.heard(directory)
            tunnel.becomes("connected", CONNECTED)
            await until(lambda: told.changes[1:] == [("work", NoticeKind.UP)])
            await tunnel.server.close()

    asyncio.run(life())


def test_a_closed_kill_switch_is_told_while_there_is_a_tunnel_and_after_it(directory: Path) -> None:
    async def life() -> None:
        async with following() as told:
            tunnel = await Tunnel.heard(directory)
            tunnel.becomes("reconnecting", LOST, blocked=True)
            await until(lambda: told.changes == [("work", NoticeKind.BLOCKED)])
            told.blocked = {"work"}
            await tunnel.server.close()  # as one that was killed
            await asyncio.sleep(0.05)
            assert told.changes == [("work", NoticeKind.BLOCKED)]
            told.blocked = set()
            (directory / "work.block.json").touch()  # what is closed is in files there, each written anew by a change
            await until(lambda: told.changes[1:] == [("work", None)])

    asyncio.run(life())


def test_what_is_there_before_is_told_of_only_if_something_is_wrong(directory: Path) -> None:
    async def life() -> None:
        works, silent = Tunnel(directory, state="connected"), Tunnel(directory, "home", state="reconnecting")
        for tunnel in (works, silent):
            await tunnel.server.start()
        async with following() as told:
            told.blocked = {"closed"}
            await until(lambda: len(told.changes) == 2)
            assert sorted(told.changes) == [("closed", NoticeKind.BLOCKED), ("home", NoticeKind.LOST)]
            for tunnel in (works, silent):
                await tunnel.server.close()

    asyncio.run(life())


def test_quiet_is_handed_on(directory: Path) -> None:
    async def life() -> None:
        async with following(quiet=True) as told:
            tunnel = await Tunnel.heard(directory)
            tunnel.becomes("connected", CONNECTED)
            tunnel.becomes("reconnecting", LOST)
            await until(lambda: told.changes == [("work", NoticeKind.LOST)])
            await tunnel.server.close()

    asyncio.run(life())


def test_a_tunnel_that_has_too_many_listeners_is_asked_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "_AGAIN", 0.05)

    async def life() -> None:
        tunnel = Tunnel(directory, state="connected")
        await tunnel.server.start()
        others = []
        for _ in range(MAXIMUM_SUBSCRIBERS):
            reader, writer = await asyncio.open_unix_connection(tunnel.server.path)
            writer.write(b'{"version": 1, "request": "events"}\n')
            await reader.readline()
            others.append(writer)
        async with following() as told:
            await asyncio.sleep(0.2)
            assert len(tunnel.server._subscribers) == MAXIMUM_SUBSCRIBERS
            others.pop().close()
            await until(lambda: len(tunnel.server._subscribers) == MAXIMUM_SUBSCRIBERS)
            tunnel.becomes("reconnecting", LOST)
            await until(lambda: told.changes == [("work", NoticeKind.LOST)])
        for writer in others:
            writer.close()
        await tunnel.server.close()

    asyncio.run(life())


def test_nothing_is_done_while_nothing_happens(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "LOOKS", (0.01,))
    looks: list[bool] = []

    def see() -> set[str]:
        looks.append(True)
        return set()

    async def life() -> None:
        work = asyncio.ensure_future(Notifier(lambda *_: None, see).run())
        await until(lambda: looks)
        before = len(looks)
        await asyncio.sleep(0.3)
        assert len(looks) == before
        directory.with_name("another").touch()
        await asyncio.sleep(0.1)
        assert len(looks) == before, "what lies beside the directory is no reason"
        directory.mkdir()  # noqa: ASYNC240 - of a file system in memory
        await until(lambda: len(looks) > before)
        await asyncio.sleep(0.1)  # for the looks that follow
        before = len(looks)
        (directory / "work.sock").touch()
        await until(lambda: len(looks) > before)
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    asyncio.run(life())
