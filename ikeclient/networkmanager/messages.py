"""What the plugin's service and its tunnel, two processes, tell each other."""

from __future__ import annotations

from dataclasses import field

from ikeclient.ipc.failure import Failure
from ikeclient.ipc.typed import Codec
from ikeclient.lazy_dataclass import dataclass
from ikeclient.networkmanager.ip_plan import IpPlan

CODEC = Codec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Run the tunnel of a connection, whose fields these are; with `interactive` somebody answers questions."""

    name: str
    data: dict[str, str]
    secrets: dict[str, str] = field(repr=False)
    users: tuple[str, ...]
    timeout: int
    interactive: bool
    verbosity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a person answered; None if nobody did."""

    text: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arranged:
    """How the machine shall look now."""

    plan: IpPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event of the tunnel."""

    event: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A person shall answer; `key` is the secret's name."""

    prompt: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A line of the log."""

    text: str


ToTunnel = Begin | Answer
ToService = Arranged | Happened | Asked | Logged | Failure
