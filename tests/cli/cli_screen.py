"""A terminal of a chosen width for a command, and what a person sees on it in the end.

It understands what programs of ours write: carriage returns, cursor movements up, erasing, colours (which are left
out). Snapshots are text files beside the tests; `IKECLIENT_SNAPSHOTS=write` makes them anew, to be read before they are
committed.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SNAPSHOTS = Path(__file__).parent / "snapshots"
_CONTROL = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\x1b[()][A-Z0-9]|(.)", re.DOTALL)
SECONDS = 60.0


class Screen:
    """A pseudo-terminal of `columns` in which `command` runs."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], columns: int, rows: int = 50) -> None:
        self.columns = columns
        self.data = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.execve(command[0], list(command), {"TERM": "xterm", **environment})

    def resize(self, columns: int, rows: int = 50) -> None:
        """Make the window another one, as a person's mouse does."""
        self.columns = columns
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def read(self, mark: str | None = None, after: int = 0) -> str:
        """Read until `mark` was written behind the first `after` bytes, or to the end; returns everything so far."""
        deadline = time.monotonic() + SECONDS
        while mark is None or mark.encode() not in self.data[after:]:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"not written: {mark!r}\n{self.data.decode(errors='replace')}"
            try:
                piece = os.read(self.master, 65536)
            except OSError:  # how a pseudo-terminal ends
                piece = b""
            if not piece:
                assert mark is None, f"not written: {mark!r}\n{self.data.decode(errors='replace')}"
                break
            self.data += piece
        return self.data.decode()

    def wait(self) -> int:
        """Read to the end and return the exit code."""
        self.read()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        """End what still runs."""
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.master)

    def text(self) -> str:
        """Return what stands on the screen, without colours and trailing spaces."""
        return shown(self.data.decode(), self.columns)


def shown(data: str, columns: int) -> str:
    """Return what a terminal of `columns` shows of `data`; it has as many rows as it needs."""
    rows: list[list[str]] = [[]]
    row = column = 0

    def put(letter: str) -> None:
        nonlocal row, column
        if column >= columns:
            newline()
            column = 0
        line = rows[row]
        line.extend(" " * (column - len(line)))
        line[column : column + 1] = [letter]
        column += 1

    def newline() -> None:
        nonlocal row
        row += 1
        if row == len(rows):
            rows.append([])

    for part in _CONTROL.finditer(data):
        number, letter, plain = part[1], part[2], part[3]
        count = int(number) if number and number.isdecimal() else 0
        match letter or plain:
            case "K" if letter:
                rows[row] = [] if count == 2 else rows[row][:column]
            case "A" if letter:
                row = max(0, row - (count or 1))
            case "J" if letter:
                rows[row] = rows[row][:column]
                del rows[row + 1 :]
            case "\r":
                column = 0
            case "\n":
                newline()
            case "\x07":
                pass
            case _ if plain:
                put(plain)
    return "\n".join("".join(line).rstrip() for line in rows).rstrip() + "\n"


def matches_snapshot(text: str, name: str) -> bool:
    """Compare with the snapshot `name`, or write it if that was asked for."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("IKECLIENT_SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
    return True
