"""What was changed on this machine, written down before it is changed, so that it can be undone after any death.

One JSON file per tunnel. It holds steps (see `steps`), never commands or paths: whoever could write to it could at most
have one of our own kinds of change undone. A file that is not exactly of this form is not acted on but moved aside.
The file names its owner by process ID, start time and boot, because process IDs come again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, Protocol

from ikeclient.errors import PlatformError
from ikeclient.net.interfaces import interface_name, tunnel_name
from ikeclient.net.steps import (
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

FORMAT = 1
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
    """The process whose changes a journal tells: `start` in clock ticks since boot, `boot` the kernel's boot ID."""

    name: str
    pid: int
    start: int
    boot: str

    def is_alive(self) -> bool:
        """Whether that process still runs."""
        return self.boot == _boot() and _start_time(self.pid) == self.start


def this_process(name: str) -> Owner:
    """The owner to write into our own journal."""
    return Owner(name=tunnel_name(name), pid=os.getpid(), start=_start_time(os.getpid()) or 0, boot=_boot())


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


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
    "link": _maybe(_text),
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
    if not isinstance(data, dict):
        raise JournalError("not a step")
    kind = KINDS.get(str(data.get("step")))
    if kind is None or set(data) != {"step", *(f.name for f in fields(kind))}:
        raise JournalError(f"no such step: {str(data)[:200]}")
    if data.get("interface", "") is None and kind is not Route:
        raise JournalError("a step without its interface")
    try:
        return kind(**{f.name: _FIELDS[f.name](data[f.name]) for f in fields(kind)})
    except ValueError as error:
        raise JournalError(str(error)) from error


class JournalStore(Protocol):
    """Where the steps to undo are kept."""

    def write(self, steps: Sequence[Step]) -> None:
        """Replace what is kept; durable when it returns. Raises PlatformError, and the old content is then kept."""


class Journal:
    """The journal of this process for one tunnel, in `directory`. No steps to undo: no file."""

    def __init__(self, directory: Path, filename: str, owner: Owner) -> None:
        self._directory = directory
        self._filename = filename
        self._owner = owner

    def write(self, steps: Sequence[Step]) -> None:
        """Replace the file; durable when it returns. Raises PlatformError, and the old file is then still there."""
        document = {
            "format": FORMAT,
            **{f.name: getattr(self._owner, f.name) for f in fields(self._owner)},
            "steps": [encode(step) for step in steps],
        }
        try:
            with open_directory(self._directory, create=bool(steps)) as directory:
                if steps:
                    _replace(directory, self._filename, json.dumps(document).encode("ascii"))
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


@contextlib.contextmanager
def open_directory(path: Path, *, create: bool = False) -> Iterator[int]:
    """A descriptor of a directory that only this user can change; raises OSError or PlatformError."""
    if create:
        path.mkdir(mode=0o700, exist_ok=True)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
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


def _replace(directory: int, filename: str, data: bytes) -> None:
    temporary = f".{filename}.new"
    remove(directory, temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, filename, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        remove(directory, temporary)
        raise
    os.fsync(directory)


def remove(directory: int, filename: str) -> None:
    """Delete a file that need not exist."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(filename, dir_fd=directory)


def load(directory: int, filename: str) -> tuple[Owner, list[Step]]:
    """Read a journal. Raises JournalError when it is malformed or not ours, OSError when it cannot be read."""
    descriptor = os.open(filename, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_size > LARGEST:
            raise JournalError("not a file of ours")
        data = file.read(LARGEST)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise JournalError("not JSON") from error
    match document:
        case {"format": 1, "name": name, "pid": int(pid), "start": int(start), "boot": str(boot), "steps": list(steps)}:
            if len(document) != 6:
                raise JournalError("unknown fields")
            try:
                owner = Owner(name=tunnel_name(name), pid=_integer(1, 2**31)(pid), start=start, boot=boot)
            except ValueError as error:
                raise JournalError(str(error)) from error
            return owner, [decode(step) for step in steps]
    raise JournalError("not a journal of this version")
