"""Names to addresses, by the C library's resolver in the namespace we live in.

That resolver cannot be interrupted and may take half a minute, so it runs in threads: enough that slow names do not
hold up others, few enough to bound memory. Nobody waits for them at exit. Clients that ask for one name share a query.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import socket
import threading

from ikeclient.proxy.refusal import BUSY, NO_NAME, TIMEOUT, Refused
from ikeclient.proxy.settings import Limits

_RESOLVER_OPTIONS = "timeout:3 attempts:2"  # so that threads come back before a dead server has used all of them up

Addresses = tuple[str, ...]


class Lookup:
    """The resolver of one proxy; belongs to the running loop."""

    def __init__(self, limits: Limits) -> None:
        os.environ.setdefault("RES_OPTIONS", _RESOLVER_OPTIONS)  # read by the C library (resolv.conf(5))
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._running: dict[str, asyncio.Future[Addresses]] = {}
        self._work: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads = 0
        self._closed = False

    async def addresses(self, name: str) -> Addresses:
        """All addresses in the order of RFC 6724, at most `limits.addresses`. Raises Refused."""
        future = self._running.get(name)
        if future is None:
            if len(self._running) >= self._limits.names_waiting:
                raise Refused(BUSY)
            future = self._running[name] = self._loop.create_future()
            self._employ()
            self._work.put(name)
        try:
            async with asyncio.timeout(self._limits.resolving):
                return await asyncio.shield(future)
        except TimeoutError:
            raise Refused(TIMEOUT) from None

    def close(self) -> None:
        """Let the threads go; what they still find is dropped."""
        self._closed = True
        for _ in range(self._threads):
            self._work.put(None)

    def _employ(self) -> None:
        """One more thread unless there are as many as names in work, or as may be."""
        if self._threads < min(len(self._running), self._limits.resolvers):
            self._threads += 1
            threading.Thread(target=self._resolve_all, name="ikeclient-lookup", daemon=True).start()

    def _resolve_all(self) -> None:
        while (name := self._work.get()) is not None and not self._closed:
            found: list[str] = []
            with contextlib.suppress(OSError, UnicodeError):
                found = [str(answer[4][0]) for answer in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._deliver, name, found)

    def _deliver(self, name: str, found: list[str]) -> None:
        future = self._running.pop(name)
        if future.cancelled():
            return
        if usable := tuple(dict.fromkeys(found))[: self._limits.addresses]:
            future.set_result(usable)
        else:
            future.set_exception(Refused(NO_NAME))
            future.exception()  # nobody may be waiting any more, which is no reason for a warning
