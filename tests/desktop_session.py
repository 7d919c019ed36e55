"""A real session bus, and a service on it that keeps the notifications that it is asked to show."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbus_fast import MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.message import Message

NAME = "org.freedesktop.Notifications"
PATH = "/org/freedesktop/Notifications"


class SessionBus:
    """dbus-daemon with its socket in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.address = f"unix:path={directory}/bus"
        words = ("dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address", f"--address={self.address}")
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "dbus-daemon did not start"

    def close(self) -> None:
        """End it; what is connected notices."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Service:
    """Shows what it is asked to: `shown` by number, and every call of Notify in `calls`."""

    def __init__(self, bus: MessageBus, capabilities: tuple[str, ...], first: int) -> None:
        self.calls: list[dict[str, Any]] = []
        self.shown: dict[int, dict[str, Any]] = {}
        self.refuses = False
        self._bus = bus
        self._capabilities = list(capabilities)
        self._next = first
        bus.add_message_handler(self._handle)

    @classmethod
    async def on(cls, address: str, *capabilities: str, first: int = 1) -> Service:
        """Start one on the bus at `address`; `first` is the number of its first notification."""
        service = cls(await MessageBus(bus_address=address).connect(), capabilities, first)
        await service._bus.request_name(NAME)
        return service

    async def leave(self) -> None:
        """Go, without a word to anybody."""
        self._bus.disconnect()
        await self._bus.wait_for_disconnect()

    def dismiss(self, number: int) -> None:
        """Close a notification as a person does."""
        del self.shown[number]
        self._bus.send(Message.new_signal(PATH, NAME, "NotificationClosed", "uu", [number, 2]))

    @property
    def summaries(self) -> list[str]:
        """The headlines of what was asked for, in order."""
        return [each["summary"] for each in self.calls]

    def _handle(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL or message.path != PATH:
            return None
        assert message.interface == NAME
        match message.member, message.signature:
            case "GetCapabilities", "":
                return Message.new_method_return(message, "as", [self._capabilities])
            case "Notify", "susssasa{sv}i" if self.refuses:
                return Message.new_error(message, f"{NAME}.Error.ExcessNotificationGeneration", "too many")
            case "Notify", "susssasa{sv}i":
                return Message.new_method_return(message, "u", [self._show(*message.body)])
            case "CloseNotification", "u":
                self.shown.pop(message.body[0], None)
                return Message.new_method_return(message, "", [])
        return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", str(message.member))

    def _show(
        self,
        application: str,
        replaces: int,
        icon: str,
        summary: str,
        body: str,
        actions: list[str],
        hints: dict[str, Variant],
        expires: int,
    ) -> int:
        assert (application, icon, actions, expires) == ("ikeclient", "network-vpn", [], -1)
        number = replaces or self._next
        self._next += not replaces
        told = {name: value.value for name, value in hints.items()}
        self.shown[number] = {"number": number, "replaces": replaces, "summary": summary, "body": body, **told}
        self.calls.append(self.shown[number])
        return number


async def until(condition: Callable[[], object], what: str = "it", seconds: float = 10.0) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - mostly of other processes
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen") from None
