"""The control protocol of charon, as much of it as the lab needs.

A message is a 32-bit length, a type, sometimes a name, and a tree of sections, values and lists. Asking charon directly
costs a millisecond where `swanctl` costs a process.
"""

from __future__ import annotations

import enum
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Tree: TypeAlias = "dict[str, str | list[str] | Tree]"

_REQUEST, _RESPONSE, _UNKNOWN, _REGISTER, _UNREGISTER, _CONFIRM, _EVENT = 0, 1, 2, 3, 4, 5, 7


class _Element(enum.IntEnum):
    """What a byte of the tree announces."""

    SECTION = 1
    SECTION_END = 2
    VALUE = 3
    LIST = 4
    ITEM = 5
    LIST_END = 6


class ViciError(RuntimeError):
    """charon refused a command."""


class Vici:
    """Commands to the charon that listens on the socket `path`. Every call is a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def request(self, command: str, arguments: Mapping[str, str] | None = None) -> Tree:
        """Give a command that answers once; `ViciError` when charon reports that it failed."""
        with self._connection() as connection:
            return _answer(connection, command, arguments or {})

    def stream(self, command: str, event: str, arguments: Mapping[str, str] | None = None) -> list[Tree]:
        """Give a command that reports by events, and collect those."""
        with self._connection() as connection:
            _send(connection, _REGISTER, event)
            kind, _ = _receive(connection)
            if kind != _CONFIRM:
                raise ViciError(f"no event {event}")
            _send(connection, _REQUEST, command, _encode(arguments or {}))
            events: list[Tree] = []
            while True:
                kind, body = _receive(connection)
                if kind == _EVENT:
                    events.append(_decode(body[1 + body[0] :]))
                else:
                    _check(command, kind, _decode(body))
                    return events

    @contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(60)
            connection.connect(str(self._path))
            yield connection


def _answer(connection: socket.socket, command: str, arguments: Mapping[str, str]) -> Tree:
    _send(connection, _REQUEST, command, _encode(arguments))
    kind, body = _receive(connection)
    return _check(command, kind, _decode(body))


def _check(command: str, kind: int, answer: Tree) -> Tree:
    if kind != _RESPONSE or answer.get("success", "yes") != "yes":
        raise ViciError(f"{command}: {answer.get('errmsg', 'refused')}")
    return answer


def _send(connection: socket.socket, kind: int, name: str, body: bytes = b"") -> None:
    packet = bytes((kind, len(name))) + name.encode() + body
    connection.sendall(struct.pack(">I", len(packet)) + packet)


def _receive(connection: socket.socket) -> tuple[int, bytes]:
    (length,) = struct.unpack(">I", _exactly(connection, 4))
    packet = _exactly(connection, length)
    return packet[0], packet[1:]


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ViciError("charon closed the connection")
        data += piece
    return data


def _encode(arguments: Mapping[str, str]) -> bytes:
    pieces = (
        bytes((_Element.VALUE, len(key))) + key.encode() + struct.pack(">H", len(value.encode())) + value.encode()
        for key, value in arguments.items()
    )
    return b"".join(pieces)


def _decode(body: bytes) -> Tree:
    root: Tree = {}
    stack = [root]
    items: list[str] = []
    position = 0

    def text(width: int) -> str:
        nonlocal position
        length = int.from_bytes(body[position : position + width], "big")
        start = position + width
        position = start + length
        return body[start:position].decode("utf-8", "replace")

    while position < len(body):
        kind = _Element(body[position])
        position += 1
        match kind:
            case _Element.SECTION:
                section: Tree = {}
                stack[-1][text(1)] = section
                stack.append(section)
            case _Element.SECTION_END:
                stack.pop()
            case _Element.VALUE:
                key = text(1)
                stack[-1][key] = text(2)
            case _Element.LIST:
                items = []
                stack[-1][text(1)] = items
            case _Element.ITEM:
                items.append(text(2))
            case _Element.LIST_END:
                items = []
    return root
