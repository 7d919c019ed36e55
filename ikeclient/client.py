"""Typed access to running tunnels for Python programs: what the commands ask over the tunnels' control sockets.

Each function blocks for a moment; `*_async` is the same in a thread. Errors are those of the commands
(`ikeclient.errors`): `NoSuchTunnel` (exit code 8) where a tunnel does not run, `PrivilegeError` where it is another
user's, `NoResponse` where it does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Mapping

from ikeclient.control import client as control
from ikeclient.control.protocol import Command
from ikeclient.control.status import TunnelStatus

__all__ = [
    "disconnect",
    "disconnect_async",
    "events",
    "events_async",
    "list_async",
    "list_tunnels",
    "reconnect",
    "reconnect_async",
    "status",
    "status_async",
]


def list_tunnels() -> list[str]:
    """Return the names of the running tunnels that we may look at. Never raises."""
    return control.list_tunnels()


def status(name: str) -> TunnelStatus:
    """Return what a tunnel tells about itself. Raises NoSuchTunnel, NoResponse."""
    return control.status(control.resolve(name))


def disconnect(name: str, *, patience: float = 10.0) -> bool:
    """End a tunnel; whether its process was seen to end within `patience` seconds.

    Raises NoSuchTunnel, PrivilegeError.
    """
    return control.disconnect(control.resolve(name), timeout=patience)


def reconnect(name: str) -> None:
    """Have a tunnel make a new connection. Raises NoSuchTunnel, PrivilegeError."""
    control.request(control.resolve(name), Command.RECONNECT)


def events(name: str) -> control.Events:
    """Listen to what happens to a tunnel from now on, until it ends: an iterator, and a context manager that closes it.

    Raises NoSuchTunnel.
    """
    return control.events(control.resolve(name))


async def list_async() -> list[str]:
    """As `list_tunnels`."""
    return await asyncio.to_thread(list_tunnels)


async def status_async(name: str) -> TunnelStatus:
    """As `status`."""
    return await asyncio.to_thread(status, name)


async def disconnect_async(name: str, *, patience: float = 10.0) -> bool:
    """As `disconnect`."""
    return await asyncio.to_thread(disconnect, name, patience=patience)


async def reconnect_async(name: str) -> None:
    """As `reconnect`."""
    await asyncio.to_thread(reconnect, name)


async def events_async(name: str) -> AsyncIterator[Mapping[str, object]]:
    """As `events`, from the first step on; a thread listens until the tunnel ends or the generator is closed."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Mapping[str, object] | BaseException | None] = asyncio.Queue()
    listening = await asyncio.to_thread(lambda: control.events(control.resolve(name)))

    def read() -> None:
        end: BaseException | None = None
        try:
            for event in listening:
                loop.call_soon_threadsafe(queue.put_nowait, event)
        except Exception as error:
            end = error
        with contextlib.suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(queue.put_nowait, end)

    threading.Thread(target=read, name="ikeclient-events", daemon=True).start()
    try:
        while (got := await queue.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            yield got
    finally:
        listening.close()
