"""What a tunnel and its helper say to each other; `ipc.typed` writes and reads it.

Four sockets carry it, each with one request at a time: changes of the machine, hooks, a card, and the profile.
"""

from __future__ import annotations

from dataclasses import field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Literal

from ikeclient.ipc.failure import Failure
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.changes.journal import Owner
from ikeclient.profile.load.author import Author

Json = dict[str, object]  # of a step of the journal, which has a reader of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What is known of a profile's secrets: those that were typed, piped or taken from the environment, whether a
    person was there, and the variables that were erased.
    """

    kept: dict[str, bytes] = field(repr=False)
    attended: bool
    erased: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The first message of all: help this tunnel, whose files are in `state` and whose hooks run in `directory`."""

    owner: Owner
    state: Path
    commands: dict[str, tuple[tuple[str, ...], ...]]
    directory: Path
    runs_as: Author | None
    remembered: Remembered | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteJournal:
    """Replace the journal; a number stands for that step of what was written last."""

    steps: tuple[int | Json, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareDns:
    """Make the step that brings name resolution to this state; `previous` is the step of ours that is in force."""

    servers: tuple[IPv4Address | IPv6Address, ...]
    domains: tuple[str, ...]
    mode: Literal["split", "all"]
    interface: str
    previous: Json | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyDns:
    """Take a step that was prepared."""

    step: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoDns:
    """Undo a step that was prepared."""

    step: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteCrash:
    """Keep the description of a bug."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Remove a file of the tunnel from its directory."""

    file: Literal["socket", "log"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseMachine:
    """Keep these networks closed from now on; without any a tunnel without a kill switch only passes what others close.

    None stands for what the gateway granted before, or for everything. The rest is as in `net.block.state.Block`.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] | None
    granted: bool
    exclude: tuple[IPv4Network | IPv6Network, ...]
    exclude_lan: bool
    interface: str
    gateways: tuple[IPv4Address | IPv6Address, ...]
    asked: tuple[IPv4Address | IPv6Address, ...]
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMachine:
    """Open what is closed, for so many seconds; 0: for good."""

    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAtMachine:
    """Tell what is closed."""


Request = (
    WriteJournal | PrepareDns | ApplyDns | UndoDns | WriteCrash | Remove | CloseMachine | OpenMachine | LookAtMachine
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """It was done, with these warnings; `step` is what was prepared."""

    warnings: tuple[str, ...] = ()
    step: Json | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """Whether the machine is closed, by what means, and what was put back that others had taken away."""

    closed: bool
    means: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    put_back: tuple[str, ...]
    problem: str | None


Answer = Done | Blocked | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHook:
    """Run a command of the profile, which ends an earlier one that still runs."""

    number: int
    reason: str
    command: tuple[str, ...]
    variables: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEnded:
    """The hook of that number has ended; None for the number of a request that was not understood."""

    number: int | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskCard:
    """Have the profile's command answer a challenge for a USIM."""

    number: int
    challenge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardAnswer:
    """What the command said to the challenge of that number, or why there is no answer."""

    number: int
    text: str = field(default="", repr=False)
    problem: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProfile:
    """Read the profile again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRead:
    """The profile as it is now (`profile.message`)."""

    profile: object
