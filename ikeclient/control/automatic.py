"""What `ikeclient watch` has decided for a tunnel, as a file that `status` reads beside the tunnel's socket.

A tunnel that is down by decision has no process to ask. The file names the watching process, and counts while it lives.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from pathlib import Path

from ikeclient.control.directory import prepare
from ikeclient.control.events import timestamp
from ikeclient.errors import IkeclientError
from ikeclient.lazy_dataclass import dataclass

SUFFIX = ".when.json"
_LARGEST = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Automatic:
    """A decision: `action` is connect, disconnect or keep, `why` a sentence, `pid` the process that watches."""

    name: str
    action: str
    why: str
    pid: int
    since: str


def write(directory: Path, name: str, action: str, why: str) -> None:
    """Keep a decision of this process; a directory that cannot be written costs it."""
    content = json.dumps({"action": action, "why": why, "pid": os.getpid(), "since": timestamp()})
    temporary = directory / f".{name}{SUFFIX}.new"
    with contextlib.suppress(OSError, IkeclientError):
        prepare(directory)
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(directory / f"{name}{SUFFIX}")


def remove(directory: Path, name: str) -> None:
    """Forget a decision."""
    with contextlib.suppress(OSError):
        (directory / f"{name}{SUFFIX}").unlink()


def decisions(directory: Path) -> list[Automatic]:
    """Return the decisions of processes that live, by name; never raises, and waits for nobody.

    Root looks into directories of users, who can put anything there.
    """
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
                values = json.loads(_content(path))
                action, why, since, pid = (values[key] for key in ("action", "why", "since", "pid"))
                if isinstance(pid, int) and pid > 0 and all(isinstance(text, str) for text in (action, why, since)):
                    with contextlib.suppress(PermissionError):  # another user's, which lives
                        os.kill(pid, 0)
                    name = path.name.removesuffix(SUFFIX)
                    found.append(Automatic(name=name, action=action, why=why, pid=pid, since=since))
    return found


def _content(path: Path) -> bytes:
    """Return what an ordinary file holds. Raises OSError for anything else."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a file")
        return file.read(_LARGEST)
