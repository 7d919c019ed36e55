"""What a tunnel asks of its helper, a process that kept the rights which the tunnel itself gave up (see `drop`).

Four things need the rights of whoever started the tunnel for as long as it runs: the journal, name resolution, the kill
switch (`closing`), and removing the tunnel's own files at the end. `Keeper` does them in the helper; `HelperDns`,
`HelperJournal`, `HelperChannel` and `process.kill_switch` ask for them. A request is one of a closed set (`messages`),
and the helper trusts the tunnel with little: it takes and undoes only changes of name resolution that it prepared
itself from the machine's present state, journals only well-formed steps, always under the tunnel's name, and writes and
removes three files by names that it knows.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, assert_never, cast

from ikeclient.errors import PlatformError
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.messages import Message, pack, receive
from ikeclient.ipc.typed import Codec
from ikeclient.net.changes.journal import SUFFIX, Journal, JournalError, JournalStore, Owner, decode, encode, remove
from ikeclient.net.changes.journal import open_directory as open_private
from ikeclient.net.changes.steps import DnsStep, Step
from ikeclient.net.dns.backends import RESOLV_CONF, Dns, DnsAdapter, acceptable
from ikeclient.net.model import DnsConfig, interface_name
from ikeclient.nofollow import create_file
from ikeclient.process.helper.closing import Closing
from ikeclient.process.helper.messages import (
    Answer,
    ApplyDns,
    Blocked,
    CloseMachine,
    Done,
    Json,
    LookAtMachine,
    OpenMachine,
    PrepareDns,
    Remove,
    Request,
    UndoDns,
    WriteCrash,
    WriteJournal,
)

if TYPE_CHECKING:
    import asyncio

    from ikeclient.profile.compiled import CompiledProfile

CRASH = "crash.log"
PATIENCE = 90.0  # seconds for an answer; name resolution may run four commands of 15 seconds

_LARGEST_CRASH = 64 << 10

CODEC = Codec()

Read = Callable[[], "CompiledProfile"]  # reads the profile again


class Sockets(NamedTuple):
    """What the helper speaks with the tunnel by, each socket about one thing."""

    channel: socket.socket  # changes of the machine
    hooks: socket.socket
    card: socket.socket
    reading: socket.socket  # of the profile
    lifeline: socket.socket  # which ends with the helper


class Keeper:
    """The helper's side: answers requests for the tunnel of `owner`.

    `tell` is called when something happened that `LookAtMachine` asks for. `dns` and `journal` exist for tests.
    """

    def __init__(
        self,
        state_dir: Path,
        owner: Owner,
        *,
        resolv_conf: Path = RESOLV_CONF,
        dns: DnsAdapter | None = None,
        journal: JournalStore | None = None,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self._state_dir = state_dir
        self._files = {"socket": f"{owner.name}.sock", "log": f"{owner.name}.log"}
        self._dns = dns or Dns(owner, resolv_conf)
        self._journal = journal or Journal(state_dir, owner.name + SUFFIX, owner)
        self._prepared: list[DnsStep] = []
        self._written: list[Step] = []
        self._closing = Closing(state_dir, owner.name, tell)

    @property
    def has_to_watch(self) -> bool:
        """Whether something is closed that others may open, for which `watch` is to be called."""
        return self._closing.has_to_watch

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep closed from now on what is closed or will be, in this event loop."""
        self._closing.watch(loop)

    def answer(self, message: Message) -> Message:
        """Do what is asked; the answer tells of a failure. Never raises for anything a tunnel can send."""
        answer: Answer
        try:
            answer = self._do(CODEC.decode(Request, message))  # type: ignore[arg-type]  # a union
        except PlatformError as error:
            answer = Failure.of(error)
        except OSError as error:
            answer = _failed("the helper cannot do what the tunnel asks for", error.strerror)
        except (JournalError, KeyError, TypeError, ValueError, AttributeError) as error:
            answer = _failed("the helper refuses what the tunnel asks for", type(error).__name__)
        return cast(Message, CODEC.encode(answer))

    def _do(self, request: Request) -> Done | Blocked:
        match request:
            case WriteJournal(steps=steps):
                written = [self._checked(step) for step in steps]
                self._journal.write(written)
                self._written = written
                return Done()
            case PrepareDns():
                return self._prepare(request)
            case ApplyDns(step=step):
                return Done(warnings=tuple(self._dns.apply(self._known(step))))
            case UndoDns(step=step):
                return Done(warnings=tuple(self._dns.undo(self._known(step))))
            case WriteCrash(text=text):
                self._crash(text)
                return Done()
            case Remove(file=file):
                self._remove(self._files[file])
                return Done()
            case CloseMachine() | OpenMachine() | LookAtMachine():
                return self._closing.answer(request)
        assert_never(request)

    def _prepare(self, request: PrepareDns) -> Done:
        previous = None if request.previous is None else self._known(request.previous)
        wanted = DnsConfig(servers=request.servers, domains=request.domains, mode=request.mode)
        config, refused = acceptable(wanted)
        step, warnings = self._dns.prepare(config, interface_name(request.interface), previous)
        if step is not None and step not in self._prepared:
            # Only the last one can still be in force, and its predecessor while it is being replaced.
            self._prepared = [*self._prepared[-7:], step]
        return Done(step=None if step is None else encode(step), warnings=tuple(refused + warnings))

    def _checked(self, data: int | Json) -> Step:
        """Return a step, given itself or as the number of one in what was written last."""
        if isinstance(data, int):
            if not 0 <= data < len(self._written):
                raise ValueError("no such step")
            return self._written[data]
        step = decode(data)
        return self._known(data) if isinstance(step, DnsStep) else step

    def _known(self, data: object) -> DnsStep:
        return self._prepared[self._prepared.index(decode(data))]  # type: ignore[arg-type]  # ValueError for all others

    def _crash(self, text: str) -> None:
        try:
            with open_private(self._state_dir, create=True) as directory:
                remove(directory, CRASH)
                with create_file(CRASH, directory) as file:
                    file.write(text.encode("utf-8", "backslashreplace")[:_LARGEST_CRASH])
        except OSError as error:
            raise PlatformError(f"cannot write {self._state_dir / CRASH}", reason=error.strerror) from error

    def _remove(self, filename: str) -> None:
        try:
            with open_private(self._state_dir) as directory:
                remove(directory, filename)
        except FileNotFoundError:
            return
        except OSError as error:
            raise PlatformError(f"cannot remove {self._state_dir / filename}", reason=error.strerror) from error


class HelperChannel:
    """The tunnel's end: one question at a time, and it waits for the answer. Raises PlatformError."""

    def __init__(self, connection: socket.socket, patience: float = PATIENCE) -> None:
        connection.settimeout(patience)
        self._socket = connection

    def ask(self, request: Request) -> Done:
        """Return what the helper answers."""
        answer = self._ask(request)
        if isinstance(answer, Done):
            return answer
        raise PlatformError("the tunnel's helper process answers something else")

    def block(self, request: CloseMachine | OpenMachine | LookAtMachine) -> Blocked:
        """Close or open the machine, or ask whether it is closed."""
        answer = self._ask(request)
        if isinstance(answer, Blocked):
            return answer
        raise PlatformError("the tunnel's helper process answers something else")

    def _ask(self, request: Request) -> Done | Blocked:
        try:
            self._socket.sendall(pack(CODEC.encode(request)))
            answer: Answer = CODEC.decode(Answer, receive(self._socket.recv))  # type: ignore[arg-type]  # a union
        except (OSError, ValueError) as error:
            reason = f"its helper process does not answer ({type(error).__name__})"
            raise PlatformError("the tunnel cannot change this machine any more", reason=reason) from error
        if isinstance(answer, Failure):
            raise answer.error(PlatformError)
        return answer

    def remove(self, file: Literal["socket", "log"]) -> None:
        """Remove a file of the tunnel from its directory."""
        self.ask(Remove(file=file))


class HelperDns:
    """Name resolution by way of the helper; a `DnsAdapter`."""

    def __init__(self, channel: HelperChannel) -> None:
        self._channel = channel

    def prepare(self, config: DnsConfig, interface: str, previous: DnsStep | None) -> tuple[DnsStep | None, list[str]]:
        """Return the step for this configuration, and warnings. `previous` is ours that is in force now."""
        answer = self._channel.ask(
            PrepareDns(
                servers=config.servers,
                domains=config.domains,
                mode=config.mode,
                interface=interface,
                previous=None if previous is None else encode(previous),
            )
        )
        step = None if answer.step is None else decode(answer.step)
        return step if isinstance(step, DnsStep) else None, list(answer.warnings)

    def apply(self, step: DnsStep) -> list[str]:
        """Take the step. Returns warnings; raises PlatformError, and then `undo` puts right what is done already."""
        return list(self._channel.ask(ApplyDns(step=encode(step))).warnings)

    def undo(self, step: DnsStep) -> list[str]:
        """Undo the step; what is gone already is fine. Returns warnings; raises PlatformError."""
        return list(self._channel.ask(UndoDns(step=encode(step))).warnings)


class HelperJournal:
    """The journal by way of the helper; a `JournalStore`.

    There may be hundreds of steps, of which one changes: those that were written before are sent as their numbers.
    """

    def __init__(self, channel: HelperChannel) -> None:
        self._channel = channel
        self._written: dict[Step, int] = {}

    def write(self, steps: Sequence[Step]) -> None:
        """Replace what is kept; durable when it returns. Raises PlatformError, and the old content is then kept."""
        data = (encode(step) if (at := self._written.get(step)) is None else at for step in steps)
        self._channel.ask(WriteJournal(steps=tuple(data)))
        self._written = {step: number for number, step in enumerate(steps)}


def _failed(message: str, reason: str | None) -> Failure:
    return Failure.of(PlatformError(message, reason=reason))
