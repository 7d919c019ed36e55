"""The desktop's notifications over the session bus (org.freedesktop.Notifications, version 1.2 of its specification).

For each key there is one notification, which is replaced in place. A service that shows them may come later, go and
come again: what could not be shown waits, and only the newest of each key. What was shown before is not shown again.

https://specifications.freedesktop.org/notification-spec/1.2/
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
from typing import TYPE_CHECKING, Any

from ikeclient.desktop.notice import Notice, NoticeKind
from ikeclient.errors import PlatformError, UsageError

if TYPE_CHECKING:
    from dbus_fast.aio import MessageBus
    from dbus_fast.message import Message

NAME = "org.freedesktop.Notifications"
PATH = "/org/freedesktop/Notifications"
_BUS, _BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
_MATCHES = (
    f"type='signal',sender='{_BUS}',member='NameOwnerChanged',arg0='{NAME}'",
    f"type='signal',sender='{NAME}',path='{PATH}',member='NotificationClosed'",
)
_APPLICATION, _ICON = "ikeclient", "network-vpn"
_SERVICES_CHOICE = -1  # of how long a notification is shown
_SECONDS = 25.0  # for an answer, which the start of the service may be a part of
_AGAIN = 60.0  # seconds after which it is tried again without a sign of a service
_LAST_SECONDS = 1.0

_LOW, _NORMAL, _CRITICAL = 0, 1, 2
_URGENCY = {
    NoticeKind.UP: _LOW,
    NoticeKind.LOST: _NORMAL,
    NoticeKind.ENDED: _NORMAL,
    NoticeKind.REFUSED: _CRITICAL,
    NoticeKind.BLOCKED: _CRITICAL,
}
_CATEGORY = {  # of those that begin with `network`
    NoticeKind.UP: "connected",
    NoticeKind.LOST: "disconnected",
    NoticeKind.ENDED: "disconnected",
    NoticeKind.REFUSED: "error",
    NoticeKind.BLOCKED: "error",
}


class NoServiceError(Exception):
    """Nothing on the bus shows notifications now."""


async def connect() -> Notifications:
    """Connect to the bus of the session. Raises UsageError without dbus-fast, PlatformError without a bus."""
    try:
        from dbus_fast.aio import MessageBus
    except ImportError:
        hint = "pip install 'ikeclient[desktop]'"
        raise UsageError("the Python package dbus-fast is not installed", hint=hint) from None
    address = bus_address()
    try:
        bus = await MessageBus(bus_address=address).connect()
    except (OSError, ValueError, EOFError) as error:
        raise PlatformError(f"the session bus at {address} does not answer", reason=str(error)) from None
    notifications = Notifications(bus)
    await notifications.listen()
    return notifications


def bus_address() -> str:
    """Return the address of the session bus. Raises PlatformError."""
    if address := os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return address
    directory = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.exists(f"{directory}/bus"):  # where systemd has it
        return f"unix:path={directory}/bus"
    raise PlatformError(
        "there is no session bus",
        reason="DBUS_SESSION_BUS_ADDRESS is not set, and there is no $XDG_RUNTIME_DIR/bus",
        hint="run this in the session of a desktop, as its user",
    )


class Notifications:
    """One notification for each key; `show` never waits, and `work` does what was asked for."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._asked = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None
        self._waiting: dict[str, Notice | None] = {}
        self._shown: dict[str, Notice | None] = {}
        self._numbers: dict[str, int] = {}  # by which the service knows what it shows
        self._markup: bool | None = None  # whether it reads markup; None: not asked yet

    def show(self, key: str, notice: Notice | None) -> None:
        """Have `notice` stand in the place of what `key` had before; None: have it taken away."""
        if self._waiting.get(key, self._shown.get(key)) != notice:
            self._waiting[key] = notice
            self._asked.set()

    async def listen(self) -> None:
        """Hear of services that come and go, and of notifications that are closed."""
        self._bus.add_message_handler(self._heard)
        for rule in _MATCHES:
            await self._call(_BUS, _BUS_PATH, _BUS, "AddMatch", "s", rule)

    async def work(self) -> None:
        """Show what is asked for, until the bus is gone, which raises PlatformError."""
        showing = asyncio.ensure_future(self._show_all())
        gone = asyncio.ensure_future(self._bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        try:
            await asyncio.wait((showing, gone), return_when=asyncio.FIRST_COMPLETED)
            if self._bus.connected:
                showing.result()
        finally:
            for task in (showing, gone):
                task.cancel()
            await asyncio.gather(showing, gone, return_exceptions=True)
        raise PlatformError("the session bus is gone", reason="the session has probably ended")

    async def close(self) -> None:
        """Take away what is shown, if the service is quick, and leave the bus."""
        if self._again is not None:
            self._again.cancel()
        self._waiting = dict.fromkeys(self._numbers)
        with contextlib.suppress(NoServiceError, TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                while self._waiting and self._bus.connected:
                    await self._show_next()
        self._bus.disconnect()

    async def _show_all(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                while self._waiting:
                    await self._show_next()
            except NoServiceError:
                if self._again is not None:
                    self._again.cancel()
                self._again = asyncio.get_running_loop().call_later(_AGAIN, self._asked.set)

    async def _show_next(self) -> None:
        key, notice = next(iter(self._waiting.items()))
        if notice is not None:
            self._numbers[key] = await self._notify(self._numbers.get(key, 0), notice)
        elif number := self._numbers.pop(key, 0):
            await self._ask("CloseNotification", "u", number)
        if self._waiting.get(key) == notice:  # else it was asked for another one meanwhile
            del self._waiting[key]
        self._shown[key] = notice

    async def _notify(self, number: int, notice: Notice) -> int:
        """Show a notice in the place of the one with that number, unless it is 0; returns its number, 0 if refused."""
        from dbus_fast import Variant

        if self._markup is None:
            self._markup = "body-markup" in (await self._ask("GetCapabilities", "") or [()])[0]
        hints = {
            "urgency": Variant("y", _URGENCY[notice.kind]),
            "category": Variant("s", f"network.{_CATEGORY[notice.kind]}"),
            "transient": Variant("b", notice.kind is NoticeKind.UP),
        }
        body = html.escape(notice.body, quote=False) if self._markup else notice.body
        words: tuple[object, ...] = (_APPLICATION, number, _ICON, notice.summary, body, [], hints, _SERVICES_CHOICE)
        answer = await self._ask("Notify", "susssasa{sv}i", *words)
        return int(answer[0]) if answer else 0

    async def _ask(self, member: str, signature: str, *words: object) -> list[Any]:
        """Return the service's answer, nothing if it refuses. Raises NoServiceError."""
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await self._call(NAME, PATH, NAME, member, signature, *words)
        except TimeoutError:
            raise NoServiceError from None
        if answer.error_name is None:
            return answer.body
        if answer.error_name.startswith(f"{_BUS}.Error."):  # the bus's own word: there is none, or it has gone
            raise NoServiceError
        return []

    async def _call(self, name: str, path: str, interface: str, member: str, signature: str, *words: object) -> Message:
        from dbus_fast.message import Message

        question = Message(
            destination=name, path=path, interface=interface, member=member, signature=signature, body=list(words)
        )
        answer = await self._bus.call(question)
        assert answer is not None  # as one that wants an answer
        return answer

    def _heard(self, message: Message) -> None:
        match message.member, message.body:
            case "NameOwnerChanged", [_, _, owner]:
                self._numbers.clear()
                self._markup = None
                if owner:
                    self._asked.set()
            case "NotificationClosed", [number, _]:  # which may become that of another program's notification
                self._numbers = {key: each for key, each in self._numbers.items() if each != number}
