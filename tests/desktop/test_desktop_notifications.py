"""Notifications on a real session bus: one for each tunnel, whatever becomes of the service that shows them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from desktop_session import Service, SessionBus, until

from ikeclient.desktop import notifications
from ikeclient.desktop.notice import Notice, NoticeKind
from ikeclient.desktop.notifications import Notifications
from ikeclient.errors import PlatformError

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs Debian's dbus")


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SessionBus]:
    bus = SessionBus(tmp_path)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.address)
    yield bus
    bus.close()


@asynccontextmanager
async def working() -> AsyncIterator[Notifications]:
    """Connected, and showing what is asked for."""
    shows = await notifications.connect()
    work = asyncio.ensure_future(shows.work())
    yield shows
    assert not work.done()
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    await shows.close()


def notice(summary: str = "VPN work: connected", kind: NoticeKind = NoticeKind.UP, body: str = "a body") -> Notice:
    return Notice(kind=kind, summary=summary, body=body)


def test_each_key_has_one_notification_which_is_replaced(bus: SessionBus) -> None:
    async def told() -> None:
        service = await Service.on(bus.address, "body")
        async with working() as shows:
            shows.show("work", notice("up"))
            shows.show("home", notice("home is up"))
            await until(lambda: len(service.calls) == 2)
            shows.show("work", notice("up"))  # as it is
            shows.show("work", notice("refused", NoticeKind.REFUSED))
            await until(lambda: len(service.calls) == 3)
            first, other, third = service.calls
            assert (first["replaces"], other["replaces"], third["replaces"]) == (0, 0, first["number"])
            assert (first["urgency"], first["category"], first["transient"]) == (0, "network.connected", True)
            assert (third["urgency"], third["category"], third["transient"]) == (2, "network.error", False)
            shows.show("work", None)
            await until(lambda: list(service.shown) == [other["number"]])
        assert service.shown == {}, "what is not kept up to date any more is taken away"
        await service.leave()

    asyncio.run(told())


def test_of_many_changes_the_last_one_is_shown(bus: SessionBus) -> None:
    async def told() -> None:
        service = await Service.on(bus.address)
        async with working() as shows:
            for number in range(1000):
                shows.show("work", notice(f"number {number}"))
            await until(lambda: service.summaries[-1:] == ["number 999"])
            assert len(service.calls) <= 2
        await service.leave()

    asyncio.run(told())


@pytest.mark.parametrize(
    ("capabilities", "body"),
    [(("body", "body-markup"), "&lt;b&gt;a &amp; b&lt;/b&gt;"), (("body",), "<b>a & b</b>"), ((), "<b>a & b</b>")],
)
def test_markup_of_a_gateway_is_text(bus: SessionBus, capabilities: tuple[str, ...], body: str) -> None:
    async def told() -> None:
        service = await Service.on(bus.address, *capabilities)
        async with working() as shows:
            shows.show("work", notice(body="<b>a & b</b>"))
            await until(lambda: service.calls)
            assert service.calls[0]["body"] == body
        await service.leave()

    asyncio.run(told())


def test_one_that_a_person_closed_is_not_replaced_and_not_shown_again(bus: SessionBus) -> None:
    """Its number may be another program's by then."""

    async def told() -> None:
        service = await Service.on(bus.address)
        async with working() as shows:
            shows.show("work", notice("lost", NoticeKind.LOST))
            await until(lambda: service.calls)
            service.dismiss(service.calls[0]["number"])
            await until(lambda: not shows._numbers)
            shows.show("work", notice("lost", NoticeKind.LOST))
            shows.show("work", notice("up"))
            await until(lambda: len(service.calls) == 2)
            assert (service.calls[1]["replaces"], service.calls[1]["summary"]) == (0, "up")
        await service.leave()

    asyncio.run(told())


def test_a_service_that_comes_later_shows_what_holds_then(bus: SessionBus) -> None:
    async def told() -> None:
        async with working() as shows:
            shows.show("work", notice("lost", NoticeKind.LOST))
            shows.show("home", notice("home is lost", NoticeKind.LOST))
            await until(lambda: shows._again is not None)
            shows.show("work", notice("refused", NoticeKind.REFUSED))
            shows.show("home", None)
            service = await Service.on(bus.address)
            await until(lambda: service.calls)
            await asyncio.sleep(0.05)
            assert service.summaries == ["refused"]
            await service.leave()

    asyncio.run(told())


def test_a_service_that_is_started_anew_is_told_what_is_new_and_by_new_numbers(bus: SessionBus) -> None:
    async def told() -> None:
        first = await Service.on(bus.address, "body-markup")
        async with working() as shows:
            shows.show("work", notice("up"))
            await until(lambda: first.calls)
            await first.leave()
            second = await Service.on(bus.address, first=7)
            await until(lambda: not shows._numbers)
            shows.show("work", notice("lost", NoticeKind.LOST, "<a>"))
            await until(lambda: second.calls)
            told = second.calls[0]
            assert (told["number"], told["replaces"], told["summary"], told["body"]) == (7, 0, "lost", "<a>")
            await second.leave()

    asyncio.run(told())


def test_a_service_that_refuses_one_is_not_pressed(bus: SessionBus) -> None:
    async def told() -> None:
        service = await Service.on(bus.address)
        service.refuses = True
        async with working() as shows:
            shows.show("work", notice("up"))
            await until(lambda: not shows._waiting)
            service.refuses = False
            shows.show("work", notice("lost", NoticeKind.LOST))
            await until(lambda: service.calls)
            assert service.summaries == ["lost"]
        await service.leave()

    asyncio.run(told())


def test_the_end_of_the_bus_ends_the_work(bus: SessionBus) -> None:
    async def told() -> None:
        shows = await notifications.connect()
        work = asyncio.ensure_future(shows.work())
        shows.show("work", notice())
        await until(lambda: shows._again is not None)
        bus.close()
        with pytest.raises(PlatformError, match="the session bus is gone"):
            await work
        shows.show("work", None)
        await shows.close()

    asyncio.run(told())


def test_without_a_bus_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(PlatformError, match="there is no session bus"):
        notifications.bus_address()
    (tmp_path / "bus").touch()
    assert notifications.bus_address() == f"unix:path={tmp_path}/bus"
    for address in (f"unix:path={tmp_path}/bus", "unix:path=/nonexistent", "nonsense"):
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        with pytest.raises(PlatformError, match="does not answer"):
            asyncio.run(notifications.connect())
