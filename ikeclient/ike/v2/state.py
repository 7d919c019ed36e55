"""The life of one IKE SA as data: a literal table. A pair that is missing is a bug in ikeclient, not in the peer.

    AUTHENTICATING --authenticated--> ESTABLISHED --replaced--> REPLACED --deleted--> CLOSED
          |                               |                        |
          +---- failed, deleted, close ---+------------------------+----> DELETING ----> CLOSED

Cookie retries and EAP rounds are no states: they are positions inside an exchange.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """Where an IKE SA is in its life."""

    AUTHENTICATING = auto()
    ESTABLISHED = auto()
    REPLACED = auto()  # rekeyed: kept only until its DELETE is answered
    DELETING = auto()  # our DELETE is on its way
    CLOSED = auto()


class Input(Enum):
    """What happens to an IKE SA."""

    AUTHENTICATED = auto()
    REPLACE = auto()
    DELETE = auto()
    CLOSE = auto()


TRANSITIONS: dict[tuple[State, Input], State] = {
    (State.AUTHENTICATING, Input.AUTHENTICATED): State.ESTABLISHED,
    (State.AUTHENTICATING, Input.DELETE): State.DELETING,
    (State.AUTHENTICATING, Input.CLOSE): State.CLOSED,
    (State.ESTABLISHED, Input.REPLACE): State.REPLACED,
    (State.ESTABLISHED, Input.DELETE): State.DELETING,
    (State.ESTABLISHED, Input.CLOSE): State.CLOSED,
    (State.REPLACED, Input.DELETE): State.DELETING,
    (State.REPLACED, Input.CLOSE): State.CLOSED,
    (State.DELETING, Input.DELETE): State.DELETING,
    (State.DELETING, Input.CLOSE): State.CLOSED,
    (State.CLOSED, Input.CLOSE): State.CLOSED,
}

IMPOSSIBLE: dict[tuple[State, Input], str] = {
    (State.AUTHENTICATING, Input.REPLACE): "no CREATE_CHILD_SA is sent or answered before IKE_AUTH is done",
    (State.ESTABLISHED, Input.AUTHENTICATED): "IKE_AUTH runs once, and a rekeyed IKE SA is born established",
    (State.REPLACED, Input.AUTHENTICATED): "IKE_AUTH runs once",
    (State.REPLACED, Input.REPLACE): "only an established IKE SA is rekeyed, by either end",
    (State.DELETING, Input.AUTHENTICATED): "DELETE drops the IKE_AUTH exchange that was running",
    (State.DELETING, Input.REPLACE): "DELETE drops the rekey that was running, and the peer's is refused",
    (State.CLOSED, Input.AUTHENTICATED): "a closed IKE SA takes no message",
    (State.CLOSED, Input.REPLACE): "a closed IKE SA takes no message",
    (State.CLOSED, Input.DELETE): "the peer has forgotten it, or was told",
}


def after(state: State, event: Input) -> State:
    """The state that follows; raises `KeyError` for a pair that is `IMPOSSIBLE`."""
    return TRANSITIONS[state, event]
