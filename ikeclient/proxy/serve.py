"""The proxy's process: prepares itself, serves until told to stop or left alone."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import sys
from dataclasses import replace

from ikeclient.errors import IkeclientError, PlatformError
from ikeclient.proxy.handover import READY, read_line, understand
from ikeclient.proxy.server import Server
from ikeclient.proxy.settings import Settings

_OTHER_DESCRIPTORS = 640  # listeners, datagrams, connections that are being refused


def serve(channel: socket.socket) -> None:
    """Read the settings from `channel`, say when the listeners answer, serve until it closes or a signal asks to stop.

    Raises PlatformError where the listeners cannot be used.
    """
    settings = understand(read_line(channel))
    room = (_raise_descriptor_limit() - _OTHER_DESCRIPTORS) // 2
    limits = replace(settings.limits, connections=max(1, min(settings.limits.connections, room)))
    asyncio.run(_serve(replace(settings, limits=limits), channel))


async def _serve(settings: Settings, channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = Server(settings)
    try:
        server.start()
        channel.sendall(READY)
    except OSError as error:
        raise PlatformError("the proxy cannot listen", reason=error.strerror) from None
    loop.add_reader(channel, stopping.set)  # whoever started us is gone
    await stopping.wait()
    loop.remove_reader(channel)
    await server.stop()


def _raise_descriptor_limit() -> int:
    """How many descriptors we may have from now on.

    A connection takes two; the limit that most sessions start with was made for select().
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def show(error: IkeclientError) -> int:
    """The error's lines on standard error, as every command shows them; its exit code."""
    first, *rest = error.lines()
    print(f"error: {first}", *(f"  {line}" for line in rest), sep="\n", file=sys.stderr)
    return error.exit_code
