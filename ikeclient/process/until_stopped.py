"""How a tunnel's process runs its connection: until it ends by itself, or a signal ends it."""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401  for name lookups: a process without rights may not be able to read its library
import logging
import signal
from collections.abc import Callable
from typing import Any

from ikeclient.errors import IkeclientError, Interrupted
from ikeclient.process.hangup import Reloader, Reread, has_terminal
from ikeclient.tunnel.driver import TunnelDriver

_log = logging.getLogger(__name__)


async def until_stopped(
    connection: TunnelDriver,
    stop: Callable[[], None],
    reread: Reread | None = None,
    *,
    busy: Callable[[bool], None] = lambda _: None,
) -> None:
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
        stop()

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
    loop.add_signal_handler(signal.SIGTERM, stop)
    reloader = _on_hangup(connection, stop, reread, busy)
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


def _on_hangup(
    connection: TunnelDriver, stop: Callable[[], None], reread: Reread | None, busy: Callable[[bool], None]
) -> Reloader | None:
    """Have SIGHUP end a tunnel with a terminal, and make any other read its profile again; nohup turns both off."""
    loop = asyncio.get_running_loop()
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return None
    if reread is None or has_terminal():
        loop.add_signal_handler(signal.SIGHUP, stop)
        return None
    reloader = Reloader(reread, connection.adopt, connection.notice, busy)
    loop.add_signal_handler(signal.SIGHUP, reloader.hangup)
    return reloader
