"""The tunnel's helper: a process forked before rights are given up, which keeps those that `connect` was started with.

It never speaks with the network. It does what `process.helper.channel` describes, and runs the profile's hooks. It ends
when the tunnel does, whatever way that happens, and undoes nothing by itself then: after a crash that is for the next
start, as the journal says.

It is forked before the tunnel's modules are loaded, which it would otherwise hold in its memory as well, and before the
profile is read. So the first message says which tunnel it is for and which commands it may run, from a process that
has not yet heard anything from the network. What only few tunnels need is imported where it is used: the helper keeps
the right to read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import re
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from ikeclient.control.events import HOOK_VARIABLES, SEARCH_PATH
from ikeclient.errors import IkeclientError, ProfileError
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.fork import await_end, daemonise, fork
from ikeclient.ipc.messages import pack, receive, stream
from ikeclient.process.helper.channel import CODEC, Keeper
from ikeclient.process.helper.command import run_command
from ikeclient.process.helper.messages import (
    AskCard,
    Begin,
    CardAnswer,
    HookEnded,
    ProfileRead,
    Remembered,
    RunHook,
)
from ikeclient.profile.load.author import Author

if TYPE_CHECKING:
    from ikeclient.profile.compiled import CompiledProfile

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_HARMLESS = re.compile(r"[A-Za-z0-9_.:/@+%, -]*")
_PR_SET_NAME = 15  # prctl(2)
_GOODBYE = 5.0  # seconds for the helper to end
_CHALLENGE = re.compile(r"aka( [0-9a-f]{32}){2}|sim( [0-9a-f]{32}){3}")
_REFUSED = "was not run: the helper refuses it"

Known = dict[str, list[tuple[list[str], Author | None]]]  # commands by reason (up, down), and whose rights they have
Read = Callable[[], "CompiledProfile"]


class Memory(Protocol):
    """What a profile is read with again; `process.profile_source` has it."""

    def remembered(self) -> Remembered:
        """What was typed, piped or taken from the environment until now."""

    def remember(self, remembered: Remembered) -> None:
        """Take over what the same object in another process remembers."""


class HelperProcess:
    """A helper that was forked, and waits for its first message; a context manager that ends with it.

    `read` reads the profile again, with what `memory` remembers by the time that the tunnel begins. Make it while there
    is one thread.
    """

    def __init__(self, read: Read | None = None, memory: Memory | None = None) -> None:
        pairs = [socket.socketpair() for _ in range(5)]
        self.sockets = [ours for ours, _ in pairs]
        self._memory = memory
        self._pid = fork(lambda: _live([theirs for _, theirs in pairs], read, memory))
        for _, theirs in pairs:
            theirs.close()

    def remembered(self) -> Remembered | None:
        """What the tunnel's process remembers of its profile's secrets now."""
        return None if self._memory is None else self._memory.remembered()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def end(self) -> None:
        """Let it end, and wait until it has."""
        for ours in self.sockets:
            ours.close()
        await_end(self._pid, _GOODBYE)


def _live(sockets: Sequence[socket.socket], read: Read | None, memory: Memory | None) -> int:
    """Do everything that the helper does; returns its exit code."""
    channel, hooks, card, reading, lifeline = _isolate(sockets)
    message = receive(channel.recv)
    if message is None:  # there will be no tunnel
        return 0
    begin = CODEC.decode(Begin, message)
    if memory is not None and begin.remembered is not None:
        memory.remember(begin.remembered)
    known: Known = {}
    _learn(known, begin.commands, begin.runs_as)
    tasks = (
        _serve_hooks(hooks, known, begin.directory),
        _serve_card(card, known, begin.directory),
        _serve_reading(reading, read, known),
    )

    def tell() -> None:
        with contextlib.suppress(OSError):  # full: the tunnel has not heard of the last time yet
            lifeline.send(b"!", socket.MSG_DONTWAIT)

    asyncio.run(_serve(Keeper(begin.state, begin.owner, tell=tell), channel, *tasks))
    return 0


def _isolate(keep: Sequence[socket.socket]) -> list[socket.socket]:
    """Leave the terminal and everything that is open; what ends the tunnel ends us by closing our sockets alone.

    Returns the sockets of `keep`, past the numbers of the standard files, which the caller may have closed.
    """
    for number in _SIGNALS:
        signal.signal(number, _nothing)  # not SIG_IGN, which the programs we run would inherit
    moved = daemonise([kept.detach() for kept in keep])
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"ikeclient-help", 0, 0, 0)
    return [socket.socket(fileno=number) for number in moved]


def _nothing(*_: object) -> None:
    """Ignore a signal: the tunnel answers it."""


async def _serve(keeper: Keeper, channel: socket.socket, *others: Coroutine[None, None, None]) -> None:
    running = [asyncio.create_task(other) for other in others]
    reader, writer = await asyncio.open_connection(sock=channel)
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
