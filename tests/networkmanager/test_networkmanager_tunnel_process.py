"""The process that carries a connection's tunnel, at its edges."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection

import pytest

from ikeclient.errors import AuthenticationFailed, UsageError
from ikeclient.ipc.messages import pack, receive
from ikeclient.networkmanager.messages import CODEC, Answer, Asked
from ikeclient.networkmanager.tunnel_process import Questions, Service, key_for

KEYS = {"Password for alice": "auth.password", "Pre-shared key for bob": "second_auth.psk"}


def test_a_prompt_names_its_secret() -> None:
    assert key_for("Password for alice", KEYS) == "auth.password"
    assert key_for("The gateway refused the password. Password for 'alice'", KEYS) == "auth.password"
    assert key_for("the gateway says: one-time code", KEYS) == "answer"


async def ask(prompt: str, answer: bytes, stored: Collection[str] = ()) -> tuple[object, object, int]:
    """What asking gives, what the service was asked, and how often the tunnel was told to stop."""
    ours, theirs = socket.socketpair()
    stops: list[None] = []
    with ours, theirs:
        questions = Questions(ours, Service(ours), KEYS, stored, lambda: stops.append(None))
        asking = asyncio.ensure_future(questions.ask(prompt))
        await asyncio.sleep(0)
        theirs.settimeout(5)
        if not asking.done():
            message = receive(theirs.recv)
            asked: object = CODEC.decode(Asked, message)
            theirs.sendall(answer)
        else:
            asked = None
        try:
            async with asyncio.timeout(5):
                found: object = await asking
        except (UsageError, AuthenticationFailed) as error:
            found = error
        questions.close()
    return found, asked, len(stops)


def test_an_answer_comes_back() -> None:
    found, asked, _ = asyncio.run(ask("the gateway says: code?", pack(CODEC.encode(Answer(text="1234")))))
    assert found == "1234"
    assert asked == Asked(prompt="the gateway says: code?", key="answer")


def test_no_answer_is_an_error() -> None:
    found, _, _ = asyncio.run(ask("the gateway says: code?", pack(CODEC.encode(Answer(text=None)))))
    assert isinstance(found, UsageError)


def test_a_stored_secret_is_not_asked_for() -> None:
    found, asked, _ = asyncio.run(ask("Password for 'alice'", b"", {"auth.password"}))
    assert isinstance(found, AuthenticationFailed)
    assert asked is None


def test_the_end_of_the_service_ends_the_tunnel() -> None:
    async def gone() -> int:
        ours, theirs = socket.socketpair()
        stopped = asyncio.Event()
        with ours:
            Questions(ours, Service(ours), {}, (), stopped.set)
            theirs.close()
            async with asyncio.timeout(5):
                await stopped.wait()
        return 1

    assert asyncio.run(gone()) == 1


@pytest.mark.parametrize("rest", [b"\x00\x00\x00\x02[]", pack({"is": "Other"})])
def test_a_message_that_is_none_ends_it_too(rest: bytes) -> None:
    async def wrong() -> None:
        ours, theirs = socket.socketpair()
        stopped = asyncio.Event()
        with ours, theirs:
            Questions(ours, Service(ours), {}, (), stopped.set)
            theirs.sendall(rest)
            theirs.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(5):
                await stopped.wait()

    asyncio.run(wrong())
