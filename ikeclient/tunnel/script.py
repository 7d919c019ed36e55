"""Code that waits without an event loop: a generator that yields what it waits for.

    found = yield Wait(lambda: lookup.answered)                  # goes on once that is true
    in_time = yield Wait(lambda: link.up, deadline=now + 3.0)    # false if the time is over and it is not true

Whoever runs a `Task` calls `run` after everything that happens, and at its `deadline`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from ikeclient.lazy_dataclass import dataclass

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Wait:
    """A condition to wait for, which is checked after everything that happens, until `deadline`; None: for ever."""

    condition: Callable[[], bool]
    deadline: float | None = None


Script = Generator[Wait, bool, Result]


def pause(until: float) -> Wait:
    """Wait for a moment, whatever happens."""
    return Wait(lambda: False, until)


class Task:
    """One script on its way. `error` is what it raised."""

    def __init__(self, script: Script[None]) -> None:
        self.done = False
        self.error: Exception | None = None
        self._script = script
        self._wait: Wait | None = None
        self._running = False

    @property
    def deadline(self) -> float | None:
        """When `run` is to be called at the latest."""
        return self._wait.deadline if self._wait is not None and not self.done else None

    def run(self, now: float) -> bool:
        """Go on as far as possible; whether it went on at all."""
        went_on = False
        while not self.done and not self._running:
            answer = None
            if (wait := self._wait) is not None:
                answer = wait.condition()
                if not answer and (wait.deadline is None or now < wait.deadline):
                    break
            went_on = True
            self._step(answer)
        return went_on

    def _step(self, answer: bool | None) -> None:
        self._running = True
        try:
            self._wait = self._script.send(answer) if answer is not None else next(self._script)
        except StopIteration:
            self.done = True
        except Exception as error:
            self.done, self.error = True, error
        finally:
            self._running = False
        if self.done:
            self._script.close()

    def cancel(self) -> None:
        """Go no further; a script that cancels itself ends where it waits next."""
        self.done = True
        if not self._running:
            self._script.close()
