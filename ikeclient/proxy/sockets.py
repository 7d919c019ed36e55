"""The network that this process is in, by its sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from ikeclient.proxy.itself import leads_here
from ikeclient.proxy.lookup import Lookup
from ikeclient.proxy.network import Address, Arrived
from ikeclient.proxy.relay import relay
from ikeclient.proxy.settings import Limits

_KEEPALIVE = {socket.TCP_KEEPIDLE: 300, socket.TCP_KEEPINTVL: 30, socket.TCP_KEEPCNT: 6}
_LARGEST = 65535
_BATCH = 32  # datagrams before others get their turn


def tune(connection: socket.socket) -> None:
    """What both ends of a relay want: no blocking, no waiting for more to send, dead peers noticed in the end."""
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


class SocketNetwork:
    """See `Network`."""

    def __init__(self, limits: Limits) -> None:
        self._lookup = Lookup(limits)

    async def connect(self, host: str, port: int) -> SocketEnd:
        """See `Network`."""
        return SocketEnd(await connect(host, port))

    async def addresses(self, name: str) -> Sequence[str]:
        """See `Network`."""
        return await self._lookup.addresses(name)

    def leads_here(self, host: str) -> bool:
        """See `Network`."""
        return leads_here(host)

    def open_datagrams(self, host: str, arrived: Arrived) -> SocketDatagrams:
        """See `Network`."""
        return SocketDatagrams(socket.AF_INET6 if ":" in host else socket.AF_INET, arrived)

    def close(self) -> None:
        """See `Network`."""
        self._lookup.close()


async def connect(host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError."""
    connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        tune(connection)
        await asyncio.get_running_loop().sock_connect(connection, (host, port))
    except BaseException:
        connection.close()
        raise
    return connection


class SocketEnd:
    """See `FarEnd`."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    @property
    def own(self) -> Address:
        """See `FarEnd`."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    async def send(self, data: bytes) -> None:
        """See `FarEnd`."""
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def relay(self, client: socket.socket, *, limit: int | None = None) -> None:
        """See `FarEnd`."""
        await relay(client, self.socket, limit=limit)

    def close(self) -> None:
        """See `FarEnd`."""
        self.socket.close()


class SocketDatagrams:
    """See `FarDatagrams`."""

    def __init__(self, family: int, arrived: Arrived) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived = arrived
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._read)

    def send(self, data: bytes, to: Address) -> None:
        """See `FarDatagrams`."""
        self._socket.sendto(data, to)

    def close(self) -> None:
        """See `FarDatagrams`."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            for _ in range(_BATCH):
                data, source = self._socket.recvfrom(_LARGEST)
                self._arrived(data, source[:2])
