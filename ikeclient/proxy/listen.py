"""Listeners as people ask for them, bound but not yet answering."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from ikeclient.errors import ParseError, PlatformError, UsageError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.proxy.destination import Destination, address_of, port_of, split_port
from ikeclient.proxy.settings import Kind, Listener

LOOPBACK = "127.0.0.1"
_DATAGRAM_SOCKETS = 64  # UDP associations at once, for each SOCKS listener


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSpec:
    """A listener's address and what is spoken there; `destination` is where a forward leads."""

    kind: Kind
    host: str
    port: int
    destination: Destination | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect to it."""
        return ip_address(self.host).is_loopback


def parse_listener(kind: Kind, text: str) -> ListenerSpec:
    """`[HOST:]PORT`, where HOST is an address and loopback when left out; port 0 is any. Raises UsageError."""
    try:
        if text.isdecimal():
            return ListenerSpec(kind=kind, host=LOOPBACK, port=port_of(text))
        host, port = split_port(text)
        if port is None:
            raise ParseError("a port is missing")
        return ListenerSpec(kind=kind, host=_bind_host(host), port=port)
    except ParseError as error:
        raise UsageError(f"--{kind} '{text}': {error}", hint=f"for example --{kind} 127.0.0.1:1080") from None


def parse_forward(text: str) -> ListenerSpec:
    """`[BIND:]PORT:HOST:PORT`, IPv6 addresses in brackets. Raises UsageError."""
    try:
        parts = fields(text)
        if len(parts) == 3:
            parts = [LOOPBACK, *parts]
        if len(parts) != 4:
            raise ParseError("it takes a port, a host and a port")
        bind, port, host, to = parts
        destination = Destination.of(host, port_of(to))
        return ListenerSpec(kind=Kind.FORWARD, host=_bind_host(bind), port=port_of(port), destination=destination)
    except ParseError as error:
        raise UsageError(
            f"--forward '{text}': {error}", hint="for example --forward 8022:git.corp.example:22"
        ) from None


def fields(text: str) -> list[str]:
    """The parts between colons; a part in brackets may have colons of its own."""
    parts: list[str] = []
    rest: str | None = text
    while rest is not None:
        if rest.startswith("["):
            part, bracket, rest_ = rest[1:].partition("]")
            if not bracket or ":" not in part or (rest_ and not rest_.startswith(":")):
                raise ParseError("brackets belong around an IPv6 address")
            parts.append(part)
            rest = rest_[1:] if rest_ else None
        else:
            part, colon, after = rest.partition(":")
            parts.append(part)
            rest = after if colon else None
    return parts


def _bind_host(host: str) -> str:
    if host == "localhost":
        return LOOPBACK
    if (address := address_of(host)) is None:
        raise ParseError("what is listened on is an address of this machine")
    return str(address)


def bind(specs: Sequence[ListenerSpec]) -> tuple[tuple[Listener, ...], tuple[socket.socket, ...]]:
    """Bound sockets for all of them, and datagram sockets beside those for SOCKS.

    They answer nobody yet: connections are refused until somebody listens. Raises PlatformError, with none left open.
    """
    with contextlib.ExitStack() as made:
        listeners = tuple(_listener(one, made) for one in specs)
        datagrams = tuple(
            _datagram_socket(listener, made)
            for listener in listeners
            if listener.kind is Kind.SOCKS
            for _ in range(_DATAGRAM_SOCKETS)
        )
        made.pop_all()
        return listeners, datagrams


def _listener(one: ListenerSpec, made: contextlib.ExitStack) -> Listener:
    listener = made.enter_context(_socket(one.host, socket.SOCK_STREAM))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((one.host, one.port))
    except OSError as error:
        where = f"[{one.host}]:{one.port}" if ":" in one.host else f"{one.host}:{one.port}"
        hint = f"--{one.kind} takes another port; with 0 for the port, a free one is found"
        raise PlatformError(f"cannot listen on {where}", reason=error.strerror, hint=hint) from None
    return Listener(socket=listener, kind=one.kind, destination=one.destination)


def _datagram_socket(listener: Listener, made: contextlib.ExitStack) -> socket.socket:
    host = listener.socket.getsockname()[0]
    try:
        one = made.enter_context(_socket(host, socket.SOCK_DGRAM))
        one.bind((host, 0))
    except OSError as error:
        raise PlatformError(f"cannot open a UDP socket on {host}", reason=error.strerror) from None
    return one


def _socket(host: str, kind: socket.SocketKind) -> socket.socket:
    if ":" not in host:
        return socket.socket(socket.AF_INET, kind)
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made
