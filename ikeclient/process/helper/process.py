"""The tunnel's helper: a process forked before rights are given up, which keeps those that `connect` was started with.

It never speaks with the network. It does what `process.helper.channel` describes, and runs the profile's hooks, which
are fixed before the fork. It ends when the tunnel does, whatever way that happens, and undoes nothing by itself then:
after a crash that is for the next start, as the journal says.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import re
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path

from ikeclient.errors import IkeclientError, PlatformError, ProfileError
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.fork import await_end, daemonise, fork
from ikeclient.ipc.messages import pack, receive, stream
from ikeclient.net.changes.journal import this_process
from ikeclient.process.card import ask_command
from ikeclient.process.helper.channel import CODEC, HelperChannel, Keeper
from ikeclient.process.helper.command import run_command
from ikeclient.process.helper.messages import AskCard, CardAnswer, HookEnded, ProfileRead, ReadProfile, RunHook
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.author import Author
from ikeclient.profile.message import LARGEST, decode, encode
from ikeclient.tunnel.hooks import SEARCH_PATH, environment
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.status import Status

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_HARMLESS = re.compile(r"[A-Za-z0-9_.:/@+%, -]*")
_NAMES = frozenset(environment(Status(name=""), "connected"))
_PR_SET_NAME = 15  # prctl(2)
_GOODBYE = 5.0  # seconds for the helper to end
_READING = 120.0  # seconds for a profile with its secrets
_CHALLENGE = re.compile(r"aka( [0-9a-f]{32}){2}|sim( [0-9a-f]{32}){3}")
_REFUSED = "was not run: the helper refuses it"

Known = dict[str, list[tuple[list[str], Author | None]]]  # commands by reason (up, down), and whose rights they have


class HookRunner:
    """The tunnel's way to have its hooks run by the helper."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._numbers = itertools.count(1)

    async def run(self, reason: str, command: Sequence[str], variables: Mapping[str, str]) -> str | None:
        """Run a command; returns what went wrong, if anything did. Ends that of an earlier call, as the `Runner` of it
        was cancelled; a `tunnel.hooks.Runner`.
        """
        number = next(self._numbers)
        request = RunHook(number=number, reason=reason, command=tuple(command), variables=dict(variables))
        with contextlib.suppress(OSError, ValueError):
            self._streams = self._streams or await asyncio.open_connection(sock=self._socket)
            reader, writer = self._streams
            writer.write(pack(CODEC.encode(request)))
            async for message in stream(reader):
                answer = CODEC.decode(HookEnded, message)
                if answer.number in (number, None):
                    return answer.problem
        return "was not run: the helper process is gone"

    def close(self) -> None:
        """Close what the running event loop has of it."""
        if self._streams is not None:
            self._streams[1].close()


class Card:
    """The tunnel's way to have the profile's command answer for a USIM, with the rights that it gave up itself."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(1)

    async def ask(self, challenge: str) -> str:
        """Return the card's answer to a challenge. Raises ProfileError, or PlatformError without a helper."""
        async with self._turn:
            with contextlib.suppress(OSError, ValueError):
                self._streams = self._streams or await asyncio.open_connection(sock=self._socket)
                reader, writer = self._streams
                number = next(self._numbers)
                writer.write(pack(CODEC.encode(AskCard(number=number, challenge=challenge))))
                async for message in stream(reader):
                    answer = CODEC.decode(CardAnswer, message)
                    if answer.number != number:  # to a question that was taken back
                        continue
                    if answer.problem is not None:
                        raise answer.problem.error(ProfileError)
                    return answer.text
        raise PlatformError("the card cannot be asked", reason="the helper process is gone")

    def close(self) -> None:
        """Close what the running event loop has of it."""
        if self._streams is not None:
            self._streams[1].close()


class Reread:
    """The tunnel's way to have its profile read again, with the rights to the files that it gave up itself.

    Calling it waits, as long as a command takes that knows a password; so it is for a thread. Raises IkeclientError.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(_READING)
        self._socket = connection

    def __call__(self) -> CompiledProfile:
        """Return the profile as it is now."""
        try:
            self._socket.sendall(pack(CODEC.encode(ReadProfile())))
            message = receive(self._socket.recv, LARGEST)
            answer = CODEC.decode(ProfileRead | Failure, message)  # type: ignore[arg-type]  # a union
            if isinstance(answer, ProfileRead):
                return decode(answer.profile)
        except (OSError, ValueError) as error:
            raise PlatformError("the profile could not be read", reason="the helper process is gone") from error
        raise answer.error(ProfileError)


class Helper:
    """A running helper: `channel` for the machine, `hooks` and `card` for the profile's commands, `reread` for it.

    `lifeline` becomes readable when the helper has news of the kill switch, and when it is gone; see `is_gone`.
    """

    def __init__(
        self, channel: HelperChannel, hooks: HookRunner, card: Card, reread: Reread, lifeline: socket.socket
    ) -> None:
        self.channel = channel
        self.hooks = hooks
        self.card = card
        self.reread = reread
        self.lifeline = lifeline

    def is_gone(self) -> bool:
        """Whether the helper has ended, after `lifeline` became readable."""
        try:
            return not self.lifeline.recv(64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


@contextlib.contextmanager
def helper(
    options: ConnectOptions,
    commands: Mapping[str, Sequence[Sequence[str]]],
    directory: Path,
    reread: Callable[[], CompiledProfile] | None = None,
    runs_as: Author | None = None,
) -> Iterator[Helper]:
    """Fork a helper for the block; the hooks `commands` run in `directory`, with the rights of `runs_as` if given, and
    `reread` reads the profile again, whose hooks may be run from then on. Call it while there is one thread.
    """
    owner = this_process(options.name)
    pairs = [socket.socketpair() for _ in range(5)]

    def life() -> int:
        channel, hooks, card, reading, lifeline = _isolate([theirs for _, theirs in pairs])
        known: Known = {}
        _learn(known, commands, runs_as)
        tasks = (
            _serve_hooks(hooks, known, directory),
            _serve_card(card, known, directory),
            _serve_reading(reading, reread, known),
        )

        def tell() -> None:
            with contextlib.suppress(OSError):  # full: the tunnel has not heard of the last time yet
                lifeline.send(b"!", socket.MSG_DONTWAIT)

        asyncio.run(_serve(Keeper(options.runtime_directory, owner, tell=tell), channel, *tasks))
        return 0

    pid = fork(life)
    for _, theirs in pairs:
        theirs.close()
    channel, hooks, card, reading, lifeline = (ours for ours, _ in pairs)
    try:
        yield Helper(HelperChannel(channel), HookRunner(hooks), Card(card), Reread(reading), lifeline)
    finally:
        for ours, _ in pairs:
            ours.close()
        await_end(pid, _GOODBYE)


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


async def _serve_reading(connection: socket.socket, reread: Callable[[], CompiledProfile] | None, known: Known) -> None:
    reader, writer = await asyncio.open_connection(sock=connection)
    async for _ in stream(reader):
        result = await asyncio.to_thread(_read, reread)
        if isinstance(result, CompiledProfile):
            _learn(known, result.session.commands, result.session.runs_as)
            answer: ProfileRead | Failure = ProfileRead(profile=encode(result))
        else:
            answer = Failure.of(result)
        writer.write(pack(CODEC.encode(answer), LARGEST))


async def _serve_card(connection: socket.socket, known: Known, directory: Path) -> None:
    reader, writer = await asyncio.open_connection(sock=connection)
    async for message in stream(reader):
        asked = CODEC.decode(AskCard, message)
        answer = await asyncio.to_thread(_ask_card, asked, known, directory)
        writer.write(pack(CODEC.encode(answer)))


def _ask_card(asked: AskCard, known: Known, directory: Path) -> CardAnswer:
    """Ask the profile's command, and no other."""
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


def _read(reread: Callable[[], CompiledProfile] | None) -> CompiledProfile | IkeclientError:
    try:
        return reread() if reread else ProfileError("the profile cannot be read again")
    except IkeclientError as error:
        return error
    except Exception as error:  # its message may quote a secret
        return ProfileError("the profile could not be read", reason=f"unexpected {type(error).__name__}")


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
    if set(given) != _NAMES or given["PATH"] != SEARCH_PATH or given["IKECLIENT_REASON"] != request.reason:
        raise ValueError("not a hook's environment")
    if not all(_HARMLESS.fullmatch(value) for value in given.values()):
        raise ValueError("a value of a hook's environment")
    words, author = next(found for found in known[request.reason] if found[0] == list(request.command))
    return words, author, given
