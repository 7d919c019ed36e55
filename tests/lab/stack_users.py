"""An ordinary user whose program has the inner end of a tunnel (`stack_user`), as tests talk with it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lab.client import REPOSITORY
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_DNS
from lab.person import Person
from lab.servers import DOMAIN
from lab.world import Lab

GRANT = Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,), settings={"delete_rekeyed_delay": 1})
PROGRAM = str(REPOSITORY / "tests" / "lab" / "stack_user.py")


class User:
    """A running `stack_user`: what it was told, and what it was asked."""

    def __init__(self, person: Person) -> None:
        self.events: list[dict[str, Any]] = []
        self._results: dict[int, dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        self._noise: list[bytes] = []
        pipe = subprocess.PIPE
        command = (*person.ordinary, sys.executable, PROGRAM, "work")
        self.process = person.machine.start(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=person.environment)
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._complain)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            if "number" in message:
                self._results[message["number"]] = message
            else:
                self.events.append(message)

    def _complain(self) -> None:
        assert self.process.stderr is not None
        self._noise += self.process.stderr

    def wait(self, name: str, count: int = 1) -> dict[str, Any]:
        """The latest event of that name, when there have been as many."""

        def there() -> dict[str, Any] | None:
            found = [event for event in self.events if event.get("event") == name]
            self._check()
            return found[-1] if len(found) >= count else None

        return wait_for(there, timeout=60, what=f"{name}: {self.events}")

    def _check(self) -> None:
        if self.process.poll() is not None:
            pytest.fail(f"it ended with {self.process.returncode}: {self._noise} {self.events}")

    def begin(self, word: str, *arguments: object) -> int:
        """Ask for something; returns its number."""
        assert self.process.stdin is not None
        number = next(self._numbers)
        self.process.stdin.write(json.dumps([number, word, *arguments]).encode() + b"\n")
        self.process.stdin.flush()
        return number

    def result(self, number: int) -> Any:
        """What came of it."""

        def there() -> dict[str, Any] | None:
            self._check()
            return self._results.get(number)

        found = wait_for(there, timeout=510, what=f"the answer to {number}: {self.events}")
        return found["result"] if "result" in found else OSError(found["errno"], found["error"])

    def is_done(self, number: int) -> bool:
        """Whether something has come of it."""
        self._check()
        return number in self._results

    def ask(self, word: str, *arguments: object) -> Any:
        """Ask for something and wait for it."""
        return self.result(self.begin(word, *arguments))

    def close(self) -> int:
        """Let it end; returns its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(30)
        for reader in self._readers:
            reader.join(10)
        return code


@contextmanager
def using(lab: Lab, offer: Offer = GRANT, **profile: dict[str, object]) -> Iterator[tuple[User, Person]]:
    """A connected user without a device node."""
    lab.gateway.serve(offer)
    person = Person(lab)
    person.write_profile(profile)
    person.machine.hide("/dev/net")
    user = User(person)
    try:
        user.wait("connected")
        yield user, person
        assert user.close() == 0
        assert not [event for event in user.events if event["event"] == "ended"]
    finally:
        user.process.kill()
