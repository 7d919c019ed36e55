"""The tunnel's helper: a process forked before rights are given up, which keeps those that `connect` was started with.

It never speaks with the network. It does what `process.helper.channel` describes, and runs the profile's hooks, which
are fixed before the fork. It ends when the tunnel does, whatever way that happens, and undoes nothing by itself then:
after a crash that is for the next start, as the journal says.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import itertools
import os
import pickle
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path

from ikeclient.errors import IkeclientError, PlatformError, ProfileError
from ikeclient.net.changes.journal import this_process
from ikeclient.process.helper.channel import LARGEST, LENGTH, Channel, Keeper, packed, receive, unpacked
from ikeclient.profile.compile import CompiledProfile
from ikeclient.profile.load.author import Author
from ikeclient.tunnel.hooks import SEARCH_PATH, environment, run_command
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.status import Status

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_HARMLESS = re.compile(r"[A-Za-z0-9_.:/@+%, -]*")
_NAMES = frozenset(environment(Status(name=""), "connected"))
_PR_SET_NAME = 15  # prctl(2)
_GOODBYE = 5.0  # seconds for the helper to end
_READING = 120.0  # seconds for a profile with its secrets

Known = dict[str, list[tuple[list[str], Author | None]]]  # commands by reason (up, down), and whose rights they have


class Hooks:
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
        request = {"number": number, "reason": reason, "command": list(command), "variables": dict(variables)}
        with contextlib.suppress(OSError):
            self._streams = self._streams or await asyncio.open_connection(sock=self._socket)
            reader, writer = self._streams
            writer.write(packed(request))
            async for answer in _messages(reader):
                if answer.get("number") == number:
                    problem = answer.get("problem")
                    return None if problem is None else str(problem)
        return "was not run: the helper process is gone"

    def close(self) -> None:
        """Close what the running event loop has of it."""
        if self._streams is not None:
            self._streams[1].close()


class Reading:
    """The tunnel's way to have its profile read again, with the rights to the files that it gave up itself.

    Calling it waits, as long as a command takes that knows a password; so it is for a thread. Raises IkeclientError.
    What is unpickled comes from the helper, which has more rights than we.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(_READING)
        self._socket = connection

    def __call__(self) -> CompiledProfile:
        """The profile as it is now."""
        try:
            self._socket.sendall(packed({}))
            result = pickle.loads(receive(self._socket))  # noqa: S301
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise PlatformError("the profile could not be read", reason="the helper process is gone") from error
        if isinstance(result, IkeclientError):
            raise result
        assert isinstance(result, CompiledProfile)
        return result


class Helper:
    """A running helper: `channel` for the machine, `hooks` for the profile's commands, `reread` for the profile.

    `lifeline` becomes readable when the helper is gone.
    """

    def __init__(self, channel: Channel, hooks: Hooks, reread: Reading, lifeline: socket.socket) -> None:
        self.channel = channel
        self.hooks = hooks
        self.reread = reread
        self.lifeline = lifeline


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
    pairs = [socket.socketpair() for _ in range(4)]
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()  # or the child would write it a second time
    pid = os.fork()
    if pid == 0:
        try:
            channel, hooks, reading, _lifeline = _isolate([theirs for _, theirs in pairs])
            known: Known = {}
            _learn(known, commands, runs_as)
            tasks = (_serve_hooks(hooks, known, directory), _serve_reading(reading, reread, known))
            asyncio.run(_serve(Keeper(options.runtime_directory, owner), channel, *tasks))
        finally:
            os._exit(0)
    for _, theirs in pairs:
        theirs.close()
    channel, hooks, reading, lifeline = (ours for ours, _ in pairs)
    try:
        yield Helper(Channel(channel), Hooks(hooks), Reading(reading), lifeline)
    finally:
        for ours, _ in pairs:
            ours.close()
        _wait(pid)


def _isolate(keep: Sequence[socket.socket]) -> list[socket.socket]:
    """Leave the terminal and everything that is open; what ends the tunnel ends us by closing our sockets alone.

    Returns the sockets of `keep`, past the numbers of the standard files, which the caller may have closed.
    """
    os.setsid()
    moved = [socket.socket(fileno=fcntl.fcntl(kept.detach(), fcntl.F_DUPFD_CLOEXEC, 3)) for kept in keep]
    for number in _SIGNALS:
        signal.signal(number, _nothing)  # not SIG_IGN, which the programs we run would inherit
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    ours = sorted(connection.fileno() for connection in moved)
    for low, high in zip([2, *ours], [*ours, max(os.sysconf("SC_OPEN_MAX"), 1024)], strict=True):
        os.closerange(low + 1, high)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"ikeclient-help", 0, 0, 0)
    return moved


def _nothing(*_: object) -> None:
    """A signal is for the tunnel to answer."""


def _wait(pid: int) -> None:
    deadline = time.monotonic() + _GOODBYE
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.005)


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, object]]:
    """Messages until the other side is gone, or sends something else."""
    with contextlib.suppress(asyncio.IncompleteReadError, OSError, ValueError):
        while True:
            (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            if length > LARGEST:
                return
            yield unpacked(await reader.readexactly(length))


async def _serve(keeper: Keeper, channel: socket.socket, *others: Coroutine[None, None, None]) -> None:
    running = [asyncio.create_task(other) for other in others]
    reader, writer = await asyncio.open_connection(sock=channel)
    async for request in _messages(reader):
        writer.write(packed(keeper.answer(request)))
    await asyncio.wait(running)  # which end with the same tunnel


async def _serve_reading(connection: socket.socket, reread: Callable[[], CompiledProfile] | None, known: Known) -> None:
    reader, writer = await asyncio.open_connection(sock=connection)
    async for _ in _messages(reader):
        result = await asyncio.to_thread(_read, reread)
        if isinstance(result, CompiledProfile):
            _learn(known, result.session.commands, result.session.runs_as)
        data = pickle.dumps(result)
        writer.write(LENGTH.pack(len(data)) + data)


def _learn(known: Known, commands: Mapping[str, Sequence[Sequence[str]]], runs_as: Author | None) -> None:
    """Run these hooks from now on as well; what was said last about a command's rights counts."""
    for reason, more in commands.items():
        known[reason] = [*((list(words), runs_as) for words in more), *known.get(reason, [])]


def _read(reread: Callable[[], CompiledProfile] | None) -> CompiledProfile | IkeclientError:
    try:
        return reread() if reread else ProfileError("the profile cannot be read again")
    except IkeclientError as error:  # of whatever class; this one surely travels
        message, *more = error.lines()
        plain = ProfileError(message, reason=more[0] if more else None, hint=more[1] if len(more) > 1 else None)
        plain.exit_code = error.exit_code
        return plain
    except Exception as error:  # its message may quote a secret
        return ProfileError("the profile could not be read", reason=f"unexpected {type(error).__name__}")


async def _serve_hooks(connection: socket.socket, known: Known, directory: Path) -> None:
    """One command at a time; a later one, or the end, kills an earlier one that still runs."""
    reader, writer = await asyncio.open_connection(sock=connection)
    running: asyncio.Task[None] | None = None

    async def run(request: Mapping[str, object]) -> None:
        try:
            command, author, variables = _checked(request, known)
        except (LookupError, StopIteration, TypeError, ValueError):
            problem: str | None = "was not run: the helper refuses it"
        else:
            problem = await run_command(command, variables, directory, author)
        writer.write(packed({"number": request.get("number"), "problem": problem}))

    async for request in _messages(reader):
        await _cancelled(running)
        running = asyncio.create_task(run(request))
    await _cancelled(running)


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task})


def _checked(request: Mapping[str, object], known: Known) -> tuple[Sequence[str], Author | None, dict[str, str]]:
    """A command of a profile that was read, whose rights it has, and the environment that the tunnel gives it.

    That has the known names, and values without any surprise. Raises LookupError, TypeError or ValueError.
    """
    reason, command, given = request["reason"], request["command"], request["variables"]
    if not isinstance(reason, str) or not isinstance(command, list) or not isinstance(given, dict):
        raise TypeError("not a request for a command")
    if set(given) != _NAMES or given["PATH"] != SEARCH_PATH or given["IKECLIENT_REASON"] != reason:
        raise ValueError("not a hook's environment")
    if not all(isinstance(value, str) and _HARMLESS.fullmatch(value) for value in given.values()):
        raise ValueError("a value of a hook's environment")
    words, author = next(found for found in known[reason] if found[0] == command)
    return words, author, {str(name): str(value) for name, value in given.items()}
