"""Ports inside the tunnel that lead to destinations outside: what others in there open ends in a socket made here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from ikeclient.dataplane.async_host import AsyncHost, Connection
from ikeclient.errors import ParseError, PlatformError, UsageError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.proxy.destination import Destination, address_of, port_of
from ikeclient.proxy.dial import dial
from ikeclient.proxy.in_stack import relay
from ikeclient.proxy.listen import fields
from ikeclient.proxy.refusal import Refused
from ikeclient.proxy.settings import Limits
from ikeclient.proxy.sockets import SocketEnd, SocketNetwork

_MOST = 1024  # connections at once

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteForward:
    """A port of the tunnel's inner address `host`, None: of all of them, and where it leads."""

    host: str | None
    port: int
    destination: Destination

    def __str__(self) -> str:
        where = f"{self.host or 'the inner addresses'} port {self.port}"
        return f"{where} to {self.destination}"


def parse_remote_forward(text: str) -> RemoteForward:
    """`[BIND:]PORT:HOST:PORT`, IPv6 addresses in brackets. Raises UsageError."""
    try:
        parts = fields(text)
        if len(parts) == 3:
            parts = ["", *parts]
        if len(parts) != 4:
            raise ParseError("it takes a port, a host and a port")
        bind, port, host, to = parts
        if bind and address_of(bind) is None:
            raise ParseError(f"'{bind}' is not an address")
        listening = port_of(port)
        if not listening:
            raise ParseError("a port is from 1 to 65535")
        return RemoteForward(host=bind or None, port=listening, destination=Destination.of(host, port_of(to)))
    except ParseError as error:
        raise UsageError(
            f"--remote-forward '{text}': {error}", hint="for example --remote-forward 8080:localhost:3000"
        ) from None


class RemoteForwards:
    """Listens inside the tunnel from construction to `close`. Raises PlatformError."""

    def __init__(self, host: AsyncHost, forwards: Sequence[RemoteForward], limits: Limits) -> None:
        # Whoever started this has chosen the destination, and it is most often a service of this machine.
        self._limits = replace(limits, to_itself=True)
        self._network = SocketNetwork(self._limits)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = []
        for forward in forwards:
            try:
                self._listening.append(host.listen(forward.port, self._accept_for(forward), forward.host))
            except (OSError, ValueError) as error:
                self.close()
                raise PlatformError(f"cannot listen inside the tunnel on {forward}", reason=str(error)) from error

    def close(self) -> None:
        """Listen no more, and cut off everybody."""
        for listening in self._listening:
            listening.close()
        for task in self._tasks:
            task.cancel()
        self._network.close()

    def _accept_for(self, forward: RemoteForward) -> Callable[[Connection], None]:
        def accept(connection: Connection) -> None:
            if len(self._tasks) >= _MOST:
                asyncio.get_running_loop().call_soon(connection.abort)
                return
            task = asyncio.get_running_loop().create_task(self._serve(connection, forward.destination))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return accept

    async def _serve(self, connection: Connection, destination: Destination) -> None:
        try:
            end = await dial(destination, self._network, self._limits)
        except Refused as refused:
            _log.warning("no connection to %s: %s", destination, refused)
            connection.abort()
            return
        assert isinstance(end, SocketEnd)
        with contextlib.closing(end):
            await relay(end.socket, connection)
            if connection.closed is None:
                connection.close()
