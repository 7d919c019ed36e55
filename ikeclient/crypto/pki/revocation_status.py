"""What is known about the revocation of a path's certificates, as values, and what follows from it.

A revoked certificate is refused whatever the policy but "off" says. Most networks break revocation now and then, so a
state that cannot be learnt is a notice by default, and a refusal only for those who ask for that.

What finds the states out is in `revocation`, which reads certificates. Every tunnel has these values, so that is not
loaded for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from datetime import datetime
from enum import StrEnum, auto
from typing import TYPE_CHECKING

from ikeclient.errors import GatewayNotAuthenticated
from ikeclient.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from ikeclient.crypto.pki.certificate import Certificate
    from ikeclient.crypto.pki.crl import Crl
    from ikeclient.crypto.pki.ocsp import OcspResponse


class RevocationPolicy(StrEnum):
    """What follows from the state of the gateway's certificate."""

    RELAXED = auto()
    STRICT = auto()
    IFURI = auto()
    OFF = auto()

    @property
    def asks(self) -> bool:
        """Whether anything is asked at all."""
        return self is not RevocationPolicy.OFF


class RevocationState(StrEnum):
    """What is known about a certificate."""

    GOOD = auto()
    REVOKED = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationStatus:
    """The state of the certificate of `subject`: where it is from or why it is not known, and until when it holds.

    `asked` tells whether the certificate says where to ask.
    """

    subject: str
    state: RevocationState
    detail: str
    asked: bool = False
    until: datetime | None = None

    def __str__(self) -> str:
        return f"{self.state} ({self.detail})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Responses and lists, of whoever and about whatever; `problems` are what could not be read."""

    responses: tuple[OcspResponse, ...] = ()
    lists: tuple[Crl, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationQuery:
    """A valid `path` whose states are wanted; `others` may hold signers of lists, `evidence` came with the path.

    `statuses` are what is known so far, in the order of the path. With `response_only` the path is our own, and an OCSP
    response is wanted that a peer can be sent.
    """

    path: tuple[Certificate, ...]
    others: tuple[Certificate, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    statuses: tuple[RevocationStatus, ...] = ()
    response_only: bool = False

    @property
    def has_sources(self) -> bool:
        """Whether a certificate whose state is unknown says where to ask."""
        return any(each.state is RevocationState.UNKNOWN and each.asked for each in self.statuses)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRevocation:
    """The answer to a query: a status for each certificate of the path but its anchor, or for the first one alone.

    `response` is a verified OCSP response about the first one, for a query that wants nothing else.
    """

    statuses: tuple[RevocationStatus, ...]
    response: bytes | None = field(default=None, repr=False)


def enforce(policy: RevocationPolicy, statuses: Sequence[RevocationStatus], whose: str = "gateway") -> str | None:
    """The notice that follows from the states of a path, if one does. Raises GatewayNotAuthenticated for a refusal."""
    if policy is RevocationPolicy.OFF:
        return None
    for position, each in enumerate(statuses):
        if each.state is RevocationState.REVOKED:
            raise GatewayNotAuthenticated(
                f"the {whose}'s certificate has been revoked"
                if position == 0
                else f"an authority of the {whose}'s certificate has been revoked",
                reason=f"{each.subject}: {each.detail}",
                hint=f"do not connect; ask the {whose}'s administrator for a new certificate",
            )
    unknown = [each for each in statuses if each.state is RevocationState.UNKNOWN]
    refused = [each for each in unknown if policy is RevocationPolicy.STRICT or each.asked]
    if refused and policy is not RevocationPolicy.RELAXED:
        raise GatewayNotAuthenticated(
            f"nobody could tell whether the {whose}'s certificate has been revoked",
            reason=f"{refused[0].subject}: {refused[0].detail}",
            hint=f'gateway.revocation = "{policy}" refuses what is not known; "relaxed" would connect with a notice',
        )
    if not unknown:
        return None
    return f"whether the {whose}'s certificate has been revoked is not known: {unknown[0].subject}: {unknown[0].detail}"


def summary(statuses: Sequence[RevocationStatus]) -> str:
    """The state of a path in a few words: that of its worst certificate."""
    if not statuses:
        return "not checked (the certificate itself is trusted)"
    order = (RevocationState.REVOKED, RevocationState.UNKNOWN, RevocationState.GOOD)
    worst = min(statuses, key=lambda each: order.index(each.state))
    if worst.state is not RevocationState.GOOD:
        return str(worst)
    return f"good ({', '.join(dict.fromkeys(each.detail for each in statuses))})"
