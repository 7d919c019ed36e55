"""A port that takes connections, and those of them that are not established (RFC 9293 section 3.10.7.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ikeclient.stack.interfaces import Handler

if TYPE_CHECKING:
    from ikeclient.stack.tcp.connection import Connection

Accept = Callable[["Connection"], Handler | None]
BACKLOG = 256


class Listener:
    """`accept` gets each established connection, and returns who hears of it, or None to reset it."""

    __slots__ = ("_close", "_half_open", "accept", "local", "port")

    def __init__(self, local: bytes | None, port: int, accept: Accept, close: Callable[[Listener], None]) -> None:
        self.local, self.port, self.accept = local, port, accept
        self._close = close
        self._half_open: dict[bytes, Connection] = {}

    @property
    def half_open(self) -> int:
        """How many connections are not established yet."""
        return len(self._half_open)

    def add(self, connection: Connection) -> Connection | None:
        """A SYN has come; return the oldest that must go for it."""
        oldest = None
        if len(self._half_open) >= BACKLOG:
            oldest = self._half_open.pop(next(iter(self._half_open)))
        self._half_open[connection.flow.key] = connection
        return oldest

    def remove(self, key: bytes) -> bool:
        """One is established or gone; whether it was one of these."""
        return self._half_open.pop(key, None) is not None

    def close(self) -> None:
        """Take no more connections; those that are established stay."""
        self._close(self)
        half_open, self._half_open = list(self._half_open.values()), {}
        for connection in half_open:
            connection.abort()
