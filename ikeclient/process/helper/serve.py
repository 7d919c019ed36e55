"""The helper in an event loop: hooks, questions to a card, profiles read again, and a machine that is kept closed.

Few tunnels ask for any of it, so this is imported by the helper that is asked first: the event loop alone is as large
as the rest of a helper.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from ikeclient.control.events import HOOK_VARIABLES, SEARCH_PATH
from ikeclient.errors import IkeclientError, ProfileError
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.messages import pack, stream
from ikeclient.process.helper.channel import CODEC, Keeper, Read, Sockets
from ikeclient.process.helper.command import run_command
from ikeclient.process.helper.messages import AskCard, Begin, CardAnswer, HookEnded, ProfileRead, RunHook
from ikeclient.profile.load.author import Author

_HARMLESS = re.compile(r"[A-Za-z0-9_.:/@+%, -]*")
_CHALLENGE = re.compile(r"aka( [0-9a-f]{32}){2}|sim( [0-9a-f]{32}){3}")
_REFUSED = "was not run: the helper refuses it"

Known = dict[str, list[tuple[list[str], Author | None]]]  # commands by reason (up, down), and whose rights they have


async def serve(sockets: Sockets, keeper: Keeper, begin: Begin, read: Read | None) -> None:
    """Answer everything until the tunnel has ended."""
    known: Known = {}
    _learn(known, begin.commands, begin.runs_as)
    keeper.watch(asyncio.get_running_loop())
    running = [
        asyncio.create_task(other)
        for other in (
            _serve_hooks(sockets.hooks, known, begin.directory),
            _serve_card(sockets.card, known, begin.directory),
            _serve_reading(sockets.reading, read, known),
        )
    ]
    reader, writer = await asyncio.open_connection(sock=sockets.channel)
    async for request in stream(reader):
        writer.write(pack(keeper.answer(request)))
    await asyncio.wait(running)  # which end with the same tunnel


async def _serve_reading(connection: socket.socket, read: Read | None, known: Known) -> None:
    reader, writer = await asyncio.open_connection(sock=connection)
    async for _ in stream(reader):
        writer.write(await asyncio.to_thread(_read, read, known))


async def _serve_card(connection: socket.socket, known: Known, directory: Path) -> None:
    reader, writer = await asyncio.open_connection(sock=connection)
    async for message in stream(reader):
        asked = CODEC.decode(AskCard, message)
        answer = await asyncio.to_thread(_ask_card, asked, known, directory)
        writer.write(pack(CODEC.encode(answer)))


def _ask_card(asked: AskCard, known: Known, directory: Path) -> CardAnswer:
    """Ask the profile's command, and no other."""
    from ikeclient.process.card import ask_command

    command, author = next(iter(known.get("card", [])), ([], None))
    try:
        if not command or not _CHALLENGE.fullmatch(asked.challenge):
            raise ProfileError("the card cannot be asked", reason="the helper refuses it")
        return CardAnswer(number=asked.number, text=ask_command(command, directory, author, asked.challenge))
    except IkeclientError as error:
        return CardAnswer(number=asked.number, problem=Failure.of(error))


def _learn(known: Known, commands: Mapping[str, Sequence[Sequence[str]]], runs_as: Author | None) -> None:
    """Run these hooks from now on as well; what was said last about a command's rights counts."""
    for reason, more in commands.items():
        known[reason] = [*((list(words), runs_as) for words in more), *known.get(reason, [])]


def _read(read: Read | None, known: Known) -> bytes:
    """Return the answer with the profile as it is now, whose hooks may be run from then on."""
    from ikeclient.profile.message import LARGEST, encode

    try:
        if read is None:
            raise ProfileError("the profile cannot be read again")
        profile = read()
    except IkeclientError as error:
        failure = error
    except Exception as error:  # its message may quote a secret
        failure = ProfileError("the profile could not be read", reason=f"unexpected {type(error).__name__}")
    else:
        _learn(known, profile.session.commands, profile.session.runs_as)
        return pack(CODEC.encode(ProfileRead(profile=encode(profile))), LARGEST)
    return pack(CODEC.encode(Failure.of(failure)))


async def _serve_hooks(connection: socket.socket, known: Known, directory: Path) -> None:
    """Run one command at a time; a later one, or the end, kills an earlier one that still runs."""
    reader, writer = await asyncio.open_connection(sock=connection)
    running: asyncio.Task[None] | None = None

    async def run(request: RunHook) -> None:
        try:
            command, author, variables = _checked(request, known)
        except (LookupError, StopIteration, ValueError):
            problem: str | None = _REFUSED
        else:
            problem = await run_command(command, variables, directory, author)
        answer(request.number, problem)

    def answer(number: int | None, problem: str | None) -> None:
        writer.write(pack(CODEC.encode(HookEnded(number=number, problem=problem))))

    async for message in stream(reader):
        await _cancelled(running)
        try:
            running = asyncio.create_task(run(CODEC.decode(RunHook, message)))
        except ValueError:
            answer(None, _REFUSED)
    await _cancelled(running)


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task})


def _checked(request: RunHook, known: Known) -> tuple[Sequence[str], Author | None, dict[str, str]]:
    """Return a command of a profile that was read, whose rights it has, and the environment that the tunnel gives it.

    That has the known names, and values without any surprise. Raises LookupError, StopIteration or ValueError.
    """
    given = request.variables
    if given.keys() != HOOK_VARIABLES or given["PATH"] != SEARCH_PATH or given["IKECLIENT_REASON"] != request.reason:
        raise ValueError("not a hook's environment")
    if not all(_HARMLESS.fullmatch(value) for value in given.values()):
        raise ValueError("a value of a hook's environment")
    words, author = next(found for found in known[request.reason] if found[0] == list(request.command))
    return words, author, given
