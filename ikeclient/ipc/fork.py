"""Fork a process, and let go of everything that it inherited.

Our processes are plain forks, because secrets must not travel over argv or the environment of a new program. A fork
inherits more than it should have: buffered output, the terminal, and every open descriptor of whoever started us.

Both processes share the memory that neither writes to. The garbage collector writes to every object that it looks at,
so it is told to leave alone what was there before a fork.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Collection

_FIRST = 3  # the number after the standard files
_FEWEST = 1024  # descriptors to close, however low the limit is now
_POLL_SECONDS = 0.005


def fork(life: Callable[[], int]) -> int:
    """Fork a child whose exit code is what `life` returns, 1 after an exception; return its process ID.

    Call it while there is one thread.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()  # or the child would write it a second time
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = life()
        finally:
            os._exit(code)
    return pid


def daemonise(keep: Collection[int] = ()) -> list[int]:
    """Leave the terminal, turn the standard files into /dev/null, and close every descriptor but those of `keep`.

    Returns their numbers in the same order: one that was a standard file's, because the caller had closed that, is
    another one now.
    """
    kept = close_others(keep)
    leave_terminal()
    return kept


def close_others(keep: Collection[int] = ()) -> list[int]:
    """Close every descriptor but the standard files and those of `keep`; returns their numbers as `daemonise` does.

    Standard files that the caller had closed are /dev/null then.
    """
    kept = [number if number >= _FIRST else fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FIRST) for number in keep]
    for number, moved in zip(keep, kept, strict=True):
        if number != moved:
            os.close(number)
    while (null := os.open(os.devnull, os.O_RDWR)) < _FIRST:
        os.set_inheritable(null, True)
    os.close(null)
    bounds = sorted({_FIRST - 1, *kept, max(os.sysconf("SC_OPEN_MAX"), _FEWEST)})
    for low, high in itertools.pairwise(bounds):
        os.closerange(low + 1, high)
    return kept


def leave_terminal() -> None:
    """Leave the terminal, and turn the standard files into /dev/null."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(_FIRST):
        os.dup2(null, standard)
    if null >= _FIRST:
        os.close(null)


def exit_code(pid: int, seconds: float) -> int | None:
    """Wait for a child and return its exit code, negative for a signal; None if it lives on after `seconds`.

    Raises ChildProcessError if there is no such child.
    """
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_SECONDS)


def await_end(pid: int, seconds: float) -> None:
    """Wait for a child that was told to end; kill it if it lives on after `seconds`."""
    with contextlib.suppress(ChildProcessError):
        if exit_code(pid, seconds) is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
