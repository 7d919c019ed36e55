"""The tunnel's side of its helper: what it has done, and asks, with the rights that it gave up itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ikeclient.errors import PlatformError, ProfileError
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.messages import pack, receive, stream
from ikeclient.net.changes.journal import this_process
from ikeclient.process.helper.channel import CODEC, HelperChannel
from ikeclient.process.helper.messages import (
    AskCard,
    Begin,
    CardAnswer,
    HookEnded,
    ProfileRead,
    ReadProfile,
    Remembered,
    RunHook,
)
from ikeclient.process.helper.process import HelperProcess
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.author import Author
from ikeclient.profile.message import LARGEST, decode
from ikeclient.tunnel.late_modules import loading
from ikeclient.tunnel.options import ConnectOptions

_READING = 120.0  # seconds for a profile with its secrets


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
                with loading():
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
    process: HelperProcess,
    runs_as: Author | None = None,
) -> Iterator[Helper]:
    """Have `process` help this tunnel for the block: the hooks `commands` run in `directory`, with the rights of
    `runs_as` if given, and those of a profile that was read again.
    """
    first = begin(options, commands, directory, runs_as, process.remembered())
    with process:
        channel, hooks, card, reading, lifeline = process.sockets
        with contextlib.suppress(OSError):  # it is gone, as the first request will tell
            channel.sendall(pack(CODEC.encode(first)))
        yield Helper(HelperChannel(channel), HookRunner(hooks), Card(card), Reread(reading), lifeline)


def begin(
    options: ConnectOptions,
    commands: Mapping[str, Sequence[Sequence[str]]],
    directory: Path,
    runs_as: Author | None,
    remembered: Remembered | None,
) -> Begin:
    """Return the first message to the helper of a tunnel of this process."""
    return Begin(
        owner=this_process(options.name),
        state=options.runtime_directory,
        commands={reason: tuple(tuple(words) for words in several) for reason, several in commands.items()},
        directory=directory,
        runs_as=runs_as,
        remembered=remembered,
    )
