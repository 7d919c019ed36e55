"""`ikeclient proxy` as the lab's ordinary user runs it, with the events it tells."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from lab import proxy_peers
from lab.machines import Machine, wait_for
from lab.person import Person
from lab.seccomp import refused

IN_CONTAINER = refused("docker")  # under the default profile of Docker
OUTSIDE_THE_TUNNEL = "not (udp.port == 500 or udp.port == 4500 or arp or icmpv6)"
DNS_QUERY = bytes.fromhex("1234 0100 0001 0000 0000 0000 04") + b"corp\x07example" + bytes.fromhex("00 0001 0001")


def curl(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return machine.run("curl", "-sS", "--max-time", "30", *arguments, check=False, timeout=40)


def peers(machine: Machine, *arguments: object) -> str:
    return machine.run(sys.executable, proxy_peers.__file__, *map(str, arguments), timeout=90).stdout.strip()


class Proxy:
    """A running `ikeclient proxy work` of the lab's person, with the events it tells."""

    def __init__(self, person: Person, *options: str, prefix: Sequence[str] = ()) -> None:
        self.person = person
        self.events: list[dict[str, Any]] = []
        self.noise: list[str] = []
        self.process = person.start(
            "proxy", "work", "--log-format", "json", *(options or ("--socks", "0", "--http", "0")), prefix=prefix
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.events.append(json.loads(line))
            except ValueError:
                self.noise.append(line.decode())

    def wait(self, name: str, count: int = 1) -> dict[str, Any]:
        """The latest event of that name, when there have been as many."""

        def there() -> dict[str, Any] | None:
            found = [event for event in self.events if event.get("event") == name]
            if self.process.poll() is not None and len(found) < count and not self._reader.is_alive():
                pytest.fail(f"it ended with {self.process.returncode}: {self.noise} {self.events}")
            return found[-1] if len(found) >= count else None

        return wait_for(there, timeout=40, what=name)

    def ports(self) -> tuple[int, ...]:
        """Where it listens, when it does."""
        return tuple(int(where.split(" to ")[0].rpartition(":")[2]) for where in self.wait("listening")["listeners"])

    def ended(self) -> int:
        """Its exit code."""
        code = self.process.wait(30)
        self._reader.join(10)
        return code


@contextmanager
def running(person: Person, *options: str, prefix: Sequence[str] = ()) -> Iterator[Proxy]:
    proxy = Proxy(person, *options, prefix=prefix)
    try:
        yield proxy
    finally:
        if proxy.process.poll() is None:
            proxy.process.terminate()
        proxy.ended()
