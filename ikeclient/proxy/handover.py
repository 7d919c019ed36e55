"""How a proxy inside a namespace gets what was made outside it: descriptors by inheritance, the rest over one socket.

The socket carries one line of JSON to the proxy, with a password if there is one (so it is in no argument list and no
environment), and one line back once the listeners answer. After that it carries nothing; its end is the proxy's end.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

from ikeclient.errors import IkeclientError
from ikeclient.proxy.destination import Destination
from ikeclient.proxy.settings import Credentials, Kind, Limits, Listener, Settings

READY = b"ready\n"
_LONGEST = 1 << 20


def describe(
    listeners: Sequence[Listener],
    datagram_sockets: Sequence[socket.socket],
    login: tuple[bytes, bytes] | None,
    limits: Limits,
) -> bytes:
    """The line for the proxy; the descriptors in it have to be inherited under their numbers."""
    document = {
        "listeners": [
            {
                "descriptor": one.socket.fileno(),
                "kind": one.kind,
                "destination": None if one.destination is None else [one.destination.host, one.destination.port],
            }
            for one in listeners
        ],
        "datagram_sockets": [one.fileno() for one in datagram_sockets],
        "login": None if login is None else [part.hex() for part in login],
        "connections": limits.connections,
    }
    return json.dumps(document).encode() + b"\n"


def understand(line: bytes) -> Settings:
    """What `describe` has written, with the sockets opened from their descriptors."""
    document: dict[str, Any] = json.loads(line)
    login = document["login"]
    return Settings(
        listeners=tuple(_listener(one) for one in document["listeners"]),
        datagram_sockets=tuple(socket.socket(fileno=one) for one in document["datagram_sockets"]),
        credentials=None if login is None else Credentials(*(bytes.fromhex(part) for part in login)),
        limits=Limits(connections=document["connections"]),
    )


def _listener(one: dict[str, Any]) -> Listener:
    leads_to = one["destination"]
    return Listener(
        socket=socket.socket(fileno=one["descriptor"]),
        kind=Kind(one["kind"]),
        destination=None if leads_to is None else Destination.of(*leads_to),
    )


def read_line(channel: socket.socket) -> bytes:
    """One line from the other side; raises IkeclientError where it ends before."""
    received = b""
    while not received.endswith(b"\n"):
        if len(received) > _LONGEST or not (more := channel.recv(65536)):
            raise IkeclientError("the proxy was not told what to do")
        received += more
    return received
