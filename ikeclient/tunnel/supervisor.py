"""What `connect` calls: prepares the process and the machine, runs one tunnel, and cleans up whatever happened."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

from ikeclient.control.server import ControlServer, OnJoin
from ikeclient.errors import IkeclientError, Interrupted, PlatformError
from ikeclient.net.machine import Machine, free_table, repair
from ikeclient.net.tun import TunDevice
from ikeclient.profile.compile import CompiledProfile
from ikeclient.tunnel.connection import Connection
from ikeclient.tunnel.dry_run import NullTun, PlanningMachine
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.reload import Reloader, Reread, has_terminal

__all__ = ["ConnectOptions", "plan", "run"]

Listener = Callable[[dict[str, object]], None]

_log = logging.getLogger(__name__)


def run(profile: CompiledProfile, options: ConnectOptions, on_event: Listener) -> None:
    """Run one tunnel until it is told to end; blocking.

    `on_event` gets every event as a dictionary. Returns after `disconnect` and SIGTERM, and after the hangup of its
    terminal; raises `Interrupted` after SIGINT and any other `IkeclientError` when the tunnel cannot come up or cannot
    stay up.
    """
    asyncio.run(_run(profile, options, on_event))


async def _run(profile: CompiledProfile, options: ConnectOptions, on_event: Listener) -> None:
    for repaired in repair(options.runtime_directory):
        on_event({"event": "notice", "tunnel": options.name, "text": repaired})
    tun = TunDevice(profile.network.interface, offload=profile.session.offload)
    control: ControlServer | None = None

    def publish(event: dict[str, object]) -> None:
        on_event(event)
        if control is not None:
            control.publish(event)

    try:
        machine = Machine(options.runtime_directory, options.name)
        connection = Connection(profile, options, tun, machine, publish, table=free_table())
        control = await open_control(connection, options, on_event)
        try:
            await until_stopped(connection, options.reread)
        finally:
            machine.revert()  # which a bug may have kept the connection from
            if control is not None:
                await control.close()
    finally:
        tun.close()


async def until_stopped(connection: Connection, reread: Reread | None = None) -> None:
    """Run the connection; SIGTERM ends it in order, and so does SIGINT, with an error that says so.

    The loop keeps the handlers to its own end, so that a second signal does not cut the cleaning up short. An exception
    in a callback is a bug after which nobody knows what the connection does next: it ends the tunnel as well.
    """
    interrupted = False
    bug: BaseException | None = None
    loop = asyncio.get_running_loop()
    running = loop.create_task(connection.run())

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        connection.stop()

    def broken(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal bug
        error = context.get("exception")
        if bug is None and isinstance(error, BaseException) and "handle" in context:
            bug = error
            running.cancel()
        else:  # the loop's own words may quote a secret
            _log.error("%s: %s", context.get("message"), type(error).__name__)

    loop.set_exception_handler(broken)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, connection.stop)
    reloader = _on_hangup(connection, reread)
    try:
        await running
    except (IkeclientError, asyncio.CancelledError):
        if bug is None:
            raise
    finally:
        if reloader is not None:
            reloader.close()
    if bug is not None:
        raise bug
    if interrupted:
        raise Interrupted("interrupted")


def _on_hangup(connection: Connection, reread: Reread | None) -> Reloader | None:
    """SIGHUP ends a tunnel whose terminal is gone, and makes any other read its profile again; nohup turns both off."""
    loop = asyncio.get_running_loop()
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return None
    if reread is None or has_terminal():
        loop.add_signal_handler(signal.SIGHUP, connection.stop)
        return None
    reloader = Reloader(reread, connection.adoption.adopt, lambda text: connection.session.emit("notice", text=text))
    loop.add_signal_handler(signal.SIGHUP, reloader.hangup)
    return reloader


async def open_control(
    connection: Connection, options: ConnectOptions, on_event: Listener, *, on_join: OnJoin | None = None
) -> ControlServer | None:
    """The control socket; a tunnel can live without one where there is no place for it."""
    server = ControlServer(
        options.name,
        options.runtime_directory,
        status=connection.document,
        on_disconnect=connection.stop,
        on_reconnect=connection.reconnect,
        on_join=on_join,
    )
    try:
        await server.start()
    except PlatformError as error:
        on_event({"event": "notice", "tunnel": options.name, "text": ": ".join(error.lines())})
        return None
    return server


def plan(profile: CompiledProfile, options: ConnectOptions, on_event: Listener) -> list[str]:
    """Negotiate with the gateway, disconnect, and return what would have been changed here, as command lines.

    Needs no privilege and changes nothing. Raises what `run` raises.
    """
    return asyncio.run(_plan(profile, options, on_event))


async def _plan(profile: CompiledProfile, options: ConnectOptions, on_event: Listener) -> list[str]:
    tun = NullTun(profile.network.interface)
    machine = PlanningMachine(Machine(options.runtime_directory, options.name))

    def publish(event: dict[str, object]) -> None:
        on_event(event)
        if event["event"] == "connected":
            connection.stop()

    try:
        connection = Connection(profile, options, tun, machine, publish, table=free_table(), hooks=False)
        await until_stopped(connection)
    finally:
        tun.close()
    return machine.lines
