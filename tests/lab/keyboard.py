"""A person at a terminal of the lab's client machine, with a real gateway at the other end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import Self

from lab.machines import LabError
from lab.world import Lab

CTRL_C, CTRL_D = "\x03", "\x04"
_ESCAPES = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


class Keyboard:
    """`ikeclient` with `arguments` on a terminal of its own, which is its controlling one. A context manager."""

    def __init__(self, lab: Lab, *arguments: str, columns: int = 80, **environment: str) -> None:
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self._before = termios.tcgetattr(self._slave)
        program = ("setsid", "--ctty", "--wait", sys.executable, "-m", "ikeclient", *arguments)
        variables = {**lab.client.environment, "TERM": "xterm", **environment}
        self._process = lab.network.client.start(
            *program, stdin=self._slave, stdout=self._slave, stderr=self._slave, env=variables
        )
        self.shown = ""

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def read(self, words: str, *, times: int = 1, timeout: float = 40.0) -> str:
        """Wait until the terminal has shown `words` so often; returns all of it."""
        deadline = time.monotonic() + timeout
        while self.shown.count(words) < times:
            if not self._take(max(0.0, deadline - time.monotonic())):
                raise LabError(f"not shown: {words!r}\n{self.shown}")
        return self.shown

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end and return the exit code, 128 + n for a death by signal n as a shell says it."""
        code = self._process.wait(timeout)
        while self._take(0.0):
            pass
        return code if code >= 0 else 128 - code

    def is_as_before(self) -> bool:
        """Whether the terminal is set as it was before the command."""
        return termios.tcgetattr(self._slave) == self._before

    def _take(self, timeout: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], timeout)
        if ready:
            self.shown += _ESCAPES.sub("", os.read(self._master, 65536).decode("utf-8", "replace")).replace("\r", "")
        return bool(ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        os.close(self._master)
        os.close(self._slave)
