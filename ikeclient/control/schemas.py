"""JSON Schemas of the control protocol and of what `status`, `events`, `ping` and `resolve` print.

They are made from the definitions that the program itself works with, and lie as files in `ikeclient/schemas`, beside
those of the other commands with --json (`python docs/generate.py` writes them, and a test holds them current).
"""

from __future__ import annotations

from typing import Any

from ikeclient.control import protocol, status
from ikeclient.control.answers import PingAnswer, ResolveAnswer
from ikeclient.control.events import EVENTS
from ikeclient.control.protocol import Command

Schema = dict[str, Any]

_DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}

# What the value of a key is, in JSON Schema: the same in every event that has it.
_KEYS: dict[str, Schema] = {
    "addresses": _TEXTS,
    "effect": _TEXT,
    "elapsed_ms": _NUMBER,
    "error": _TEXTS,
    "exit_code": _NUMBER,
    "gateway": {"anyOf": [_TEXT, status.GatewayStatus.schema()]},
    "hint": _TEXT_OR_NULL,
    "host": _TEXT,
    "interface": _TEXT_OR_NULL,
    "listeners": _TEXTS,
    "local": _TEXT,
    "means": _TEXT,
    "message": _TEXT,
    "mtu": _NUMBER,
    "networks": _TEXTS,
    "p_cscf": _TEXTS,
    "path_mtu": _NUMBER,
    "reason": _TEXT_OR_NULL,
    "spi_in": _TEXT,
    "suite": _TEXT,
    "text": _TEXT,
    "took_ms": {"type": ["integer", "null"]},
    "what": {"enum": ["ike", "child"]},
}

_ARGUMENTS: dict[Command, Schema] = {
    Command.PING: {
        "address": {"type": "string", "description": "the address, IPv4 or IPv6"},
        "timeout": {"type": "number", "minimum": 0.05, "maximum": 60, "description": "seconds to wait, 2 by default"},
        "size": {"type": "integer", "minimum": 16, "maximum": 8192, "description": "bytes of data, 56 by default"},
    },
    Command.RESOLVE: {"name": {"type": "string", "minLength": 1, "maxLength": 255, "description": "the name"}},
}
_REQUIRED: dict[Command, list[str]] = {Command.PING: ["address"], Command.RESOLVE: ["name"]}


def control() -> Schema:
    """Return the schema of one line on a control socket, in either direction."""
    return {
        **_DIALECT,
        "title": "ikeclient control protocol, version 1: one line",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("request", "reply", "event")],
        "$defs": {
            "request": {"anyOf": [_request(command) for command in Command]},
            "reply": {"anyOf": [_success(), _failure()]},
            **{f"result-{command}": result for command, result in _results().items()},
            "event": event_schema(),
        },
    }


def _request(command: Command) -> Schema:
    return _object(
        {"version": {"const": protocol.VERSION}, "request": {"const": command.value}, **_ARGUMENTS.get(command, {})},
        required=["version", "request", *_REQUIRED.get(command, ())],
    )


def _results() -> dict[Command, Schema]:
    """Return what the result of each request is."""
    nothing: Schema = {"type": "null"}
    return {
        Command.STATUS: status.TunnelStatus.schema(),
        Command.EVENTS: nothing,
        Command.DISCONNECT: nothing,
        Command.RECONNECT: nothing,
        Command.SUSPEND: nothing,
        Command.RESUME: nothing,
        Command.JOIN: _object(
            {
                "state": _TEXT,
                "pid": {"type": "integer", "description": "a process in the namespaces"},
                "namespaces": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "minItems": 3,
                    "maxItems": 3,
                    "description": "the inode numbers of its user, network and mount namespace",
                },
            }
        ),
        Command.PING: PingAnswer.schema(),
        Command.RESOLVE: ResolveAnswer.schema(),
    }


def _success() -> Schema:
    results = [{"$ref": f"#/$defs/result-{command}"} for command in Command]
    return _object({"version": {"const": protocol.VERSION}, "ok": {"const": True}, "result": {"anyOf": results}})


def _failure() -> Schema:
    return _object({"version": {"const": protocol.VERSION}, "ok": {"const": False}, "error": _TEXT})


def event_schema() -> Schema:
    """Return the schema of one event."""
    return {"anyOf": [_event(name) for name in EVENTS]}


def _event(name: str) -> Schema:
    kind = EVENTS[name]
    keys = {key: {**_KEYS[key], **({"description": remark} if remark else {})} for key, remark in kind.keys.items()}
    head: Schema = {
        "event": {"const": name},
        "time": {"type": "string", "format": "date-time"},
        "tunnel": {"type": "string", "description": "not in what is no tunnel's"},
    }
    return {**_object({**head, **keys}, required=["event", "time", *keys]), "description": kind.when}


def _ping() -> Schema:
    times = _object({key: {"type": "number"} for key in ("min", "avg", "max")})
    answer = PingAnswer.schema()
    numbered = _object({"sequence": {"type": "integer"}, **answer["properties"]})  # type: ignore[dict-item]
    return {
        **_DIALECT,
        "title": "ikeclient.ping/1",
        **_object(
            {
                "schema": {"const": "ikeclient.ping/1"},
                "tunnel": _TEXT,
                "host": {"type": "string", "description": "as it was given"},
                "address": {"type": "string", "description": "which was pinged"},
                "sent": {"type": "integer"},
                "received": {"type": "integer", "description": "how many were answered"},
                "rtt_ms": {"anyOf": [times, {"type": "null"}], "description": "null if nothing was answered"},
                "answers": {"type": "array", "items": numbered, "description": "one for each, the last 1000"},
            }
        ),
    }


def _resolve() -> Schema:
    names = {"type": "array", "items": ResolveAnswer.schema()}
    return {
        **_DIALECT,
        "title": "ikeclient.resolve/1",
        **_object({"schema": {"const": "ikeclient.resolve/1"}, "tunnel": _TEXT, "names": names}),
    }


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    return {"type": "object", "required": list(properties) if required is None else required, "properties": properties}


def schemas() -> dict[str, Schema]:
    """Return the schemas that are made here, by the names of their files."""
    return {
        "control.schema.json": control(),
        "event.schema.json": {**_DIALECT, "title": "ikeclient event", **event_schema()},
        "ping.schema.json": _ping(),
        "resolve.schema.json": _resolve(),
        "status.schema.json": status.json_schema(),
    }
