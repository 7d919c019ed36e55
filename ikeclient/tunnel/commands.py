"""What a tunnel asks of its driver, and is told the outcome of later.

What has no outcome to wait for (a datagram, a change of the machine) goes through `Ports` at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ikeclient.errors import IkeclientError
from ikeclient.tunnel.resolve import Known


class Lookup:
    """Find the addresses of `hosts`; the driver calls `Tunnel.resolved`."""

    def __init__(self, hosts: Sequence[str], port: int) -> None:
        self.hosts, self.port = hosts, port
        self._answer: Known | IkeclientError | None = None

    @property
    def answered(self) -> bool:
        """Whether there is an outcome."""
        return self._answer is not None

    def answer(self, answer: Known | IkeclientError) -> None:
        """Take the outcome."""
        self._answer = answer

    def result(self) -> Known:
        """Return what was found, nothing if there is no outcome; raises the error that was the outcome."""
        if isinstance(self._answer, IkeclientError):
            raise self._answer
        return self._answer or []


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHook:
    """Run a command of the profile; the driver calls `Tunnel.hook_ended`."""

    reason: str
    command: Sequence[str]
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StopHook:
    """Stop the command that runs, of which `Tunnel.hook_ended` tells as well."""


Command = Lookup | RunHook | StopHook
