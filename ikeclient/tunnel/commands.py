"""What a tunnel asks of its driver, and is told the outcome of later.

What has no outcome to wait for (a datagram, a change of the machine) goes through `Ports` at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from ikeclient.crypto.pki.bundles import FetchedCertificates
from ikeclient.crypto.pki.revocation_status import PathRevocation
from ikeclient.crypto.sign.remote_key import Signature, SignatureRequest
from ikeclient.errors import IkeclientError
from ikeclient.ike.events import Closed, Need
from ikeclient.lazy_dataclass import dataclass
from ikeclient.tunnel.resolve import Known

Ask = Callable[[str], Coroutine[Any, Any, str]]  # shows a prompt, returns what is typed
Sign = Callable[[SignatureRequest], Coroutine[Any, Any, Signature]]  # raises KeyUnavailable
Answer = str | Signature | PathRevocation | FetchedCertificates | IkeclientError  # to a `Need`


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


class Retype:
    """Ask a person once more for a secret that was typed; the driver calls `Tunnel.retyped`.

    It takes the question back when it is not `open` any more.
    """

    def __init__(self, prompt: str, *, over: Callable[[], bool]) -> None:
        self.prompt = prompt
        self._over = over
        self._answer: str | IkeclientError | None = None

    @property
    def answered(self) -> bool:
        """Whether there is an outcome."""
        return self._answer is not None

    @property
    def open(self) -> bool:
        """Whether somebody waits for the answer."""
        return not self.answered and not self._over()

    def answer(self, answer: str | IkeclientError) -> None:
        """Take the outcome."""
        self._answer = answer

    def result(self) -> str | None:
        """Return what was typed, None if there is no outcome; raises the error that was the outcome."""
        if isinstance(self._answer, IkeclientError):
            raise self._answer
        return self._answer


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHook:
    """Run a command of the profile; the driver calls `Tunnel.hook_ended`."""

    reason: str
    command: Sequence[str]
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StopHook:
    """Stop the command that runs, of which `Tunnel.hook_ended` tells as well."""


class Waiting(Protocol):
    """Whoever has a question open: a link."""

    @property
    def closed(self) -> Closed | None:
        """Set when it waits for nothing any more."""
        ...

    def answer(self, need: Need, answer: Answer) -> None:
        """Go on with the answer, or with why there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Ask a person, or those who know about revocation.

    The driver calls `Tunnel.answered`, and takes the question back when it is not `open` any more.
    """

    link: Waiting
    need: Need

    @property
    def open(self) -> bool:
        """Whether somebody waits for the answer."""
        return self.link.closed is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """Have `request` signed where the key is; the driver calls `Tunnel.answered`."""

    link: Waiting
    need: Need
    request: SignatureRequest


Command = Lookup | Retype | RunHook | StopHook | Question | Signing
