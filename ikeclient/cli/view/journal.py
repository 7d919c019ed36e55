"""Lines of standard error as entries of systemd's journal, with fields that can be asked for by name.

Standard error that is a stream to the journal (JOURNAL_STREAM) carries lines and a priority, nothing more. So where it
is one, each line goes to journald as a datagram in its native protocol instead: `journalctl IKECLIENT_EVENT=connected
IKECLIENT_TUNNEL=work`. Datagrams never wait: what journald does not take at once goes to standard error after all.

    NAME=value\\n                                     a value of one line
    NAME\\n LENGTH(64 bits, little endian) value \\n    any other

https://systemd.io/JOURNAL_NATIVE_PROTOCOL
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from typing import TextIO

from ikeclient.cli.view.harmless import printable

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "ikeclient"
_LENGTH = struct.Struct("<Q")
_LONGEST = 1024  # characters of a value that came from somewhere else
_MOST = 64  # values of one list
_ALREADY_TOLD = frozenset({"event", "time", "tunnel", "text"})

Place = tuple[str, int, str]  # a file, a line of it, and the function that it is in
Fields = list[tuple[str, str]]


def is_journal(stream: TextIO | None) -> bool:
    """Return whether `stream` is one to the journal, which JOURNAL_STREAM of systemd.exec(5) names."""
    with contextlib.suppress(OSError, ValueError):
        if stream is not None and (named := os.environ.get("JOURNAL_STREAM")):
            found = os.fstat(stream.fileno())
            return named == f"{found.st_dev}:{found.st_ino}"
    return False


class Journal:
    """The way to journald. Open it while its socket can be reached."""

    def __init__(self, path: str = SOCKET) -> None:
        self._tunnel: str | None = None
        self._path = path
        self._socket: socket.socket | None = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._connect()

    @classmethod
    def behind(cls, stream: TextIO | None, path: str = SOCKET) -> Journal | None:
        """Return the way to the journald whose stream `stream` is; None if there is none."""
        with contextlib.suppress(OSError, ValueError):
            if stream is not None and stat.S_ISSOCK(os.fstat(stream.fileno()).st_mode):
                journal = cls(path)
                if journal._socket is not None:
                    return journal
        return None

    def be_about(self, tunnel: str) -> None:
        """Have all entries name this tunnel that name none."""
        self._tunnel = tunnel

    def send(self, text: str, priority: int, fields: Fields, place: Place | None = None) -> bool:
        """Write one entry; false if journald did not take it. Never raises, never waits."""
        named = {name for name, _ in fields}
        entry: Fields = [("MESSAGE", text), ("PRIORITY", str(priority)), ("SYSLOG_IDENTIFIER", IDENTIFIER)]
        if self._tunnel is not None and "IKECLIENT_TUNNEL" not in named:
            entry.append(("IKECLIENT_TUNNEL", self._tunnel))
        if place is not None:
            entry += zip(("CODE_FILE", "CODE_LINE", "CODE_FUNC"), map(str, place), strict=True)
        data = b"".join(encoded(name, value) for name, value in [*entry, *fields])
        return self._send(data) or (self._connect() and self._send(data))

    def _send(self, data: bytes) -> bool:
        try:
            return self._socket is not None and self._socket.send(data) == len(data)
        except OSError:
            return False

    def _connect(self) -> bool:
        """Connect, also to a journald that was started anew."""
        if self._socket is None:
            return False
        try:
            self._socket.connect(self._path)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def encoded(name: str, value: str) -> bytes:
    """Return one field as the protocol has it."""
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return name.encode() + b"\n" + _LENGTH.pack(len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def fields_of(event: Mapping[str, object]) -> Fields:
    """Return an event's fields: `IKECLIENT_EVENT`, `IKECLIENT_TUNNEL`, and one for each key that has a value.

    What lies inside of a key is named after both, `IKECLIENT_GATEWAY_PORT`; of a gateway, the address is the value as
    well. A list of values is the field several times.
    """
    found = [("IKECLIENT_EVENT", printable(event.get("event"), _LONGEST))]
    if (tunnel := event.get("tunnel")) is not None:
        found.append(("IKECLIENT_TUNNEL", printable(tunnel, _LONGEST)))
    for key, value in event.items():
        if key not in _ALREADY_TOLD:
            found += _flat(f"IKECLIENT_{_name(key)}", value)
    return found


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    match value:
        case None | "":
            return
        case Mapping():
            if "address" in value:
                yield from _flat(name, value["address"])
            for key, inner in value.items():
                if not isinstance(inner, Mapping | list | tuple):
                    yield from _flat(f"{name}_{_name(str(key))}", inner)
        case list() | tuple():
            for each in value[:_MOST]:
                if not isinstance(each, Mapping | list | tuple):
                    yield from _flat(name, each)
        case bool():
            yield name, str(value).lower()
        case _:
            yield name, printable(value, _LONGEST)


def _name(key: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", key.upper())[:40]
