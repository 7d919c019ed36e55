"""What a proxy needs of the network that it leads into: sockets made there, or a host inside the tunnel."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Protocol

Address = tuple[str, int]
Arrived = Callable[[bytes, Address], None]


class FarEnd(Protocol):
    """A connection to the outside of the tunnel's far end."""

    @property
    def own(self) -> Address:
        """The address and the port that it comes from."""

    async def send(self, data: bytes) -> None:
        """Return when all was taken. Raises OSError."""

    async def relay(self, client: socket.socket, *, limit: int | None = None) -> None:
        """Carry bytes both ways until both ends have said all; see `relay.relay`."""

    def close(self) -> None:
        """Let it go."""


class FarDatagrams(Protocol):
    """Datagrams of one association; what arrives is handed to the function that was given when it was opened."""

    def send(self, data: bytes, to: Address) -> None:
        """Send one. Raises OSError."""

    def close(self) -> None:
        """Let it go."""


class Network(Protocol):
    """Where connections and datagrams go, and who turns names into addresses there; belongs to the running loop."""

    async def connect(self, host: str, port: int) -> FarEnd:
        """A connection to this address. Raises OSError."""

    async def addresses(self, name: str) -> Sequence[str]:
        """All addresses, at least one, the preferred first. Raises Refused."""

    def leads_here(self, host: str) -> bool:
        """Whether what is sent to the address does not leave. Raises OSError if there is no telling."""

    def open_datagrams(self, host: str, arrived: Arrived) -> FarDatagrams:
        """Datagrams to addresses of the family of this one. Raises OSError."""

    def close(self) -> None:
        """Let everything go that it holds."""
