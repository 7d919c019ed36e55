"""`/metrics`, `/healthz` and `/readyz` over HTTP, from the event loop that carries the tunnel.

So nothing a client does may cost that loop more than a moment: one request a connection, a short head, a few seconds,
a few clients; whoever is slow or too many is cut off. Only GET and HEAD are known. What is told is what `status` tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable, Iterator, Sequence

from ikeclient.control.acceptor import Acceptor
from ikeclient.control.metrics import CONTENT_TYPE, render
from ikeclient.control.status import TunnelStatus
from ikeclient.errors import PlatformError, UsageError
from ikeclient.lazy_dataclass import dataclass

DEFAULT_HOST = "127.0.0.1"
LONGEST_HEAD = 8192  # bytes
SECONDS = 5.0  # for a request to arrive and its answer to be taken
MOST_CLIENTS = 16

_PLAIN = "text/plain; charset=utf-8"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}
_INDEX = "/metrics: for Prometheus\n/healthz: 200 while the process answers\n/readyz: 200 while packets flow\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one request."""

    status: int
    body: str
    content_type: str = _PLAIN


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `[HOST:]PORT`; an IPv6 address stands in brackets. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host.startswith("[") and host.endswith("]")
    if not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536 or (":" in bare and not bracketed):
        raise UsageError(f"'{text}' is not [HOST:]PORT", hint="for example 9142, 0.0.0.0:9142 or [::1]:9142")
    if not colon:
        return DEFAULT_HOST, int(port)
    try:
        return str(ipaddress.ip_address(bare)), int(port)
    except ValueError:
        if bare == "localhost":
            return DEFAULT_HOST, int(port)
        raise UsageError(f"'{bare}' in '{text}' is not an address", hint="for example 127.0.0.1:9142") from None


@contextlib.contextmanager
def bound(address: tuple[str, int] | None) -> Iterator[socket.socket | None]:
    """Have a socket that listens there; None for no address. Raises PlatformError."""
    if address is None:
        yield None
        return
    with _bind(address) as listening:
        yield listening


@contextlib.contextmanager
def served(listening: socket.socket | None, status: Callable[[], TunnelStatus]) -> Iterator[None]:
    """Answer requests that come there, with this status, in the running loop."""
    if listening is None:
        yield
        return
    listener = HttpListener(listening, status)
    try:
        yield
    finally:
        listener.close()


def _bind(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(MOST_CLIENTS)
    except OSError as error:
        listening.close()
        where = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
        hint = "another program listens there; choose another port" if error.errno == errno.EADDRINUSE else None
        raise PlatformError(f"metrics cannot be told at {where}", reason=error.strerror, hint=hint) from error
    return listening


def answer(target: str, status: Callable[[], TunnelStatus]) -> Answer:
    """Return the answer to a request for `target`."""
    match target.partition("?")[0]:
        case "/metrics":
            return Answer(status=200, body=render([status()]), content_type=CONTENT_TYPE)
        case "/healthz":
            return Answer(status=200, body="ok\n")
        case "/readyz":
            now = status()
            ready = now.state == "connected"
            why = f": {now.last_error}" if now.last_error and not ready else ""
            return Answer(status=200 if ready else 503, body=f"{now.state}{why}\n")
        case "/":
            return Answer(status=200, body=_INDEX)
        case _:
            return Answer(status=404, body=_INDEX)


def _names_this_machine(fields: Sequence[str]) -> bool:
    """Whether Host is an address or localhost, or missing: a page in a browser cannot have its own name lead here."""
    for field in fields:
        name, _, value = field.partition(":")
        if name.strip().lower() == "host":
            host = value.strip()
            host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
            try:
                ipaddress.ip_address(host)
            except ValueError:
                return host.lower() == "localhost"
    return True


class HttpListener:
    """Answers on a bound socket in the running loop until `close`."""

    def __init__(self, listening: socket.socket, status: Callable[[], TunnelStatus]) -> None:
        self.status = status
        self.local = ipaddress.ip_address(listening.getsockname()[0]).is_loopback
        self._clients: set[_Client] = set()
        self._acceptor = Acceptor(listening, self._admit)

    def close(self) -> None:
        """Stop listening, and cut off everybody."""
        self._acceptor.close()
        self._acceptor.cancel()
        for client in tuple(self._clients):
            client.abort()

    def forget(self, client: _Client) -> None:
        """Give up the place of a client that is gone."""
        self._clients.discard(client)

    def _admit(self, _: socket.socket) -> _Client | None:
        if len(self._clients) >= MOST_CLIENTS:
            return None
        client = _Client(self)
        self._clients.add(client)
        return client


class _Client(asyncio.Protocol):
    """One connection: a request, an answer."""

    def __init__(self, listener: HttpListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self.abort)

    def data_received(self, data: bytes) -> None:
        """Collect the head and answer it; a body is nobody's business."""
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._head += data
        if b"\r\n\r\n" in self._head or b"\n\n" in self._head:
            self._answer()
        elif len(self._head) > LONGEST_HEAD:
            self._reply("GET", Answer(status=400, body="the request is too long\n"))

    def _answer(self) -> None:
        first, *fields = self._head.decode("latin-1").splitlines()
        words = first.split()
        if self._listener.local and not _names_this_machine(fields):
            self._reply("GET", Answer(status=403, body="the Host of a request that comes here is localhost\n"))
        elif len(words) != 3 or not words[2].startswith("HTTP/"):
            self._reply("GET", Answer(status=400, body="this is HTTP\n"))
        elif words[0] not in ("GET", "HEAD"):
            self._reply(words[0], Answer(status=405, body="only GET\n"))
        else:
            self._reply(words[0], answer(words[1], self._listener.status))

    def _reply(self, method: str, reply: Answer) -> None:
        assert self._transport is not None
        body = reply.body.encode(errors="replace")
        head = (
            f"HTTP/1.1 {reply.status} {_REASONS[reply.status]}\r\nContent-Type: {reply.content_type}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\nCache-Control: no-store\r\n\r\n"
        )
        self._transport.write(head.encode() + (b"" if method == "HEAD" else body))
        self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """Give up the place."""
        if self._timer is not None:
            self._timer.cancel()
        self._listener.forget(self)

    def abort(self) -> None:
        """Cut it off."""
        if self._transport is not None:
            self._transport.abort()
