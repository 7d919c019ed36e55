"""What was changed on this machine, written down before it is changed, so that it can be undone after any death.

One JSON file per tunnel. It holds steps (see `steps`), never commands or paths: whoever could write to it could at most
have one of our own kinds of change undone. A file that is not exactly of this form is not acted on but moved aside.
The file names its owner by process ID, start time and boot, because process IDs come again, and says in which PID
namespace that number counts and which network namespace the steps are about. Elsewhere the number says nothing. So the
file is also locked for as long as its writer lives (flock(2)), which the kernel tells in every namespace.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ikeclient import nofollow
from ikeclient.errors import PlatformError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.changes import surroundings
from ikeclient.net.changes.steps import (
    KERNEL,
    OURS,
    Address,
    Link,
    LocalRuleLast,
    ResolvConfFile,
    ResolvconfRecord,
    ResolvedLink,
    Route,
    Rule,
    Step,
)
from ikeclient.net.model import interface_name, tunnel_name

FORMAT = 2
_LOCK = ".repair.lock"
SUFFIX = ".undo.json"
LARGEST = 4 << 20  # bytes of a journal that are still read

KINDS: dict[str, type[Step]] = {
    "link": Link,
    "address": Address,
    "route": Route,
    "rule": Rule,
    "local-rule": LocalRuleLast,
    "resolved": ResolvedLink,
    "resolvconf": ResolvconfRecord,
    "resolv.conf": ResolvConfFile,
}
_KIND_OF = {kind: name for name, kind in KINDS.items()}


class JournalError(ValueError):
    """A journal that is not of the form this module writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process whose changes a journal tells.

    `start` is in clock ticks since boot, `boot` the kernel's boot ID. `pids` is the PID namespace that `pid` counts in
    (empty in a journal of format 1: the present one; None: unknown), `network` the network namespace of the steps.
    """

    name: str
    pid: int
    start: int
    boot: str
    pids: str | None = ""
    network: str = ""

    def is_alive(self, *, locked: bool) -> bool:
        """Whether that process still runs; `locked` tells whether anybody holds the journal's lock."""
        if self.boot != surroundings.boot():
            return False
        if self.pids == "" or (self.pids is not None and self.pids == surroundings.pid_namespace()):
            return _start_time(self.pid) == self.start
        return locked

    def is_of_this_network(self) -> bool:
        """Whether the steps are about the network namespace of the calling thread."""
        return self.network in ("", surroundings.network_namespace())


def this_process(name: str) -> Owner:
    """The owner to write into our own journal."""
    return Owner(
        name=tunnel_name(name),
        pid=os.getpid(),
        start=_start_time(os.getpid()) or 0,
        boot=surroundings.boot(),
        pids=surroundings.pid_namespace(),
        network=surroundings.network_namespace(),
    )


def _start_time(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *rest = text[text.rindex(")") + 2 :].split()  # the name before it may contain anything
    return None if state in ("Z", "X") else int(rest[18])  # field 22 of proc(5)


def _integer(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise JournalError(f"number out of range: {value!r}")
        return value

    return check


def _one_of(*choices: object) -> Callable[[object], object]:
    def check(value: object) -> object:
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise JournalError(f"impossible value: {value!r}")
        return value

    return check


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise JournalError(f"not a text: {value!r}")
    value.encode()  # a lone surrogate has no bytes, and what is written is a file
    return value


def _path(value: object) -> str:
    if not isinstance(value, str) or not value or b"\0" in os.fsencode(value):
        raise JournalError(f"not a path: {value!r}")
    return value


def _maybe(check: Callable[[Any], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else check(value)


def _tuple_of(check: Callable[[str], object]) -> Callable[[object], object]:
    def check_all(value: object) -> object:
        if not isinstance(value, list):
            raise JournalError(f"not a list: {value!r}")
        return tuple(check(_text(item)) for item in value)

    return check_all


_FIELDS: dict[str, Callable[[object], Any]] = {
    "interface": _maybe(interface_name),
    "input_interface": _maybe(interface_name),
    "index": _integer(0, 2**31 - 1),
    "mtu": _integer(68, 65535),
    "old_mtu": _integer(0, 2**31 - 1),
    "was_up": _one_of(True, False),
    "default_route": _one_of(True, False),
    "exclusive": _one_of(True, False),
    "version": _one_of(4, 6),
    "kind": _one_of("unicast", "throw", "unreachable"),
    "protocol": _one_of(OURS, KERNEL),
    "table": _integer(0, 2**32 - 1),
    "priority": _integer(0, 32765),
    "mark": _integer(0, 2**32 - 1),
    "source_port": _integer(0, 65535),
    "address": lambda value: ip_interface(_text(value)),
    "destination": _maybe(lambda value: ip_network(_text(value))),
    "source": _maybe(lambda value: ip_address(_text(value))),
    "servers": _tuple_of(ip_address),
    "domains": _tuple_of(_text),
    "text": _text,
    "link": _maybe(_path),
    "content": _maybe(lambda value: base64.b64decode(_text(value), validate=True)),
    "mode": _integer(0, 0o777),
    "uid": _integer(0, 2**32 - 2),
    "gid": _integer(0, 2**32 - 2),
}


def _plain(value: object) -> object:
    match value:
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case tuple():
            return [_plain(item) for item in value]
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)  # an address or a network


def encode(step: Step) -> dict[str, object]:
    """`step` as JSON data."""
    return {"step": _KIND_OF[type(step)], **{f.name: _plain(getattr(step, f.name)) for f in fields(step)}}


def decode(data: object) -> Step:
    """The step that `encode` made `data` from; raises JournalError for anything else."""
    try:
        return _decode(data)
    except RecursionError:  # to say what it is
        raise JournalError("not a step, but lists in lists") from None


def _decode(data: object) -> Step:
    if not isinstance(data, dict):
        raise JournalError("not a step")
    kind = KINDS.get(str(data.get("step")))
    if kind is None or set(data) != {"step", *(f.name for f in fields(kind))}:
        raise JournalError(f"no such step: {str(data)[:200]}")
    if data.get("interface", "") is None and kind is not Route:
        raise JournalError("a step without its interface")
    if data.get("destination", "") is None and kind is Route:
        raise JournalError("a route that leads nowhere")
    try:
        return kind(**{f.name: _FIELDS[f.name](data[f.name]) for f in fields(kind)})
    except ValueError as error:
        raise JournalError(str(error)) from error


class JournalStore(Protocol):
    """Where the steps to undo are kept."""

    def write(self, steps: Sequence[Step]) -> None:
        """Replace what is kept; durable when it returns. Raises PlatformError, and the old content is then kept."""


class Journal:
    """The journal of this process for one tunnel, in `directory`. No steps to undo: no file.

    The file is locked until this object is gone.
    """

    def __init__(self, directory: Path, filename: str, owner: Owner) -> None:
        self._directory = directory
        self._filename = filename
        self._owner = owner
        self._lock = -1

    def write(self, steps: Sequence[Step]) -> None:
        """Replace the file; durable when it returns. Raises PlatformError, and the old file is then still there."""
        document = {
            "format": FORMAT,
            **{f.name: getattr(self._owner, f.name) for f in fields(self._owner)},
            "steps": [encode(step) for step in steps],
        }
        lock = -1
        try:
            with open_directory(self._directory, create=bool(steps)) as directory:
                if steps:
                    lock = _replace(directory, self._filename, json.dumps(document).encode("ascii"))
                else:
                    remove(directory, self._filename)
        except OSError as error:
            if not steps and isinstance(error, FileNotFoundError):
                return
            raise PlatformError(
                f"cannot write {self._directory / self._filename}, which is needed to undo changes after a crash",
                reason=error.strerror or str(error),
                hint="free some space there, or make the directory writable for this user",
            ) from error
        self._unlock()
        self._lock = lock

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __del__(self) -> None:
        self._unlock()


@contextlib.contextmanager
def open_directory(path: Path, *, create: bool = False) -> Iterator[int]:
    """A descriptor of a directory that only this user can change; raises OSError or PlatformError."""
    if create:
        path.mkdir(mode=0o700, exist_ok=True)
    directory = nofollow.open_directory(path)
    try:
        status = os.fstat(directory)
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PlatformError(
                f"{path} belongs to somebody else, or others can write to it",
                hint=f"remove {path} and try again",
            )
        yield directory
    finally:
        os.close(directory)


@contextlib.contextmanager
def alone_in(directory: int) -> Iterator[None]:
    """Hold the lock of a directory for the block, once others have given it up. Raises OSError.

    It is on a file that others may not open: the directory itself they may, and could lock it for ever.
    """
    descriptor = nofollow.take_lock(_LOCK, directory)
    try:
        yield
    finally:
        try:
            remove(directory, _LOCK)
        finally:
            os.close(descriptor)


def _replace(directory: int, filename: str, data: bytes) -> int:
    """Put a new file in the place of one, which is locked from its first moment; a descriptor that holds the lock."""
    temporary = f".{filename}.new"
    remove(directory, temporary)
    created = nofollow.create_file(temporary, directory)
    lock = -1
    try:
        with created as file:
            # Not the same descriptor: one that may write keeps the file system from becoming read-only.
            lock = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, filename, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except BaseException:
        if lock >= 0:
            os.close(lock)
        remove(directory, temporary)
        raise
    return lock


def remove(directory: int, filename: str) -> None:
    """Delete a file that need not exist."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(filename, dir_fd=directory)


class Found(NamedTuple):
    """A journal that was read: whose it is, what it holds, and whether that process still runs."""

    owner: Owner
    steps: list[Step]
    alive: bool


def load(directory: int, filename: str) -> Found:
    """Read a journal. Raises JournalError when it is malformed or not ours, OSError when it cannot be read."""
    with nofollow.open_regular(filename, directory) as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_size > LARGEST:
            raise JournalError("not a file of ours")
        owner, steps = _parse(file.read(LARGEST))
        return Found(owner, steps, owner.is_alive(locked=_is_locked(file.fileno())))


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False  # closing gives it back


def _parse(data: bytes) -> tuple[Owner, list[Step]]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise JournalError("not JSON") from error
    match document:
        case {"format": 1, "name": name, "pid": int(pid), "start": int(start), "boot": str(boot), "steps": list(steps)}:
            pids, network, size = "", "", 6
        case {
            "format": 2,
            "name": name,
            "pid": int(pid),
            "start": int(start),
            "boot": str(boot),
            "pids": str() | None as pids,
            "network": str(network),
            "steps": list(steps),
        }:
            size = 8
        case _:
            raise JournalError("not a journal of this version")
    if len(document) != size:
        raise JournalError("unknown fields")
    try:
        name, pid = tunnel_name(name), _integer(1, 2**31)(pid)
    except ValueError as error:
        raise JournalError(str(error)) from error
    owner = Owner(name=name, pid=pid, start=start, boot=boot, pids=pids, network=network)
    return owner, [decode(step) for step in steps]
