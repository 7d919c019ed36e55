"""Addresses as the kernel has them: struct sockaddr_in and sockaddr_in6, in a room that is large enough for either."""

from __future__ import annotations

import socket
from struct import Struct
from typing import cast

LENGTH = 28  # of struct sockaddr_in6
Address = tuple[str, int]  # over IPv6 with flow label and scope, as the socket module gives it

_four = Struct("=H2s4s8x")
_six = Struct("=H2s4s16sI")


def pack(address: Address) -> bytes:
    """An address of numbers for sendto(2); empty if it is more than numbers, such as one with a zone's name."""
    host, port, flow, scope = (*address, 0, 0)[:4]
    number = port.to_bytes(2, "big")
    try:
        if ":" in host:
            name = socket.inet_pton(socket.AF_INET6, host)
            return _six.pack(socket.AF_INET6, number, flow.to_bytes(4, "big"), name, scope)
        return _four.pack(socket.AF_INET, number, socket.inet_pton(socket.AF_INET, host))
    except OSError:
        return b""


def unpack(name: bytes) -> Address:
    """An address in the first `LENGTH` bytes, as the socket module gives it."""
    if _four.unpack_from(name)[0] == socket.AF_INET:
        _, port, host = _four.unpack_from(name)
        return socket.inet_ntop(socket.AF_INET, host), int.from_bytes(port, "big")
    _, port, flow, host, scope = _six.unpack_from(name)
    found = socket.inet_ntop(socket.AF_INET6, host), int.from_bytes(port, "big"), int.from_bytes(flow, "big"), scope
    return cast("Address", found)
