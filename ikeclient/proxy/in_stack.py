"""The network inside a tunnel that ends in this process (`stack`): no sockets there, and no descriptor for them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from ikeclient.dataplane.async_host import AsyncHost, Connection, Datagrams
from ikeclient.proxy.network import Address, Arrived
from ikeclient.proxy.refusal import NO_NAME, TIMEOUT, Refused
from ikeclient.proxy.relay import reset_on_close, see_through
from ikeclient.proxy.settings import Limits
from ikeclient.stack.interfaces import CloseReason

_CHUNK = 256 << 10
_ROUNDS = 4  # chunks before the others get their turn
_PIECES = 16  # as they came out of the tunnel, likewise
_KEEP_ALIVE = 300.0  # seconds
_BATCH = 32  # datagrams before others get their turn


class StackNetwork:
    """See `network.Network`."""

    def __init__(self, host: AsyncHost, limits: Limits) -> None:
        self._host = host
        self._limits = limits

    async def connect(self, host: str, port: int) -> StackEnd:
        """See `Network`."""
        connection = await self._host.open_connection(str(_plain(host)), port)
        connection.stream.keep_alive(_KEEP_ALIVE)
        return StackEnd(connection)

    async def addresses(self, name: str) -> Sequence[str]:
        """See `Network`."""
        try:
            async with asyncio.timeout(self._limits.resolving):
                found = await self._host.resolve(name)
        except TimeoutError:
            raise Refused(TIMEOUT) from None
        except (OSError, UnicodeError):
            raise Refused(NO_NAME) from None
        if not found:
            raise Refused(NO_NAME)
        return found[: self._limits.addresses]

    def leads_here(self, host: str) -> bool:
        """See `Network`."""
        address = _plain(host)
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            return True
        return (address.version == 4 and not address.packed[0]) or str(address) in self._host.host.addresses

    def open_datagrams(self, host: str, arrived: Arrived) -> StackDatagrams:  # noqa: ARG002  both families are alike
        """See `Network`."""
        return StackDatagrams(self._host.open_udp(), arrived)

    def close(self) -> None:
        """See `Network`."""


def _plain(host: str) -> IPv4Address | IPv6Address:
    """The address without a zone, and the IPv4 address behind a mapped one."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class StackEnd:
    """See `network.FarEnd`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def own(self) -> Address:
        """See `FarEnd`."""
        return self._connection.own

    async def send(self, data: bytes) -> None:
        """See `FarEnd`."""
        await self._connection.write(data)

    async def relay(self, client: socket.socket, *, limit: int | None = None) -> None:
        """See `FarEnd`."""
        await relay(client, self._connection, limit=limit)

    def close(self) -> None:
        """See `FarEnd`."""
        if self._connection.closed is None:
            self._connection.close()


class StackDatagrams:
    """See `network.FarDatagrams`."""

    def __init__(self, datagrams: Datagrams, arrived: Arrived) -> None:
        self._datagrams = datagrams
        self._arrived = arrived
        datagrams.when_readable(self._read)

    def send(self, data: bytes, to: Address) -> None:
        """See `FarDatagrams`."""
        self._datagrams.send(data, to)

    def close(self) -> None:
        """See `FarDatagrams`."""
        self._datagrams.close()

    def _read(self) -> None:
        for _ in range(_BATCH):
            got = self._datagrams.receive()
            if got is None:
                return
            self._arrived(*got)
        asyncio.get_running_loop().call_soon(self._read)


async def relay(client: socket.socket, connection: Connection, *, limit: int | None = None) -> None:
    """Carry bytes both ways; as `proxy.relay.relay`, between a socket and a connection of the stack.

    What arrives goes from the packet straight to the socket; only what the socket does not take waits, in the stack,
    whose window then closes. What the client sends is kept once, by reference, until the far end has acknowledged it.
    """
    await see_through(_Relay(client, connection, limit))


class _Relay:
    """Both ways of one relay, and what the stack tells of the connection (`stack.interfaces.Handler`)."""

    __slots__ = (
        "_client",
        "_connection",
        "_down_over",
        "_left",
        "_loop",
        "_reading",
        "_rest_down",
        "_rest_up",
        "_up_over",
        "_writing",
        "ended",
    )

    def __init__(self, client: socket.socket, connection: Connection, limit: int | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._client = client
        self._connection = connection
        self._left = limit
        self._rest_up: memoryview | None = None  # that the stack had no room for
        self._rest_down: memoryview | None = None  # that the client had no room for
        self._up_over = self._down_over = False
        self._reading = self._writing = False
        connection.handle(self)
        if connection.closed is not None:
            self.on_closed(connection.closed)
            return
        self._read_client(True)
        self._to_client()

    def cut(self) -> None:
        """Reset both ends, so that nobody takes a part for the whole."""
        self.release()
        with contextlib.suppress(OSError):
            reset_on_close(self._client)
        if self._connection.closed is None:
            self._connection.abort()
        if not self.ended.done():
            self.ended.set_result(None)

    def release(self) -> None:
        """Watch nothing any more."""
        self._read_client(False)
        self._write_client(False)

    def _end_if_over(self) -> None:
        if self._up_over and self._down_over and not self.ended.done():
            self.ended.set_result(None)

    # From the client into the tunnel

    def _from_client(self) -> None:
        try:
            for _ in range(_ROUNDS):
                data = self._client.recv(_CHUNK)
                if not data:
                    self._up_over = True
                    self._read_client(False)
                    self._connection.shutdown()
                    self._end_if_over()
                    return
                length = len(data)
                if self._left is not None:
                    data = data[: self._left]
                    self._left -= len(data)
                taken = self._connection.stream.send(data) if data else 0
                if taken < len(data):
                    self._rest_up = memoryview(data)[taken:]
                    self._read_client(False)
                    return
                if length < _CHUNK:
                    return  # that was all, most likely; asking would cost a system call each time
        except BlockingIOError:
            pass
        except OSError:
            self.cut()

    def on_writable(self) -> None:
        """See `Handler`."""
        if self._rest_up is not None:
            taken = self._connection.stream.send(self._rest_up)
            self._rest_up = self._rest_up[taken:] if taken < len(self._rest_up) else None
        if self._rest_up is None and not self._up_over and not self.ended.done():
            self._read_client(True)

    # From the tunnel to the client

    def on_data(self, data: memoryview) -> int:
        """See `Handler`."""
        if self._writing or self._rest_down is not None or self.ended.done():
            return 0
        try:
            sent = self._client.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._loop.call_soon(self.cut)
            return len(data)
        if sent < len(data):
            self._write_client(True)
        return sent

    def on_end(self) -> None:
        """See `Handler`."""
        if not self._writing:
            self._to_client()

    def _to_client(self) -> None:
        """Hand over what waits in the stack, as far as the client takes it."""
        stream = self._connection.stream
        try:
            for _ in range(_PIECES):
                if self._rest_down is None:
                    if not stream.waiting:
                        break
                    self._rest_down = memoryview(stream.receive(_CHUNK))
                sent = self._client.send(self._rest_down)
                self._rest_down = self._rest_down[sent:] if sent < len(self._rest_down) else None
                if self._rest_down is not None:
                    break
        except BlockingIOError:
            pass
        except OSError:
            self.cut()
            return
        if self._rest_down is not None or stream.waiting:
            self._write_client(True)
            return
        self._write_client(False)
        if stream.at_end and not self._down_over:
            self._down_over = True
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_WR)
            self._end_if_over()

    # The connection

    def on_open(self) -> None:
        """See `Handler`."""

    def on_closed(self, reason: CloseReason) -> None:
        """See `Handler`."""
        if self.ended.done():
            return
        if reason is not CloseReason.CLOSED:
            self.cut()
            return
        self._up_over = True
        self._read_client(False)
        self._to_client()

    # Watching

    def _read_client(self, wanted: bool) -> None:
        if wanted is not self._reading:
            self._reading = wanted
            if wanted:
                self._loop.add_reader(self._client, self._from_client)
            else:
                self._loop.remove_reader(self._client)

    def _write_client(self, wanted: bool) -> None:
        if wanted is not self._writing:
            self._writing = wanted
            if wanted:
                self._loop.add_writer(self._client, self._to_client)
            else:
                self._loop.remove_writer(self._client)
