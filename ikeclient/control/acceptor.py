"""Connections taken from a listening socket in the event loop that carries the tunnel.

A crowd at the door gets no more than its turn of the loop: one connection a call, no task per client once it is in,
and a pause when there are no descriptors left.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

_EXHAUSTED_SECONDS = 1.0


class Acceptor:
    """Accepts in the running loop until `close`.

    `admit` gets each connection and returns its protocol, or None if it is to be closed at once. A protocol that was
    returned hears `connection_lost` in any case, even if `connection_made` never came.
    """

    def __init__(self, listening: socket.socket, admit: Callable[[socket.socket], asyncio.Protocol | None]) -> None:
        self._listening = listening
        self._admit = admit
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[None]] = set()
        listening.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept no more. Safe to call twice."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()

    async def settle(self) -> None:
        """Wait for the connections that were accepted to be made."""
        await asyncio.gather(*self._arriving, return_exceptions=True)

    def cancel(self) -> None:
        """Drop those that are being made."""
        for task in self._arriving:
            task.cancel()

    def _resume(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left; without a pause the loop would spin
            self._loop.remove_reader(self._listening)
            self._loop.call_later(_EXHAUSTED_SECONDS, self._resume)
            return
        connection.setblocking(False)
        protocol = self._admit(connection)
        if protocol is None:
            connection.close()
            return
        task = self._loop.create_task(self._make(connection, protocol))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _make(self, connection: socket.socket, protocol: asyncio.Protocol) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
        except BaseException as error:
            connection.close()
            protocol.connection_lost(None)
            if not isinstance(error, OSError):
                raise
