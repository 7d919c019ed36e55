"""The life of a TCP connection as data: a literal table (RFC 9293 section 3.3.2). A missing pair is a bug of ours.

    CLOSED --listen--> LISTEN --syn--> SYN_RECEIVED --ack--> ESTABLISHED --shutdown--> FIN_WAIT_1 --ack of fin--+
       |                                    ^                  ^    |                      |                    v
       +--open--> SYN_SENT -------syn-------+                  |   fin                    fin              FIN_WAIT_2
                     |                                         |    v                      v                    |
                     +----------------syn ack------------------+ CLOSE_WAIT             CLOSING                fin
                                                                    |                      |                    |
                                                                 shutdown             ack of fin                v
                                                                    v                      +--------------> TIME_WAIT
                                                                LAST_ACK --ack of fin--> CLOSED <--expire-------+

    reset and abort lead from each of them to CLOSED.

A FIN that is asked for before the connection is established waits; the state changes when it is established. From then
on it changes at once, although data may still be sent before the FIN (section 3.10.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto


class State(Enum):
    """Where a connection is in its life."""

    CLOSED = auto()
    LISTEN = auto()
    SYN_SENT = auto()
    SYN_RECEIVED = auto()
    ESTABLISHED = auto()
    FIN_WAIT_1 = auto()
    FIN_WAIT_2 = auto()
    CLOSE_WAIT = auto()
    CLOSING = auto()
    LAST_ACK = auto()
    TIME_WAIT = auto()


class Input(Enum):
    """What happens to a connection. Segments are acceptable ones: what is not changes no state."""

    OPEN = auto()
    LISTEN = auto()
    SYN = auto()  # without ACK
    SYN_ACK = auto()
    ACK_OF_SYN = auto()
    SHUTDOWN = auto()  # the user sends nothing more
    ACK_OF_FIN = auto()
    FIN = auto()  # and everything before it
    RESET = auto()
    ABORT = auto()  # by the user, by a timer, or because the address is gone
    EXPIRE = auto()  # twice the longest life of a segment


TRANSITIONS: dict[tuple[State, Input], State] = {
    (State.CLOSED, Input.OPEN): State.SYN_SENT,
    (State.CLOSED, Input.LISTEN): State.LISTEN,
    (State.LISTEN, Input.SYN): State.SYN_RECEIVED,
    (State.LISTEN, Input.ABORT): State.CLOSED,
    (State.SYN_SENT, Input.SYN): State.SYN_RECEIVED,  # both ends open at the same time
    (State.SYN_SENT, Input.SYN_ACK): State.ESTABLISHED,
    (State.SYN_SENT, Input.RESET): State.CLOSED,
    (State.SYN_SENT, Input.ABORT): State.CLOSED,
    (State.SYN_RECEIVED, Input.ACK_OF_SYN): State.ESTABLISHED,
    (State.SYN_RECEIVED, Input.RESET): State.CLOSED,
    (State.SYN_RECEIVED, Input.ABORT): State.CLOSED,
    (State.ESTABLISHED, Input.SHUTDOWN): State.FIN_WAIT_1,
    (State.ESTABLISHED, Input.FIN): State.CLOSE_WAIT,
    (State.ESTABLISHED, Input.RESET): State.CLOSED,
    (State.ESTABLISHED, Input.ABORT): State.CLOSED,
    (State.FIN_WAIT_1, Input.ACK_OF_FIN): State.FIN_WAIT_2,
    (State.FIN_WAIT_1, Input.FIN): State.CLOSING,
    (State.FIN_WAIT_1, Input.RESET): State.CLOSED,
    (State.FIN_WAIT_1, Input.ABORT): State.CLOSED,
    (State.FIN_WAIT_2, Input.FIN): State.TIME_WAIT,
    (State.FIN_WAIT_2, Input.RESET): State.CLOSED,
    (State.FIN_WAIT_2, Input.ABORT): State.CLOSED,
    (State.CLOSE_WAIT, Input.SHUTDOWN): State.LAST_ACK,
    (State.CLOSE_WAIT, Input.RESET): State.CLOSED,
    (State.CLOSE_WAIT, Input.ABORT): State.CLOSED,
    (State.CLOSING, Input.ACK_OF_FIN): State.TIME_WAIT,
    (State.CLOSING, Input.RESET): State.CLOSED,
    (State.CLOSING, Input.ABORT): State.CLOSED,
    (State.LAST_ACK, Input.ACK_OF_FIN): State.CLOSED,
    (State.LAST_ACK, Input.RESET): State.CLOSED,
    (State.LAST_ACK, Input.ABORT): State.CLOSED,
    (State.TIME_WAIT, Input.FIN): State.TIME_WAIT,  # sent again, since our ACK got lost
    (State.TIME_WAIT, Input.SYN): State.CLOSED,  # of a new connection between the same ports (RFC 6191)
    (State.TIME_WAIT, Input.RESET): State.CLOSED,
    (State.TIME_WAIT, Input.ABORT): State.CLOSED,
    (State.TIME_WAIT, Input.EXPIRE): State.CLOSED,
}

CONNECTED = (
    State.ESTABLISHED,
    State.FIN_WAIT_1,
    State.FIN_WAIT_2,
    State.CLOSE_WAIT,
    State.CLOSING,
    State.LAST_ACK,
)
# Tuples, because looking for a member of an enumeration in a set calls its hash function, which is in Python.
RECEIVING = (State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2)
GONE = (State.CLOSED, State.TIME_WAIT)
_OPENING = (State.SYN_SENT, State.SYN_RECEIVED)
_IDLE = (State.CLOSED, State.LISTEN)
_ENDED = (State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK)
_SHUT = (State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSING, State.LAST_ACK, State.TIME_WAIT)


def _never(reason: str, states: Iterable[State], *inputs: Input) -> dict[tuple[State, Input], str]:
    return {(state, event): reason for state in states for event in inputs}


IMPOSSIBLE: dict[tuple[State, Input], str] = {
    **_never("a connection is opened once", [s for s in State if s is not State.CLOSED], Input.OPEN, Input.LISTEN),
    **_never("a SYN in a connection that exists is answered with a challenge (RFC 5961)", CONNECTED, Input.SYN),
    **_never("a second SYN is answered with the same SYN ACK", (State.SYN_RECEIVED,), Input.SYN),
    **_never("there is no connection that a segment could belong to", (State.CLOSED,), Input.SYN),
    **_never("only our own SYN is answered with one", [s for s in State if s is not State.SYN_SENT], Input.SYN_ACK),
    **_never("our SYN is acknowledged by a SYN ACK here", (State.SYN_SENT,), Input.ACK_OF_SYN),
    **_never("our SYN was acknowledged before", (*CONNECTED, State.TIME_WAIT), Input.ACK_OF_SYN),
    **_never("no SYN was sent", _IDLE, Input.ACK_OF_SYN),
    **_never("nothing is sent before there is a connection", _IDLE, Input.SHUTDOWN),
    **_never("FIN waits until the connection is established", _OPENING, Input.SHUTDOWN),
    **_never("we shut down once", _SHUT, Input.SHUTDOWN),
    **_never("no FIN was sent", (*_IDLE, *_OPENING, State.ESTABLISHED, State.CLOSE_WAIT), Input.ACK_OF_FIN),
    **_never("our FIN was acknowledged before", (State.FIN_WAIT_2, State.TIME_WAIT), Input.ACK_OF_FIN),
    **_never("a FIN counts once the connection is established", (*_IDLE, *_OPENING), Input.FIN),
    **_never("the peer has sent its FIN, and nothing behind it is acceptable", _ENDED, Input.FIN),
    **_never("there is nothing to reset", _IDLE, Input.RESET),
    **_never("there is nothing to abort", (State.CLOSED,), Input.ABORT),
    **_never("only the end of a connection expires", [s for s in State if s is not State.TIME_WAIT], Input.EXPIRE),
}


def after(state: State, event: Input) -> State:
    """The state that follows; raises `KeyError` for a pair that is `IMPOSSIBLE`."""
    return TRANSITIONS[state, event]
