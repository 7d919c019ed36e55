"""Questions about the inside of a tunnel that ends in its process: what they may say, and what is answered."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from ikeclient.control.protocol import Command, Request
from ikeclient.errors import UsageError
from ikeclient.process.inside_stack import answers_of
from ikeclient.stack.ip.icmp import Kind
from ikeclient.stack.ping import PingResult


class FakeHost:
    """Answers as its addresses say."""

    async def ping(self, address: str, *, patience: float, size: int) -> PingResult:
        if address == "10.0.0.9":
            raise OSError(101, "the tunnel does not lead there")
        assert (patience, size) == (2.0, 56)
        return {
            "10.0.0.1": PingResult(round_trip=0.0123456),
            "10.0.0.2": PingResult(error=Kind.HOST_UNREACHABLE),
        }.get(address, PingResult())

    async def resolve(self, name: str) -> list[str]:
        if name == "host":
            return ["10.0.0.1"]
        raise socket.gaierror(socket.EAI_NONAME, f"{name}: the name does not exist")


def asked(command: Command, **arguments: object) -> Any:
    host: Any = FakeHost()
    return asyncio.run(answers_of(host)(Request(command=command, arguments=arguments)))


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("10.0.0.1", {"rtt_ms": 12.346, "error": None}),
        ("10.0.0.2", {"rtt_ms": None, "error": "host unreachable"}),
        ("10.0.0.3", {"rtt_ms": None, "error": None}),
        ("10.0.0.9", {"rtt_ms": None, "error": "the tunnel does not lead there"}),
    ],
)
def test_an_echo_is_answered(address: str, answer: dict[str, object]) -> None:
    assert asked(Command.PING, address=address) == answer


def test_a_name_is_answered() -> None:
    assert asked(Command.RESOLVE, name="host") == {"name": "host", "addresses": ["10.0.0.1"], "error": None}
    missing = asked(Command.RESOLVE, name="nobody")
    assert missing == {"name": "nobody", "addresses": [], "error": "the name does not exist"}


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (Command.PING, {}),
        (Command.PING, {"address": "host"}),
        (Command.PING, {"address": ["10.0.0.1"]}),
        (Command.PING, {"address": "10.0.0.1", "timeout": 61}),
        (Command.PING, {"address": "10.0.0.1", "timeout": True}),
        (Command.PING, {"address": "10.0.0.1", "timeout": float("nan")}),
        (Command.PING, {"address": "10.0.0.1", "size": 65536}),
        (Command.PING, {"address": "10.0.0.1", "size": "56"}),
        (Command.RESOLVE, {}),
        (Command.RESOLVE, {"name": ""}),
        (Command.RESOLVE, {"name": "x" * 256}),
    ],
)
def test_what_makes_no_sense_is_refused(command: Command, arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        asked(command, **arguments)
