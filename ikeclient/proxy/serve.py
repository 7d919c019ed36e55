"""The proxy's process: prepares itself, serves until told to stop or the tunnel is gone."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

from ikeclient.errors import PlatformError
from ikeclient.proxy.server import Server
from ikeclient.proxy.settings import Limits, Settings
from ikeclient.proxy.sockets import SocketNetwork

_OTHER_DESCRIPTORS = 640  # listeners, datagrams, connections that are being refused


def serve(settings: Settings, *, on_ready: Callable[[], None], until: Callable[[], None]) -> int | None:
    """Serve until SIGTERM, SIGINT or SIGHUP comes, whose number is returned, or `until` returns (None); blocking.

    `on_ready` is called once the listeners answer. `until` runs in a thread of its own. Raises PlatformError where the
    listeners cannot be used.
    """
    return asyncio.run(_serve(replace(settings, limits=room_for_connections(settings.limits)), on_ready, until))


def room_for_connections(limits: Limits) -> Limits:
    """The same limits with no more connections than descriptors allow, of which this process may take all it can."""
    room = (_raise_descriptor_limit() - _OTHER_DESCRIPTORS) // 2
    return replace(limits, connections=max(1, min(limits.connections, room)))


async def _serve(settings: Settings, on_ready: Callable[[], None], until: Callable[[], None]) -> int | None:
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[int | None] = loop.create_future()

    def end(reason: int | None) -> None:
        if not ending.done():
            ending.set_result(reason)

    def watch() -> None:
        try:
            until()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(end, None)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup it means nothing
            loop.add_signal_handler(number, end, number)
    server = Server(settings, SocketNetwork(settings.limits))
    try:
        server.start()
    except OSError as error:
        await server.stop()
        raise PlatformError("the proxy cannot listen", reason=error.strerror) from None
    threading.Thread(target=watch, name="ikeclient-watch", daemon=True).start()
    on_ready()
    reason = await ending
    await server.stop()
    return reason


def _raise_descriptor_limit() -> int:
    """How many descriptors we may have from now on.

    A connection takes two; the limit that most sessions start with was made for select().
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard
