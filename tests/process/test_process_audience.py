"""Who hears of a tunnel: the process that shows it, and those on its control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ikeclient.errors import IkeclientError, Interrupted, NoResponse, PlatformError
from ikeclient.process import audience as audiences
from ikeclient.process.audience import Audience
from ikeclient.tunnel.options import ConnectOptions


class Connection:
    """What the control socket asks."""

    def document(self) -> dict[str, object]:
        return {}

    def stop(self) -> None: ...

    reconnect = suspend = resume = stop


class Socket:
    """A control socket that keeps what it tells."""

    refused = False

    def __init__(self, *_: object, **__: object) -> None:
        self.told: list[str] = []
        self.is_open = False
        sockets.append(self)

    async def start(self) -> None:
        if self.refused:
            raise PlatformError("cannot make the directory", reason="it is read-only")
        self.is_open = True

    def publish(self, event: dict[str, object]) -> None:
        assert self.is_open
        self.told.append(str(event["event"]))

    async def close(self) -> None:
        self.is_open = False


sockets: list[Socket] = []


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    sockets.clear()
    monkeypatch.setattr(audiences, "ControlServer", Socket)
    return []


def run(heard: list[dict[str, object]], ends: Callable[[Audience], None], directory: Path) -> None:
    async def body() -> None:
        audience = Audience(
            ConnectOptions(name="work", runtime_directory=directory, timeout=30.0, keylog=None), heard.append
        )
        connection: Any = Connection()
        async with audience.listening(connection):
            ends(audience)
        audience.notice("nobody listens any more")

    asyncio.run(body())


def fail(error: IkeclientError) -> Callable[[Audience], None]:
    def ends(_: Audience) -> None:
        raise error

    return ends


def test_an_event_goes_to_the_display_and_to_the_socket_while_it_is_open(
    heard: list[dict[str, object]], tmp_path: Path
) -> None:
    run(heard, lambda audience: audience.publish({"event": "connected"}), tmp_path)
    assert [event["event"] for event in heard] == ["connected", "notice"]
    assert [(each.told, each.is_open) for each in sockets] == [(["connected"], False)]


@pytest.mark.parametrize(("error", "told"), [(NoResponse("silent"), ["error"]), (Interrupted("interrupted"), [])])
def test_an_error_that_ends_the_tunnel_is_told_last_on_the_socket_and_ctrl_c_is_none(
    heard: list[dict[str, object]], tmp_path: Path, error: IkeclientError, told: list[str]
) -> None:
    with pytest.raises(type(error)):
        run(heard, fail(error), tmp_path)
    assert [(each.told, each.is_open) for each in sockets] == [(told, False)]
    assert not heard, "what shows the tunnel tells it by itself"


def test_without_a_place_for_the_socket_that_is_said_and_the_tunnel_runs(
    heard: list[dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Socket, "refused", True)
    run(heard, lambda _: None, tmp_path)
    assert heard[0]["text"] == "cannot make the directory: it is read-only"
