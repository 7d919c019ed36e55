"""One request over plain HTTP to an address that somebody else has named, with limits to everything.

The URL is a certificate's, so it is nothing to be trusted: the caller resolves the name, `forbidden` tells which
addresses are never asked, and the connection goes to the very address that was looked at, so that a name which changes
its mind (DNS rebinding) gains nothing. One deadline covers connecting, sending and every byte that comes; what is
longer than the limit is cut off. Redirects are not followed here.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any
from urllib.parse import urlsplit

from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.model import IPAddress

_MAX_URL = 2048
_HTTP = 80
_TRANSLATED = IPv6Network("64:ff9b::/96")


class HttpError(Exception):
    """There is no answer; the text says why, as a clause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A URL of the scheme http; `path` is with its query."""

    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"http://{self.netloc}{self.path}"

    @property
    def netloc(self) -> str:
        """Host and port as they stand in a request."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _HTTP else f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Url:
        """Read a URL; raises HttpError for anything but plain HTTP to a host."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port or _HTTP
        except ValueError:
            raise HttpError("its address is no URL") from None
        if len(text) > _MAX_URL or not text.isascii() or not text.isprintable() or " " in text:
            raise HttpError("its address is no URL")
        if parts.scheme != "http" or not host or parts.username is not None or parts.password is not None:
            raise HttpError("its address is not one of plain HTTP")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(host=host, port=port, path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What came back; `location` is where a redirect leads."""

    status: int
    body: bytes
    location: str | None = None


def forbidden(address: IPAddress) -> str | None:
    """Why an address is never asked for somebody else's sake: it is this machine's, or the link's; None if it may."""
    if isinstance(address, IPv6Address):
        address = _embedded(address) or address
    if address.is_loopback:
        return "its address is of this machine itself"
    if address.is_link_local:
        return "its address is of the link only"
    if address.is_unspecified or address.is_multicast or int(address) >> 28 == 0xF:
        return "its address is none of a host"
    return None


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, 6to4, or of a translator (RFC 6052)."""
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def proxy_for(url: Url, environment: Mapping[str, str] = os.environ) -> Url | None:
    """The proxy that `http_proxy` names for this URL; None if it is to be asked directly. Raises HttpError.

    Only lower case counts, since a web server's script gets HTTP_PROXY from strangers.
    """
    text = environment.get("http_proxy", "")
    if not text:
        return None
    without = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    for entry in filter(None, (each.strip().lower().lstrip(".") for each in without.split(","))):
        if entry == "*" or url.host == entry or url.host.endswith(f".{entry}"):
            return None
    try:
        return Url.parse(text if "://" in text else f"http://{text}")
    except HttpError:
        raise HttpError("the proxy in http_proxy is not one of plain HTTP") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """What is asked: a GET, or a POST with a `body` of a content type. By way of a proxy the whole URL is said."""

    url: Url
    body: bytes | None = None
    content_type: str = ""
    by_proxy: bool = False

    def encode(self) -> bytes:
        """The request as it is sent."""
        lines = [
            f"{'GET' if self.body is None else 'POST'} {self.url if self.by_proxy else self.url.path} HTTP/1.1",
            f"Host: {self.url.netloc}",
            "Connection: close",
            "Accept-Encoding: identity",
            "Cache-Control: no-cache",
        ]
        if self.body is not None:
            lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + (self.body or b"")


def exchange(
    request: HttpRequest,
    remote: tuple[IPAddress, int],
    *,
    mark: int,
    seconds: float,
    limit: int,
    bound: Callable[[int], None] = lambda _: None,
) -> HttpAnswer:
    """Send a request to an address and return what it answers; raises HttpError.

    Blocks for `seconds` at most. `bound` is told our port before the first packet leaves.
    """
    deadline = time.monotonic() + seconds
    address, port = remote
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
            if mark:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            connection.bind(("", 0))
            bound(connection.getsockname()[1])
            connection.settimeout(_left(deadline))
            connection.connect((str(address), port))
            connection.settimeout(_left(deadline))
            connection.sendall(request.encode())
            return _answer(connection, deadline, limit)
    except TimeoutError:
        raise HttpError("it does not answer in time") from None
    except OSError as error:
        raise HttpError((error.strerror or "the connection broke").lower()) from None
    except ValueError as error:
        raise _not_http(error) from None


def _not_http(error: Exception) -> HttpError:
    return HttpError(f"its answer is not HTTP ({type(error).__name__})")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _answer(connection: socket.socket, deadline: float, limit: int) -> HttpAnswer:
    from http.client import HTTPException, HTTPResponse  # 1 MiB with what it imports: see `tunnel.late_modules`

    source = _Source(connection, deadline, 2 * limit + (1 << 18))  # with room for headers and the marks of chunks
    answer = HTTPResponse(source)  # type: ignore[arg-type]  # makefile is all that it calls
    with contextlib.closing(answer):
        try:
            answer.begin()
            if answer.status in (301, 302, 303, 307, 308):
                return HttpAnswer(status=answer.status, body=b"", location=answer.getheader("Location"))
            if answer.length is not None and answer.length > limit:
                raise HttpError(f"its answer of {answer.length} bytes is too long")
            body = answer.read(limit + 1)
        except HTTPException as error:
            raise _not_http(error) from None
        if len(body) > limit:
            raise HttpError(f"its answer of more than {limit} bytes is too long")
        return HttpAnswer(status=answer.status, body=body)


class _Source(io.RawIOBase):
    """Reads a socket until a deadline, and so many bytes at most."""

    def __init__(self, connection: socket.socket, deadline: float, limit: int) -> None:
        self._connection = connection
        self._deadline = deadline
        self._room = limit

    def makefile(self, *_mode: Any) -> io.BufferedReader:
        """What `HTTPResponse` calls on a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as something comes. Raises TimeoutError and HttpError."""
        self._connection.settimeout(_left(self._deadline))
        count = self._connection.recv_into(buffer)
        self._room -= count
        if self._room < 0:
            raise HttpError("its answer is too long")
        return count
