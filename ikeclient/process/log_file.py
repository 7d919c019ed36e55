"""Where a detached tunnel, and the log of every tunnel, writes lines: small, private, and never in the tunnel's way."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from ikeclient.control.directory import prepare
from ikeclient.control.events import timestamp
from ikeclient.errors import IkeclientError
from ikeclient.wire.text import printable

MAXIMUM_SIZE = 512 * 1024  # bytes; the runtime directory is in memory
_CUT = b"(what came before was cut off: the log was full)\n"
KEPT = 2  # the verbosity of what is kept in a tunnel's own log
LONGEST = 1024  # characters of what a line quotes
PROTOCOL = "ikeclient.ike"  # the log of the protocol's messages and decisions
_PROTOCOL_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG, logging.DEBUG)
_LEVELS = (logging.WARNING, logging.WARNING, logging.INFO, logging.DEBUG)


Place = tuple[str, int, str]  # a file, a line of it, and the function that it is in
Line = Callable[[str, Place], None]


class CappedFile:
    """A log file of mode 0600 that keeps its later half when it is full.

    It stays open, because a tunnel that has given up its rights could not open it again: nothing is renamed. A full or
    read-only disk costs lines, nothing else.
    """

    def __init__(self, path: Path, maximum: int = MAXIMUM_SIZE) -> None:
        self.path = path
        self._maximum = maximum
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            self._descriptor = os.open(path, flags, 0o600)
            os.fchmod(self._descriptor, 0o600)

    def line(self, text: str) -> None:
        """Append one line. Never raises."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            data = text.encode("utf-8", "backslashreplace") + b"\n"
            size = os.fstat(self._descriptor).st_size
            if size + len(data) > self._maximum:
                self._halve(self._descriptor, size)
            os.write(self._descriptor, data[: self._maximum // 2])

    def _halve(self, descriptor: int, size: int) -> None:
        later = os.pread(descriptor, self._maximum // 2, max(0, size - self._maximum // 2))
        os.ftruncate(descriptor, 0)
        os.write(descriptor, _CUT + later.partition(b"\n")[2])

    def log(self, text: str, _: Place | None = None) -> None:
        """Append one line with the time. Never raises."""
        self.line(f"{timestamp()}  {text}")


class _Lines(logging.Handler):
    def __init__(self, line: Line, verbosity: int) -> None:
        super().__init__()
        self._line = line
        self._protocol, self._others = levels(verbosity)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the verbosity asks for the record."""
        return record.levelno >= (self._protocol if record.name == PROTOCOL else self._others)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one harmless line. Tracebacks stay out: their messages may quote secrets."""
        with contextlib.suppress(Exception):  # a log line must never end a tunnel
            failure = f" ({record.exc_info[0].__name__})" if record.exc_info and record.exc_info[0] else ""
            origin = "ike" if record.name == PROTOCOL else f"{record.levelname.lower()}: {record.name}"
            self._line(f"{origin}: {printable(record.getMessage(), LONGEST)}{failure}", _place(record))


def _place(record: logging.LogRecord) -> Place:
    return record.pathname, record.lineno, record.funcName


def levels(verbosity: int) -> tuple[int, int]:
    """Return from which level on the log of the protocol is written, and all others."""
    most = min(verbosity, len(_LEVELS) - 1)
    return _PROTOCOL_LEVELS[most], _LEVELS[most]


def log_to(line: Line, verbosity: int, kept: Line | None = None) -> None:
    """Send the log to `line`: warnings, with -v the protocol, with -vv its details, with -vvv everything.

    `kept` gets the protocol with its details whatever the verbosity, for a report of a fault.
    """
    root = logging.getLogger()
    root.handlers[:] = [_Lines(line, verbosity)]
    if kept is not None:
        root.handlers.append(_Lines(kept, max(verbosity, KEPT)))
    protocol, others = levels(max(verbosity, KEPT) if kept is not None else verbosity)
    root.setLevel(others)
    logging.getLogger(PROTOCOL).setLevel(protocol)
    logging.raiseExceptions = False


def open_log(directory: Path, name: str) -> CappedFile:
    """Open the log of the tunnel `name`, an empty one; if that cannot be, its lines are lost."""
    path = directory / f"{name}.log"
    with contextlib.suppress(OSError, IkeclientError):
        prepare(directory)
        path.unlink(missing_ok=True)
    return CappedFile(path)
