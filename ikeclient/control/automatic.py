"""What `ikeclient watch` has decided for a tunnel, as a file that `status` reads beside the tunnel's socket.

A tunnel that is down by decision has no process to ask. The file names the watching process, and counts while it lives.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Container, Iterator
from pathlib import Path

from ikeclient.control import protocol
from ikeclient.control.directory import prepare
from ikeclient.control.events import timestamp
from ikeclient.control.status import WatchStatus
from ikeclient.errors import IkeclientError
from ikeclient.nofollow import open_regular

SUFFIX = ".when.json"
_LARGEST = 1 << 14
_START_TIME = 19  # of a process in clock ticks, among what follows its name in proc_pid_stat(5)


def write(directory: Path, name: str, action: str, reason: str, trouble: str | None = None) -> None:
    """Keep a decision of this process; a directory that cannot be written costs it."""
    pid = os.getpid()
    status = WatchStatus(action=action, reason=reason, trouble=trouble, since=timestamp(), pid=pid)
    content = json.dumps(status.to_json() | {"started": _started(pid)})
    temporary = directory / f".{name}{SUFFIX}.new"
    with contextlib.suppress(OSError, IkeclientError):
        prepare(directory)
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(directory / f"{name}{SUFFIX}")


def remove(directory: Path, name: str) -> None:
    """Forget a decision."""
    with contextlib.suppress(OSError):
        (directory / f"{name}{SUFFIX}").unlink()


def decisions(directory: Path, *, without: Container[str] = ()) -> Iterator[tuple[str, WatchStatus]]:
    """Yield the names of tunnels, but for those `without`, with the decisions of processes that live.

    Never raises, and waits for nobody: root looks into directories of users, who can put anything there.
    """
    paths: list[Path] = []
    with contextlib.suppress(OSError):
        paths = sorted(directory.glob(f"*{SUFFIX}"))
    for path in paths:
        name = path.name.removesuffix(SUFFIX)
        if protocol.is_name(name) and name not in without and (status := decision(directory, name)) is not None:
            yield name, status


def decision(directory: Path, name: str) -> WatchStatus | None:
    """Return the decision for one tunnel if the process lives that made it. Never raises, and waits for nobody."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        values = json.loads(_content(directory / f"{name}{SUFFIX}"))
        if isinstance(values, dict):
            status = WatchStatus.from_json(values)
            if status.action is not None and _started(status.pid) == values.get("started"):
                return status
    return None


def _started(pid: int) -> int:
    """Return when a process was started, which tells it from a later one with its ID. Raises OSError."""
    if pid <= 0:
        raise ProcessLookupError
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b") ")[2].split()[_START_TIME])


def _content(path: Path) -> bytes:
    """Return what an ordinary file holds. Raises OSError for anything else."""
    with open_regular(path) as file:
        return file.read(_LARGEST)
