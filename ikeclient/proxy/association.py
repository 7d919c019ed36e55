"""UDP ASSOCIATE (RFC 1928 section 7): datagrams between one client and any destination, until its TCP connection ends.

The client's side is a socket that was bound outside; a pool of them came with the listeners, since this process cannot
make one there. The other side is the network's, for each address family.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter, OrderedDict
from collections.abc import Sequence

from ikeclient.errors import ParseError
from ikeclient.proxy import socks
from ikeclient.proxy.network import Address, FarDatagrams, Network
from ikeclient.proxy.peers import Peer
from ikeclient.proxy.refusal import Refused
from ikeclient.proxy.shares import Shares

_LARGEST = 65535
_BATCH = 32  # datagrams before others get their turn
_NAMES = 64  # remembered by one association
_REMEMBERED = 60.0  # seconds
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared with, not bound to
_HELD = 16  # datagrams of one association that wait for names


class Pool:
    """Datagram sockets that were bound outside, those on each address shared between the users of the machine."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        for one in sockets:
            one.setblocking(False)
        self._free = list(sockets)
        places = Counter(_host_of(one) for one in sockets)
        self._shares: dict[str, Shares[Peer]] = {host: Shares(count) for host, count in places.items()}

    def take(self, host: str, peer: Peer) -> socket.socket | None:
        """A socket that clients reach where they reached the listener at `host`; None if there is none for this one."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for one in self._free:
            where = _host_of(one)
            if one.family == family and where in (host, *_EVERYWHERE) and self._shares[where].may_take(peer):
                self._free.remove(one)
                self._shares[where].take(peer)
                _drain(one)
                return one
        return None

    def give_back(self, taken: socket.socket, peer: Peer) -> None:
        """The association is over."""
        self._free.append(taken)
        self._shares[_host_of(taken)].give_back(peer)


def _host_of(one: socket.socket) -> str:
    return str(one.getsockname()[0])


def _drain(one: socket.socket) -> None:
    """Forget what came for an earlier association."""
    with contextlib.suppress(OSError):
        for _ in range(4096):
            one.recv(1)


class Association:
    """One client's datagrams. `client` is its address, with port 0 while it is not known.

    `to_itself` lets them go to the namespace of the proxy's own sockets.
    """

    def __init__(self, outside: socket.socket, client: Address, network: Network, *, to_itself: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._to_itself = to_itself
        self._outside, self._client, self._network = outside, client, network
        self._inside: dict[bool, FarDatagrams] = {}  # by whether it is IPv6
        self._names: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._held: set[asyncio.Task[None]] = set()
        self._loop.add_reader(outside, self._from_client)

    def close(self) -> None:
        """Stop; the outside socket goes back to its pool."""
        self._loop.remove_reader(self._outside)
        for task in self._held:
            task.cancel()
        for inside in self._inside.values():
            inside.close()
        self._inside.clear()

    def _from_client(self) -> None:
        with contextlib.suppress(OSError):  # there is no more, or an ICMP error that a datagram of ours has met
            for _ in range(_BATCH):
                data, source = self._outside.recvfrom(_LARGEST)
                if not self._is_client(source):
                    continue
                try:
                    message = socks.parse_datagram(data)
                except ParseError:
                    continue
                self._client = (self._client[0], source[1])  # the first datagram that makes sense tells the port
                self._pass_on(message)

    def _is_client(self, source: tuple[str, int]) -> bool:
        return source[0] == self._client[0] and self._client[1] in (0, source[1])

    def _pass_on(self, message: socks.Datagram) -> None:
        destination = message.destination
        if destination.address is not None:
            self._send(destination.host, destination.port, message.data)
        elif address := self._remembered(destination.host):
            self._send(address, destination.port, message.data)
        elif len(self._held) < _HELD:
            task = self._loop.create_task(self._resolve_and_send(message))
            self._held.add(task)
            task.add_done_callback(self._held.discard)

    def _remembered(self, name: str) -> str | None:
        address, until = self._names.get(name, ("", 0.0))
        return address if self._loop.time() < until else None

    async def _resolve_and_send(self, message: socks.Datagram) -> None:
        name = message.destination.host
        try:
            addresses = await self._network.addresses(name)
        except Refused:
            return
        self._names[name] = (addresses[0], self._loop.time() + _REMEMBERED)
        if len(self._names) > _NAMES:
            self._names.popitem(last=False)
        self._send(addresses[0], message.destination.port, message.data)

    def _send(self, host: str, port: int, data: bytes) -> None:
        family = ":" in host
        with contextlib.suppress(OSError):  # as lost as any datagram may be
            if not self._to_itself and self._network.leads_here(host):
                return
            if family not in self._inside:
                self._inside[family] = self._network.open_datagrams(host, self._to_client)
            self._inside[family].send(data, (host, port))

    def _to_client(self, data: bytes, source: Address) -> None:
        with contextlib.suppress(OSError):  # too large with its header, or the client does not read
            self._outside.sendto(socks.datagram(source[0], source[1], data), self._client)
