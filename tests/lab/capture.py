"""Packets as they passed an interface, recorded by tcpdump and read by tshark."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Self

from lab.machines import LabError, Machine, host_run, stat_fields, wait_for


class Capture:
    """A recording of an interface of a machine; a context manager that begins and ends it.

    `expression` is tcpdump's language. The recording is whole when the `with` block has ended. The kernel has 2 MiB of
    places of `longest` bytes for packets that wait to be written, and loses what comes when all are taken.
    """

    def __init__(
        self, machine: Machine, interface: str, path: Path, *, expression: str = "", longest: int = 1 << 18
    ) -> None:
        self.path = path
        size = ("-s", str(longest))
        options = ("-i", interface, "-Z", "root", "-U", "--immediate-mode", "-n", *size, "-w", str(path))
        self._command = ["tcpdump", *options, *([expression] if expression else [])]
        self._machine = machine
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = self._machine.start(*self._command, stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        if b"listening" not in line:
            raise LabError(f"tcpdump: {line!r}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        wait_for(self._asleep, timeout=10, what="tcpdump to have written every packet", interval=0.005)
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=10)

    def _asleep(self) -> bool:
        """Whether tcpdump waits for packets: a signal would have it leave those that it has not read yet."""
        assert self._process is not None
        return stat_fields(self._process.pid)[0] in "SZ"

    def packets(self, display_filter: str, *fields: str, options: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        """The `fields` of every packet that matches tshark's `display_filter`; a missing field is an empty string."""
        wanted = [part for name in fields or ("frame.number",) for part in ("-e", name)]
        arguments = ("-n", *options, "-Y", display_filter, "-T", "fields", *wanted)
        lines = host_run("tshark", "-r", str(self.path), *arguments).stdout.splitlines()
        return [tuple(line.split("\t")) for line in lines]

    def count(self, display_filter: str) -> int:
        """How many packets match tshark's `display_filter`."""
        return len(self.packets(display_filter))
