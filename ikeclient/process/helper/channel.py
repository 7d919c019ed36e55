"""What a tunnel asks of its helper, a process that kept the rights which the tunnel itself gave up (see `drop`).

Three things need the files of whoever started the tunnel for as long as it runs: the journal, name resolution, and
removing the tunnel's own files at the end. `Keeper` does them in the helper; `HelperDns`, `HelperJournal` and `Channel`
ask for them. A request is a small JSON object of a closed set, and the helper trusts the tunnel with little: it takes
and undoes only changes of name resolution that it prepared itself from the machine's present state, journals only
well-formed steps, always under the tunnel's name, and writes and removes three files by names that it knows.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from struct import Struct
from typing import Literal

from ikeclient.errors import PlatformError
from ikeclient.net.changes.journal import SUFFIX, Journal, JournalError, JournalStore, Owner, decode, encode, remove
from ikeclient.net.changes.journal import open_directory as open_private
from ikeclient.net.changes.steps import DnsStep, Step
from ikeclient.net.dns.backends import RESOLV_CONF, Dns, DnsAdapter, acceptable
from ikeclient.net.model import DnsConfig, interface_name

LENGTH = Struct("=I")
LARGEST = 4 << 20  # bytes of a message
CRASH = "crash.log"
PATIENCE = 90.0  # seconds for an answer; name resolution may run four commands of 15 seconds

_LARGEST_CRASH = 64 << 10

Message = Mapping[str, object]


def packed(message: Message) -> bytes:
    """`message` as it travels: a length and JSON."""
    data = json.dumps(message).encode("ascii")
    return LENGTH.pack(len(data)) + data


def unpacked(data: bytes) -> dict[str, object]:
    """The message in `data`, the part after the length; raises ValueError."""
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


def receive(connection: socket.socket) -> bytes:
    """The next message without its length, waiting for it; raises OSError, and EOFError at the end."""
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    return _exactly(connection, min(length, LARGEST))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        if not (piece := connection.recv(size - len(data))):
            raise EOFError
        data += piece
    return bytes(data)


class Keeper:
    """The helper's side: answers requests for the tunnel of `owner`. `dns` and `journal` exist for tests."""

    def __init__(
        self,
        state_dir: Path,
        owner: Owner,
        *,
        resolv_conf: Path = RESOLV_CONF,
        dns: DnsAdapter | None = None,
        journal: JournalStore | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._files = {"socket": f"{owner.name}.sock", "log": f"{owner.name}.log"}
        self._dns = dns or Dns(owner, resolv_conf)
        self._journal = journal or Journal(state_dir, owner.name + SUFFIX, owner)
        self._prepared: list[DnsStep] = []
        self._written: list[Step] = []

    def answer(self, request: Message) -> dict[str, object]:
        """Do what is asked; the answer tells of a failure. Never raises for anything a tunnel can send."""
        try:
            return self._do(request)
        except PlatformError as error:
            return {"error": [error.message, error.reason, error.hint]}
        except OSError as error:
            return {"error": ["the helper cannot do what the tunnel asks for", error.strerror, None]}
        except (JournalError, KeyError, TypeError, ValueError, AttributeError) as error:
            return {"error": ["the helper refuses what the tunnel asks for", type(error).__name__, None]}

    def _do(self, request: Message) -> dict[str, object]:
        match request:
            case {"do": "journal", "steps": list(steps)}:
                written = [self._checked(step) for step in steps]
                self._journal.write(written)
                self._written = written
                return {}
            case {"do": "prepare", "previous": previous}:
                return self._prepare(request, None if previous is None else self._known(previous))
            case {"do": "apply", "step": step}:
                return {"warnings": self._dns.apply(self._known(step))}
            case {"do": "undo", "step": step}:
                return {"warnings": self._dns.undo(self._known(step))}
            case {"do": "crash", "text": str(text)}:
                self._crash(text)
                return {}
            case {"do": "remove", "file": str(file)}:
                self._remove(self._files[file])
                return {}
        raise ValueError("no such request")

    def _prepare(self, request: Message, previous: DnsStep | None) -> dict[str, object]:
        servers, domains, mode = request["servers"], request["domains"], request["mode"]
        if not isinstance(servers, list) or not isinstance(domains, list) or mode not in ("split", "all"):
            raise ValueError("not a configuration")
        chosen: Literal["split", "all"] = "all" if mode == "all" else "split"
        config, refused = acceptable(
            DnsConfig(servers=tuple(map(ip_address, servers)), domains=tuple(map(str, domains)), mode=chosen)
        )
        step, warnings = self._dns.prepare(config, interface_name(request["interface"]), previous)
        if step is not None and step not in self._prepared:
            # Only the last one can still be in force, and its predecessor while it is being replaced.
            self._prepared = [*self._prepared[-7:], step]
        return {"step": step and encode(step), "warnings": refused + warnings}

    def _checked(self, data: object) -> Step:
        """A step, or the number of one in what was written last."""
        if type(data) is int and 0 <= data < len(self._written):
            return self._written[data]
        step = decode(data)
        return self._known(data) if isinstance(step, DnsStep) else step

    def _known(self, data: object) -> DnsStep:
        return self._prepared[self._prepared.index(decode(data))]  # type: ignore[arg-type]  # ValueError for all others

    def _crash(self, text: str) -> None:
        try:
            with open_private(self._state_dir, create=True) as directory:
                remove(directory, CRASH)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with open(os.open(CRASH, flags, 0o600, dir_fd=directory), "wb") as file:
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


class Channel:
    """The tunnel's end: one question at a time, and it waits for the answer. Raises PlatformError."""

    def __init__(self, connection: socket.socket, patience: float = PATIENCE) -> None:
        connection.settimeout(patience)
        self._socket = connection

    def ask(self, do: str, **details: object) -> dict[str, object]:
        """What the helper answers."""
        try:
            self._socket.sendall(packed({"do": do, **details}))
            answer = unpacked(receive(self._socket))
        except (OSError, EOFError, ValueError) as error:
            reason = f"its helper process does not answer ({type(error).__name__})"
            raise PlatformError("the tunnel cannot change this machine any more", reason=reason) from error
        failure = answer.get("error")
        if isinstance(failure, list) and len(failure) == 3:
            message, why, hint = (None if words is None else str(words) for words in failure)
            raise PlatformError(message or "", reason=why, hint=hint)
        return answer

    def remove(self, file: Literal["socket", "log"]) -> None:
        """Remove a file of the tunnel from its directory."""
        self.ask("remove", file=file)


class HelperDns:
    """Name resolution by way of the helper; a `DnsAdapter`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def prepare(self, config: DnsConfig, interface: str, previous: DnsStep | None) -> tuple[DnsStep | None, list[str]]:
        """The step for this configuration, and warnings. `previous` is ours that is in force now."""
        answer = self._channel.ask(
            "prepare",
            servers=[str(server) for server in config.servers],
            domains=list(config.domains),
            mode=config.mode,
            interface=interface,
            previous=None if previous is None else encode(previous),
        )
        step = None if answer.get("step") is None else decode(answer["step"])
        return step if isinstance(step, DnsStep) else None, _warnings(answer)

    def apply(self, step: DnsStep) -> list[str]:
        """Take the step. Returns warnings; raises PlatformError, and then `undo` puts right what is done already."""
        return _warnings(self._channel.ask("apply", step=encode(step)))

    def undo(self, step: DnsStep) -> list[str]:
        """Undo the step; what is gone already is fine. Returns warnings; raises PlatformError."""
        return _warnings(self._channel.ask("undo", step=encode(step)))


class HelperJournal:
    """The journal by way of the helper; a `JournalStore`.

    There may be hundreds of steps, of which one changes: those that were written before are sent as their numbers.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._written: dict[Step, int] = {}

    def write(self, steps: Sequence[Step]) -> None:
        """Replace what is kept; durable when it returns. Raises PlatformError, and the old content is then kept."""
        self._channel.ask(
            "journal", steps=[encode(step) if (at := self._written.get(step)) is None else at for step in steps]
        )
        self._written = {step: number for number, step in enumerate(steps)}


def _warnings(answer: Message) -> list[str]:
    warnings = answer.get("warnings")
    return [str(warning) for warning in warnings] if isinstance(warnings, list) else []
