"""One connection on standard input and output, as ssh's ProxyCommand wants it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading

from ikeclient.errors import NoResponse, output_failed
from ikeclient.proxy.destination import Destination
from ikeclient.proxy.dial import dial
from ikeclient.proxy.refusal import Refused
from ikeclient.proxy.settings import Limits
from ikeclient.proxy.sockets import SocketEnd, SocketNetwork

_CHUNK = 64 << 10
_STDIN, _STDOUT = 0, 1


def relay_stdio(destination: Destination) -> None:
    """Connect, and copy both ways until the other end has said all; blocking.

    The end of our input is passed on and the answer still awaited. Two threads that block, because the descriptors may
    be anything, files and terminals included, and belong to others whose flags are not ours to change.
    Raises NoResponse if there is no connection or it is reset, BrokenPipeError if nobody reads our output, and
    PlatformError if it cannot be written.
    """
    with contextlib.closing(_connect(destination)) as server:
        copy(server, destination)


def copy(server: socket.socket, destination: Destination) -> None:
    """Copy both ways between the standard files and this socket, as `relay_stdio`; blocking."""
    with contextlib.closing(server):
        threading.Thread(target=_copy_input, args=(server,), daemon=True).start()
        while data := _receive(server, destination):
            view = memoryview(data)
            while view:
                view = view[_write(view) :]


def _write(data: memoryview) -> int:
    try:
        return os.write(_STDOUT, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_failed(error) from None


def _connect(destination: Destination) -> socket.socket:
    async def connect() -> SocketEnd:
        limits = Limits(to_itself=destination.address is not None)  # whose input and output it is has asked for it
        network = SocketNetwork(limits)
        try:
            end = await dial(destination, network, limits)
            assert isinstance(end, SocketEnd)
            return end
        finally:
            network.close()

    try:
        server = asyncio.run(connect()).socket
    except Refused as refused:
        raise NoResponse(f"no connection to {destination}", reason=refused.refusal.text) from None
    server.setblocking(True)
    return server


def _receive(server: socket.socket, destination: Destination) -> bytes:
    try:
        return server.recv(_CHUNK)
    except OSError as error:
        raise NoResponse(f"the connection to {destination} broke", reason=error.strerror) from None


def _copy_input(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(_STDIN, _CHUNK):
            server.sendall(data)
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_WR)
