"""What can be watched of the protocol, as values: every message in the clear, and what it is answered with.

An observer is told in the middle of things: it must neither raise nor call the protocol. It sees what the messages
carry, of which EAP packets and AUTH are secret or of use to a guesser: what it shows is for it to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ikeclient.ike.events import NatStatus, Path
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.header import Header
from ikeclient.wire.payload import Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSeen:
    """A message of ours that is `sent`, or one of the peer's, opened.

    `lengths` are those of its datagrams in bytes, none if they were not all at hand. `attempt` counts how often it was
    sent, and then `payloads` are left out; `wait` is in how many seconds it is sent again, None for an answer.
    """

    sent: bool
    header: Header
    payloads: tuple[Payload, ...]
    path: Path
    lengths: tuple[int, ...] = ()
    attempt: int = 1
    wait: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTried:
    """An answer to IKE_SA_INIT is authenticated now: with which algorithms, and who is behind a NAT."""

    suite: str
    nat: NatStatus
    fragmentation: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateLost:
    """A candidate is over, and why."""

    reason: str


Observation = MessageSeen | CandidateTried | CandidateLost
Observer = Callable[[Observation], None]


def nobody(_: Observation) -> None:
    """Watch nothing."""


def lengths(datagrams: Sequence[bytes]) -> tuple[int, ...]:
    """Return how long they are."""
    return tuple(map(len, datagrams))
