"""What is said over a tunnel's control socket: one JSON object a line, in both directions.

A client sends one request line and gets one reply line. The reply to `events` is followed by one line per event until
either side closes. Whoever may open the socket may be broken or hostile all the same, so every size is capped here
and both sides use the same caps.

    -> {"version": 1, "request": "status"}
    <- {"version": 1, "ok": true, "result": {...}}
    <- {"version": 1, "ok": false, "error": "..."}

What a request needs to know stands beside it: `-> {"version": 1, "request": "resolve", "name": "git.corp.example"}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from pathlib import Path

from ikeclient.errors import ParseError, UsageError
from ikeclient.lazy_dataclass import dataclass

VERSION = 1

MAXIMUM_REQUEST = 64 * 1024  # bytes of a request line, newline included
MAXIMUM_REPLY = 1024 * 1024  # bytes of a line that a client is ready to read
MAXIMUM_CLIENTS = 16  # connections at a time; more are told so and closed
MAXIMUM_SUBSCRIBERS = 12  # of them, so that `disconnect` always finds a free place
MAXIMUM_STRANGERS = 4  # of them: users who may only look
MAXIMUM_BACKLOG = 256 * 1024  # bytes a subscriber may be behind before it is dropped
TOO_MANY = "too many clients"  # the failure that goes away by itself
NOT_YOURS = "only its user and root may do that"
ENDING = "it is about to end"  # why a tunnel cannot be joined any more
REQUEST_SECONDS = 5.0  # within which a client must have sent its request, and must have read its reply
ANSWER_SECONDS = 120.0  # within which what was asked about the inside of a tunnel is answered

SOCKET_SUFFIX = ".sock"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")
_MAXIMUM_SOCKET_PATH = 107  # sun_path is 108 bytes with its terminating zero


class Command(StrEnum):
    """What a tunnel can be asked."""

    STATUS = "status"
    EVENTS = "events"
    DISCONNECT = "disconnect"
    RECONNECT = "reconnect"
    SUSPEND = "suspend"
    RESUME = "resume"
    JOIN = "join"
    PING = "ping"
    RESOLVE = "resolve"


FOR_ALL = frozenset({Command.STATUS, Command.EVENTS})  # what users may ask who are neither the tunnel's nor root


def encode(message: Mapping[str, object]) -> bytes:
    """Return one message as a line. ASCII only, so that no character of a gateway's text can break or disguise a line.

    Values that JSON does not know (addresses, paths) are written as their text.
    """
    return json.dumps(message, ensure_ascii=True, separators=(",", ":"), default=str).encode() + b"\n"


def decode(line: bytes) -> dict[str, object]:
    """Read one line as a message. Raises ParseError for anything but a JSON object."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ParseError("not a line of JSON") from error
    if not isinstance(message, dict):
        raise ParseError("not a JSON object")
    return message


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks for; `arguments` is all that its message says."""

    command: Command
    arguments: Mapping[str, object] = field(default_factory=dict)


def request(command: Command, **arguments: object) -> dict[str, object]:
    """Return the message that asks a tunnel for `command`."""
    return {"version": VERSION, "request": command.value, **arguments}


def parse_request(line: bytes) -> Request:
    """Read what a client asks for. Raises ParseError, whose text may be sent back."""
    message = decode(line)
    if message.get("version") != VERSION:
        raise ParseError(f"this tunnel speaks version {VERSION} of the control protocol")
    try:
        return Request(command=Command(str(message.get("request"))), arguments=message)
    except ValueError:
        raise ParseError("unknown request, known are " + ", ".join(Command)) from None


def success(result: object = None) -> dict[str, object]:
    """Return the reply to a request that was carried out."""
    return {"version": VERSION, "ok": True, "result": result}


def failure(error: str) -> dict[str, object]:
    """Return the reply to a request that was refused; `error` is one sentence."""
    return {"version": VERSION, "ok": False, "error": error}


def is_name(name: str) -> bool:
    """Return whether a tunnel can be called so."""
    return _NAME.fullmatch(name) is not None


def socket_path(directory: Path, name: str) -> Path:
    """Return where the tunnel `name` listens; raises UsageError for a name that is no file name or too long."""
    if not is_name(name):
        raise UsageError(
            f"{name!a} cannot be the name of a tunnel",
            hint="use up to 64 letters, digits and . _ @ + -, beginning with a letter or digit",
        )
    path = directory / f"{name}{SOCKET_SUFFIX}"
    if len(bytes(path)) > _MAXIMUM_SOCKET_PATH:
        raise UsageError(
            f"the path of the control socket is longer than {_MAXIMUM_SOCKET_PATH} bytes",
            reason=str(path),
            hint="choose a shorter directory with IKECLIENT_RUNTIME_DIR",
        )
    return path
