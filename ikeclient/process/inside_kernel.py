"""Echoes and names through an interface of this machine, or of the namespace that this process is in.

Names are asked from the tunnel's servers by the resolver of the stack, over sockets that are bound to the interface:
what the machine's own resolver would say does not matter here.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import time
from collections.abc import Callable
from ipaddress import ip_address

from ikeclient.control.answers import PingAnswer, ResolveAnswer
from ikeclient.errors import PrivilegeError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.stack.interfaces import CloseReason, Handler
from ikeclient.stack.ip.icmp import Kind, echo_message, read_reply
from ikeclient.stack.resolver import Outcome, Resolver
from ikeclient.stack.udp import End

_LONGEST = 65535
_LOOK = 0.1  # seconds between looks at the resolver's timers
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h: have ICMP errors told


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A tunnel's interface `device`, None in its namespace, with its inner addresses, name servers and domains."""

    device: str | None
    addresses: tuple[str, ...]
    servers: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


def ping(interface: Interface, address: str, *, timeout: float, size: int) -> PingAnswer:
    """Ask for one echo and wait at most `timeout` seconds. Raises PrivilegeError if the machine lets us not ask."""
    version = ip_address(address).version
    try:
        with _echo_socket(version) as asking:
            _bind(asking, interface)
            asking.setsockopt(*((socket.SOL_IP, _IP_RECVERR, 1) if version == 4 else (41, _IPV6_RECVERR, 1)))
            asking.connect((address, 0))
            return _echo(asking, version, timeout, size)
    except PermissionError as error:
        raise PrivilegeError(
            "this machine does not let us ping",
            reason=f"ICMP sockets are refused: {error.strerror}",
            hint="run it as root, or have root allow it to your group with the sysctl net.ipv4.ping_group_range",
        ) from None
    except OSError as error:
        return PingAnswer(error=error.strerror or str(error))


def _echo_socket(version: int) -> socket.socket:
    """Return a socket for echoes: an unprivileged one, or where those are refused a raw one."""
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    try:
        return socket.socket(family, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        return socket.socket(family, socket.SOCK_RAW, protocol)


def _echo(asking: socket.socket, version: int, timeout: float, size: int) -> PingAnswer:
    identifier, sequence = struct.unpack("!HH", os.urandom(4))
    secret = os.urandom(min(size, 16))
    began = time.monotonic()
    asking.send(echo_message(version, identifier=identifier, sequence=sequence, data=secret.ljust(size, b"\0")))
    while (left := began + timeout - time.monotonic()) > 0:
        asking.settimeout(left)
        try:
            data = asking.recv(_LONGEST)
        except TimeoutError:
            break
        took = time.monotonic() - began
        if asking.type == socket.SOCK_RAW and version == 4:
            data = data[(data[0] & 15) * 4 :]
        reply = read_reply(version, memoryview(data))  # an unprivileged socket has an identifier of the kernel's
        if reply is not None and reply.sequence == sequence and data[8 : 8 + len(secret)] == secret:
            return PingAnswer(rtt_ms=round(took * 1000, 3))
    return PingAnswer()


def _bind(opened: socket.socket, interface: Interface) -> None:
    if interface.device is not None:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.device.encode() + b"\0")


def resolve(interface: Interface, name: str) -> ResolveAnswer:
    """Look a name up with the tunnel's servers."""
    outcome = asyncio.run(_resolve(interface, name))
    if outcome.problem is not None:
        return ResolveAnswer(name=name, error=outcome.problem.value)
    return ResolveAnswer(name=name, addresses=tuple(str(ip_address(address)) for address in outcome.addresses))


async def _resolve(interface: Interface, name: str) -> Outcome:
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Outcome] = loop.create_future()
    resolver = Resolver(_Network(interface), os.urandom)
    resolver.configure(tuple(ip_address(server).packed for server in interface.servers), interface.domains)
    resolver.lookup(name, lambda outcome: None if found.done() else found.set_result(outcome))
    while not found.done():
        await asyncio.wait([found], timeout=_LOOK)
        resolver.expire(loop.time())
    return found.result()


class _Network:
    """The kernel's sockets as the resolver's network."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._versions = {ip_address(address.partition("/")[0]).version for address in interface.addresses}

    def has(self, version: int) -> bool:
        return version in self._versions

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def open_udp(self, port: int = 0, peer: End | None = None) -> _Datagrams:
        assert peer is not None
        return _Datagrams(self._open(socket.SOCK_DGRAM, peer[0]), peer, port)

    def connect(self, remote: bytes, port: int, handler: Handler, now: float) -> _Connection:  # noqa: ARG002
        return _Connection(self._open(socket.SOCK_STREAM, remote), (remote, port), handler)

    def _open(self, kind: socket.SocketKind, remote: bytes) -> socket.socket:
        opened = socket.socket(socket.AF_INET if len(remote) == 4 else socket.AF_INET6, kind)
        try:
            opened.setblocking(False)
            _bind(opened, self._interface)
        except OSError:
            opened.close()
            raise
        return opened


class _Datagrams:
    """A connected UDP socket, on a port that the kernel chose at random."""

    def __init__(self, opened: socket.socket, peer: End, port: int) -> None:
        self._socket = opened
        self._peer = peer
        self._failed: Callable[[Kind, End], None] | None = None
        self._loop = asyncio.get_running_loop()
        try:
            if port:
                opened.bind(("", port))
            opened.connect(_name(peer))
        except OSError:
            opened.close()
            raise

    def listen(self, on_readable: Callable[[], None], on_error: Callable[[Kind, End], None]) -> None:
        self._failed = on_error
        self._loop.add_reader(self._socket, on_readable)

    def send(self, data: bytes) -> bool:
        try:
            return self._socket.send(data) == len(data)
        except OSError:
            return False

    def receive(self) -> tuple[bytes, End] | None:
        try:
            return self._socket.recv(_LONGEST), self._peer
        except BlockingIOError:
            return None
        except OSError as error:
            kind = Kind.PORT_UNREACHABLE if error.errno == errno.ECONNREFUSED else Kind.HOST_UNREACHABLE
            self._loop.call_soon(self._fail, kind)
            return None

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _fail(self, kind: Kind) -> None:
        if self._socket.fileno() >= 0 and self._failed is not None:
            self._failed(kind, self._peer)


class _Connection:
    """A TCP socket that tells a handler what comes."""

    def __init__(self, opened: socket.socket, end: End, handler: Handler) -> None:
        self._socket = opened
        self._handler = handler
        self._task = asyncio.get_running_loop().create_task(self._run(end))

    def send(self, data: bytes) -> int:
        return self._socket.send(data)

    def abort(self) -> None:
        self._task.cancel()

    async def _run(self, end: End) -> None:
        loop = asyncio.get_running_loop()
        with self._socket:
            try:
                await loop.sock_connect(self._socket, _name(end))
                self._handler.on_open()
                while data := await loop.sock_recv(self._socket, _LONGEST):
                    self._handler.on_data(memoryview(data))
                self._handler.on_end()
            except OSError:
                self._handler.on_closed(CloseReason.RESET)


def _name(end: End) -> tuple[str, int]:
    return str(ip_address(end[0])), end[1]
