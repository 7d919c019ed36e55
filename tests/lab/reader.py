"""A reader of the documents at a terminal: types what stands there, answers what is asked, and looks at `$?`."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lab.booted import PATH, BootedMachine
from lab.machines import LabError

READY = re.compile(r"@(\d+)@ \Z")  # the shell's prompt, with the exit status of what was typed before
MORE = re.compile(r"@more@ \Z")
RUNS = re.compile(r"Ctrl-C disconnects|listening: [^\n]*\n")  # what says that a command in the foreground is up
CTRL_C = "\x03"
INTERRUPTED = 130
_ESCAPES = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a typed line did: `text` is what the terminal showed, `expected` the exit status of one that is well."""

    line: str
    code: int
    expected: int
    text: str


class Reader:
    """A person's shell on a booted machine. `answers` has what is typed at a prompt that matches a pattern."""

    def __init__(
        self,
        machine: BootedMachine,
        user: str,
        home: str,
        answers: Mapping[str, str],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._answers = {re.compile(pattern + r"\Z"): answer for pattern, answer in answers.items()}
        names = {"HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/bash"}
        prompts = {"PS1": "@$?@ ", "PS2": "@more@ "}
        own = {"PATH": PATH, "TERM": "xterm", "LANG": "C.UTF-8", **names, **prompts, **(variables or {})}
        become = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user != "root" else []
        shell = ["env", f"--chdir={home}", "bash", "--noprofile", "--norc", "--noediting", "-i"]
        words = machine.command("setsid", "--ctty", "--wait", *become, *shell, variables=own)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        self._process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.shown = ""
        self._seen = self._began = 0
        self._line = ""
        self._wait_for(READY)

    def type(self, text: str, *, stays: bool = False, timeout: float = 60.0) -> list[Done]:
        """Type lines, each when the shell is ready for it. What goes on in the foreground is ended with Ctrl-C.

        With `stays` the last of them goes on when it says that it is up.
        """
        lines = text.splitlines()
        done: list[Done] = []
        started, begun = len(self.shown), ""
        for number, line in enumerate(lines):
            begun += ("\n" if begun else "") + line
            expected = self._press(line + "\n", stays=stays and number == len(lines) - 1, timeout=timeout)
            if match := READY.search(self.shown):
                shown = self.shown[started : match.start()]
                done.append(Done(line=begun, code=int(match[1]), expected=expected, text=shown))
                started, begun = len(self.shown), ""
        return done

    def start(self, line: str) -> None:
        """Type a line whose end is waited for with `finish`."""
        self._line = line
        self._began = len(self.shown)
        os.write(self._master, f"{line}\n".encode())

    def finish(self, timeout: float = 120.0) -> Done:
        """Wait for the end of what was started."""
        self._wait_for(READY, timeout=timeout)
        match = READY.search(self.shown)
        assert match is not None
        return Done(line=self._line, code=int(match[1]), expected=0, text=self.shown[self._began : match.start()])

    def now(self) -> str:
        """Return what the terminal shows by now."""
        while select.select([self._master], [], [], 0)[0]:
            self.shown += os.read(self._master, 65536).decode("utf-8", "replace")
        return self.shown

    def interrupt(self) -> Done:
        """Press Ctrl-C, and wait for the prompt."""
        started = len(self.shown)
        self._press(CTRL_C)
        match = READY.search(self.shown)
        assert match is not None
        return Done(line="Ctrl-C", code=int(match[1]), expected=INTERRUPTED, text=self.shown[started : match.start()])

    def _press(self, keys: str, *, stays: bool = False, timeout: float = 60.0) -> int:
        """Type, and answer until the shell wants more; returns the exit status that is to be expected."""
        os.write(self._master, keys.encode())
        expected = 0
        while True:
            found = self._wait_for(READY, MORE, RUNS, *self._answers, timeout=timeout)
            if found in (READY, MORE) or (found is RUNS and stays):
                return expected
            if found is RUNS:
                expected = INTERRUPTED
                os.write(self._master, CTRL_C.encode())
            else:
                os.write(self._master, f"{self._answers[found]}\n".encode())

    def _wait_for(self, *patterns: re.Pattern[str], timeout: float = 60.0) -> re.Pattern[str]:
        deadline = time.monotonic() + timeout
        while True:
            new = self.shown[self._seen :]
            for pattern in patterns:
                if pattern.search(new):
                    self._seen = len(self.shown)
                    return pattern
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            try:
                data = os.read(self._master, 65536) if ready else b""
            except OSError:  # how a pseudo-terminal ends
                data = b""
            if not data:
                raise LabError(f"the terminal stands still or has ended:\n{self.shown}")
            self.shown += _ESCAPES.sub("", data.decode("utf-8", "replace")).replace("\r", "")

    def close(self) -> None:
        """Hang up."""
        self._process.kill()
        self._process.wait(timeout=20)
        os.close(self._master)
