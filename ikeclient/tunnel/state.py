"""The life of one tunnel as data: a literal table. A pair that is missing is a bug in ikeclient.

    DISCONNECTED --start--> RESOLVING --resolved--> CONNECTING --up--> CONNECTED <--path lost, confirmed--> MOVING
                                |                       |              |    ^                                 |
                             gave up                 gave up  link lost |    | up                              |
                                |                       |              v    |                                 |
                                +-----> BLOCKED <-------+------- RECONNECTING <---------link lost-------------+
                                                     gave up

    close leads from each of them to CLOSING, and closed from there to DISCONNECTED.

What each state promises:

- RESOLVING, CONNECTING: with a kill switch the machine is closed since the start; without one it is untouched.
- CONNECTED, MOVING, RECONNECTING: device and routes are in place, so that nothing leaves past the tunnel.
- MOVING: there is a connection, but its path is in doubt: the gateway is silent, or no network leads to it. A move
  that begins while the path still works is no state, since packets flow.
- RECONNECTING: there is no connection, and another one is made. Pauses, name resolution and the wait for a packet are
  positions inside it.
- BLOCKED: there is no connection, none is being made, and the machine is closed. Only a tunnel with a kill switch gets
  here, when it gives up the first connection, or one that was lost: what can succeed later is tried again in
  RECONNECTING. It then ends; what people see for it stays until that is done, and the machine stays closed.
- CLOSING: what the tunnel changed is being undone, in any state the same way. `disconnect` opens a closed machine; what
  else ends the tunnel leaves it closed if there is a kill switch.
- DISCONNECTED: nothing of the tunnel is in force but what a kill switch left closed.
- A second link beside the first (reauthentication, a reloaded profile) is no state: the one in use carries the traffic
  until the other is up.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """Where a tunnel is in its life."""

    DISCONNECTED = auto()  # before the start and after the end
    RESOLVING = auto()
    CONNECTING = auto()
    CONNECTED = auto()
    MOVING = auto()
    RECONNECTING = auto()
    BLOCKED = auto()  # given up, and the kill switch keeps the machine closed
    CLOSING = auto()


class Input(Enum):
    """What happens to a tunnel."""

    START = auto()
    RESOLVED = auto()  # the gateway's names have addresses
    UP = auto()  # a link has a Child SA, and the machine fits it
    PATH_LOST = auto()  # the gateway is silent, or no network leads to it
    PATH_CONFIRMED = auto()  # the gateway has answered along the path in use
    LINK_LOST = auto()  # the connection is over, or an attempt to make one
    GIVE_UP = auto()  # no further attempt is made, and the kill switch keeps the machine closed
    CLOSE = auto()  # a command, a signal, or an error that ends the tunnel
    CLOSED = auto()  # the machine is as it was


TRANSITIONS: dict[tuple[State, Input], State] = {
    (State.DISCONNECTED, Input.START): State.RESOLVING,
    (State.DISCONNECTED, Input.CLOSE): State.DISCONNECTED,
    (State.RESOLVING, Input.RESOLVED): State.CONNECTING,
    (State.RESOLVING, Input.GIVE_UP): State.BLOCKED,
    (State.RESOLVING, Input.CLOSE): State.CLOSING,
    (State.CONNECTING, Input.UP): State.CONNECTED,
    (State.CONNECTING, Input.LINK_LOST): State.CONNECTING,  # the gateway's next address
    (State.CONNECTING, Input.GIVE_UP): State.BLOCKED,
    (State.CONNECTING, Input.CLOSE): State.CLOSING,
    (State.CONNECTED, Input.UP): State.CONNECTED,  # a second link takes over
    (State.CONNECTED, Input.PATH_LOST): State.MOVING,
    (State.CONNECTED, Input.PATH_CONFIRMED): State.CONNECTED,  # moved before the former path was lost
    (State.CONNECTED, Input.LINK_LOST): State.RECONNECTING,
    (State.CONNECTED, Input.CLOSE): State.CLOSING,
    (State.MOVING, Input.UP): State.CONNECTED,  # a second link takes over: the gateway has just answered it
    (State.MOVING, Input.PATH_LOST): State.MOVING,
    (State.MOVING, Input.PATH_CONFIRMED): State.CONNECTED,
    (State.MOVING, Input.LINK_LOST): State.RECONNECTING,
    (State.MOVING, Input.CLOSE): State.CLOSING,
    (State.RECONNECTING, Input.UP): State.CONNECTED,
    (State.RECONNECTING, Input.LINK_LOST): State.RECONNECTING,
    (State.RECONNECTING, Input.GIVE_UP): State.BLOCKED,
    (State.RECONNECTING, Input.CLOSE): State.CLOSING,
    (State.BLOCKED, Input.CLOSE): State.CLOSING,
    # What was under way when the end began may still arrive; it changes nothing any more.
    (State.CLOSING, Input.RESOLVED): State.CLOSING,
    (State.CLOSING, Input.UP): State.CLOSING,
    (State.CLOSING, Input.PATH_LOST): State.CLOSING,
    (State.CLOSING, Input.PATH_CONFIRMED): State.CLOSING,
    (State.CLOSING, Input.LINK_LOST): State.CLOSING,
    (State.CLOSING, Input.GIVE_UP): State.CLOSING,
    (State.CLOSING, Input.CLOSE): State.CLOSING,
    (State.CLOSING, Input.CLOSED): State.DISCONNECTED,
}

_NO_LINK = "no link is open"
_NO_PATH = "a path counts only once its link is up"
_ONCE = "a tunnel starts once"
_FIRST = "only the first connection waits for the names; later ones have addresses that were found before"
_LOST_FIRST = "a link that is up is lost first, and then another attempt fails or is not made"
_GAVE_UP = "a tunnel that gave up makes no attempt"
_RESTORED = "the machine is restored only after the tunnel began to close"

IMPOSSIBLE: dict[tuple[State, Input], str] = {
    (State.DISCONNECTED, Input.RESOLVED): "nothing is asked before the start or after the end",
    (State.DISCONNECTED, Input.UP): _NO_LINK,
    (State.DISCONNECTED, Input.PATH_LOST): _NO_LINK,
    (State.DISCONNECTED, Input.PATH_CONFIRMED): _NO_LINK,
    (State.DISCONNECTED, Input.LINK_LOST): _NO_LINK,
    (State.DISCONNECTED, Input.GIVE_UP): "nothing is tried before the start or after the end",
    (State.DISCONNECTED, Input.CLOSED): _RESTORED,
    (State.RESOLVING, Input.START): _ONCE,
    (State.RESOLVING, Input.UP): _NO_LINK,
    (State.RESOLVING, Input.PATH_LOST): _NO_LINK,
    (State.RESOLVING, Input.PATH_CONFIRMED): _NO_LINK,
    (State.RESOLVING, Input.LINK_LOST): _NO_LINK,
    (State.RESOLVING, Input.CLOSED): _RESTORED,
    (State.CONNECTING, Input.START): _ONCE,
    (State.CONNECTING, Input.RESOLVED): "the names are looked up once, before the first link",
    (State.CONNECTING, Input.PATH_LOST): _NO_PATH,
    (State.CONNECTING, Input.PATH_CONFIRMED): _NO_PATH,
    (State.CONNECTING, Input.CLOSED): _RESTORED,
    (State.CONNECTED, Input.START): _ONCE,
    (State.CONNECTED, Input.RESOLVED): _FIRST,
    (State.CONNECTED, Input.GIVE_UP): _LOST_FIRST,
    (State.CONNECTED, Input.CLOSED): _RESTORED,
    (State.MOVING, Input.START): _ONCE,
    (State.MOVING, Input.RESOLVED): _FIRST,
    (State.MOVING, Input.GIVE_UP): _LOST_FIRST,
    (State.MOVING, Input.CLOSED): _RESTORED,
    (State.RECONNECTING, Input.START): _ONCE,
    (State.RECONNECTING, Input.RESOLVED): _FIRST,
    (State.RECONNECTING, Input.PATH_LOST): _NO_PATH,
    (State.RECONNECTING, Input.PATH_CONFIRMED): _NO_PATH,
    (State.RECONNECTING, Input.CLOSED): _RESTORED,
    (State.BLOCKED, Input.START): _ONCE,
    (State.BLOCKED, Input.RESOLVED): _GAVE_UP,
    (State.BLOCKED, Input.UP): _GAVE_UP,
    (State.BLOCKED, Input.PATH_LOST): _NO_LINK,
    (State.BLOCKED, Input.PATH_CONFIRMED): _NO_LINK,
    (State.BLOCKED, Input.LINK_LOST): _NO_LINK,
    (State.BLOCKED, Input.GIVE_UP): _GAVE_UP,
    (State.BLOCKED, Input.CLOSED): _RESTORED,
    (State.CLOSING, Input.START): _ONCE,
}

REPORTED: dict[State, str | None] = {
    State.DISCONNECTED: "disconnected",
    State.RESOLVING: "connecting",
    State.CONNECTING: "connecting",
    State.CONNECTED: "connected",
    State.MOVING: "reconnecting",
    State.RECONNECTING: "reconnecting",
    State.BLOCKED: "blocked",
    State.CLOSING: None,  # the former word stays until the machine is restored
}


def after(state: State, event: Input) -> State:
    """The state that follows; raises `KeyError` for a pair that is `IMPOSSIBLE`."""
    return TRANSITIONS[state, event]
