"""Where a detached tunnel, and the log of every tunnel, writes lines: small, private, and never in the tunnel's way."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from ikeclient.wire.text import printable

MAXIMUM_SIZE = 1024 * 1024
LONGEST = 1024  # characters of what a line quotes
_LEVELS = (logging.WARNING, logging.WARNING, logging.INFO, logging.DEBUG)


class CappedFile:
    """A log file of mode 0600 that starts over when it is full. A full or read-only disk costs lines, nothing else."""

    def __init__(self, path: Path, maximum: int = MAXIMUM_SIZE) -> None:
        self.path = path
        self._maximum = maximum
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            self._descriptor = os.open(path, flags, 0o600)
            os.fchmod(self._descriptor, 0o600)

    def line(self, text: str) -> None:
        """Append one line. Never raises."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            data = text.encode("utf-8", "backslashreplace") + b"\n"
            if os.fstat(self._descriptor).st_size + len(data) > self._maximum:
                os.ftruncate(self._descriptor, 0)
                os.write(self._descriptor, b"(the log was full and starts over)\n")
            os.write(self._descriptor, data[: self._maximum // 2])


class _Lines(logging.Handler):
    def __init__(self, line: Callable[[str], None]) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one harmless line. Tracebacks stay out: their messages may quote secrets."""
        with contextlib.suppress(Exception):  # a log line must never end a tunnel
            failure = f" ({record.exc_info[0].__name__})" if record.exc_info and record.exc_info[0] else ""
            self._line(f"{record.levelname.lower()}: {record.name}: {printable(record.getMessage(), LONGEST)}{failure}")


def log_to(line: Callable[[str], None], verbosity: int) -> None:
    """Send the log to `line`: warnings, with -vv information, with -vvv everything."""
    root = logging.getLogger()
    root.handlers[:] = [_Lines(line)]
    root.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])
    logging.raiseExceptions = False
