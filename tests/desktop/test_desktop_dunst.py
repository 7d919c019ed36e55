"""A real desktop service shows our notifications: dunst, on a screen that nobody sees."""

from __future__ import annotations

import asyncio
import html
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desktop_session import SessionBus, until

from ikeclient.desktop import notifications
from ikeclient.desktop.notice import Notice, NoticeKind

NEEDED = ("dbus-daemon", "dunst", "dunstctl", "Xvfb")

pytestmark = [
    pytest.mark.extended,
    pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason="needs Debian's dbus, dunst and xvfb"),
]


@pytest.fixture(params=["full", "no"])
def markup(request: pytest.FixtureRequest) -> str:
    """What dunst is configured to make of markup."""
    return str(request.param)


@pytest.fixture
def dunst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, markup: str) -> Iterator[None]:
    """The variables of a session in which dunst runs."""
    configuration = tmp_path / "dunstrc"
    configuration.write_text(f"[global]\nmarkup = {markup}\n")
    bus = SessionBus(tmp_path)
    reader, writer = os.pipe()
    words = ("Xvfb", "-displayfd", str(writer), "-screen", "0", "640x480x24", "-nolisten", "tcp")
    screen = subprocess.Popen(words, pass_fds=(writer,), stderr=subprocess.DEVNULL)
    os.close(writer)
    with open(reader) as told:
        display = told.readline().strip()
    assert display, "Xvfb did not start"
    monkeypatch.setenv("DISPLAY", f":{display}")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.address)
    monkeypatch.setenv("HOME", str(tmp_path))
    daemon = subprocess.Popen(["dunst", "-conf", configuration], stderr=subprocess.DEVNULL)
    yield
    for process in (daemon, screen):
        process.kill()
        process.wait()
    bus.close()


def shown() -> list[tuple[str, str, str]]:
    """Headline, text and category of what was closed, the last one first."""
    said = subprocess.run(["dunstctl", "history"], capture_output=True, text=True, timeout=10, check=False).stdout
    found: list[dict[str, Any]] = json.loads(said)["data"][0] if said else []
    return [(each["summary"]["data"], each["body"]["data"], each["category"]["data"]) for each in found]


def displayed() -> int:
    said = subprocess.run(["dunstctl", "count", "displayed"], capture_output=True, text=True, timeout=10, check=False)
    return int(said.stdout or 0)


def test_one_notification_stands_for_a_tunnel_with_the_text_as_it_is(dunst: None, markup: str) -> None:
    text = "the gateway says: <b>5 < 6 & 7</b>"

    async def told() -> None:
        shows = await notifications.connect()
        work = asyncio.ensure_future(shows.work())
        shows.show("work", Notice(kind=NoticeKind.LOST, summary="VPN work: not connected", body="no answer"))
        await until(lambda: displayed() == 1, "a notification", 20)
        shows.show("work", Notice(kind=NoticeKind.REFUSED, summary="VPN work: the login was refused", body=text))
        await until(lambda: not shows._waiting)
        assert displayed() == 1
        shows.show("work", None)
        await until(lambda: displayed() == 0, "its end")
        work.cancel()
        await shows.close()

    asyncio.run(told())
    [(summary, body, category)] = shown()
    assert (summary, category) == ("VPN work: the login was refused", "network.error")
    sent = html.escape(text, quote=False) if markup == "full" else text
    assert body == sent, "shown as text, not read as markup"
