"""What the proxy is told: its limits, who may use it, and where each listener leads."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
from dataclasses import field
from enum import StrEnum

from ikeclient.lazy_dataclass import dataclass
from ikeclient.proxy.destination import Destination
from ikeclient.proxy.peers import Peers


class Kind(StrEnum):
    """What is spoken on a listener."""

    SOCKS = "socks"
    HTTP = "http"
    FORWARD = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds; times in seconds. There is no idle limit for connections: keep-alive probes find dead ends."""

    connections: int = 4096
    refusing: int = 64  # connections beyond the limit that are still told so; more are cut off
    handshake: float = 10.0
    connecting: float = 30.0  # for all addresses of a name together
    stagger: float = 0.25  # before the next address is tried beside the first (RFC 8305 section 5)
    addresses: int = 16  # of one name
    resolving: float = 10.0
    resolvers: int = 64  # threads
    names_waiting: int = 1024
    farewell: float = 2.0  # for a refused client to read why
    wrong_password: float = 1.0  # before it is said
    idle: float = 1.0  # without a request, after which a connection gives way to others where there are too many
    to_itself: bool = False  # whether a destination may be the namespace of the proxy's own sockets


class Credentials:
    """User name and password that a client must present. Only a keyed digest is kept."""

    __slots__ = ("_digest", "_key")

    def __init__(self, username: bytes, password: bytes) -> None:
        self._key = os.urandom(32)
        self._digest = self._of(username, password)

    def accept(self, username: bytes, password: bytes) -> bool:
        """Whether they are the right ones; takes the same time wherever they differ."""
        return hmac.compare_digest(self._digest, self._of(username, password))

    def _of(self, username: bytes, password: bytes) -> bytes:
        return hmac.digest(self._key, len(username).to_bytes(4, "big") + username + password, hashlib.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A bound socket and what is spoken on it; `destination` is where a forward leads."""

    socket: socket.socket
    kind: Kind
    destination: Destination | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a server needs. `datagram_sockets`: bound beside the SOCKS listeners, one per UDP association.

    `peers` tells clients apart, and was opened beside the listeners.
    """

    listeners: tuple[Listener, ...]
    datagram_sockets: tuple[socket.socket, ...] = ()
    credentials: Credentials | None = None
    limits: Limits = field(default_factory=Limits)
    peers: Peers = field(default_factory=lambda: Peers(None))

    def close(self) -> None:
        """Close every socket."""
        for one in (*(listener.socket for listener in self.listeners), *self.datagram_sockets):
            one.close()
        self.peers.close()
