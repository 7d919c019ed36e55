"""The table of states, and what each segment does in each state (RFC 9293 section 3.10.7), cell by cell."""

from __future__ import annotations

from itertools import product

import pytest
import state_table
from stack_rig import IRS, Rig

from ikeclient.stack.tcp.segment import ACK, FIN, RST, SYN
from ikeclient.stack.tcp.state import IMPOSSIBLE, TRANSITIONS, Input, State, after

PAIRS = list(product(State, Input))


@pytest.mark.parametrize("pair", PAIRS, ids=state_table.name)
def test_a_pair_has_a_successor_or_a_reason(pair: tuple[State, Input]) -> None:
    state_table.check_pair(pair, TRANSITIONS, IMPOSSIBLE, after)


def test_every_state_is_reached() -> None:
    assert state_table.reached(State.CLOSED, TRANSITIONS) == set(State)


# Segments: how each is made. "Next" is RCV.NXT, "everything" all that we sent, our FIN included.
SEGMENTS = {
    "RST at next": lambda rig: rig.put(RST | ACK),
    "RST in window": lambda rig: rig.put(RST | ACK, sequence=IRS + 1 + rig.got + 10),
    "RST outside": lambda rig: rig.put(RST | ACK, sequence=IRS + 1 + rig.got - 100_000),
    "SYN again": lambda rig: rig.put(SYN, sequence=IRS),
    "SYN in window": lambda rig: rig.put(SYN, sequence=IRS + 1 + rig.got + 10),
    "SYN ACK": lambda rig: rig.put(SYN | ACK, sequence=IRS, acknowledgment=rig.iss + 1),
    "SYN ACK wrong": lambda rig: rig.put(SYN | ACK, sequence=IRS, acknowledgment=rig.iss + 100_000),
    "ACK of everything": lambda rig: rig.put(ACK),
    "ACK of the future": lambda rig: rig.put(ACK, acknowledgment=rig.iss + 100_000),
    "ACK of the past": lambda rig: rig.put(ACK, acknowledgment=rig.iss - 1_000_000),
    "data": lambda rig: rig.put(ACK, data=b"data"),
    "data behind a gap": lambda rig: rig.put(ACK, sequence=IRS + 1 + rig.got + 10, data=b"data"),
    "data outside": lambda rig: rig.put(ACK, sequence=IRS + 1 + rig.got + 10_000_000, data=b"data"),
    "data again": lambda rig: rig.put(ACK, sequence=IRS + 1 + rig.got - 4, data=b"data"),
    "FIN": lambda rig: rig.put(FIN | ACK),
    "FIN without ours": lambda rig: rig.put(FIN | ACK, acknowledgment=rig.iss + 1),
    "FIN again": lambda rig: rig.put(FIN | ACK, sequence=IRS + rig.got),
    "no ACK": lambda rig: rig.put(0, data=b"data"),
}

S = State
SYNCHRONISED = (
    S.ESTABLISHED,
    S.FIN_WAIT_1,
    S.FIN_WAIT_2,
    S.CLOSE_WAIT,
    S.CLOSING,
    S.LAST_ACK,
)

# (state, segment): the state that follows, and the answer.
CELLS: dict[tuple[State, str], tuple[State, str]] = {
    # 3.10.7.1: everything but a RST is reset.
    (S.CLOSED, "RST at next"): (S.CLOSED, ""),
    (S.CLOSED, "RST in window"): (S.CLOSED, ""),
    (S.CLOSED, "RST outside"): (S.CLOSED, ""),
    (S.CLOSED, "SYN again"): (S.CLOSED, "RST ACK"),
    (S.CLOSED, "SYN in window"): (S.CLOSED, "RST ACK"),
    (S.CLOSED, "SYN ACK"): (S.CLOSED, "RST"),
    (S.CLOSED, "SYN ACK wrong"): (S.CLOSED, "RST"),
    (S.CLOSED, "ACK of everything"): (S.CLOSED, "RST"),
    (S.CLOSED, "ACK of the future"): (S.CLOSED, "RST"),
    (S.CLOSED, "ACK of the past"): (S.CLOSED, "RST"),
    (S.CLOSED, "data"): (S.CLOSED, "RST"),
    (S.CLOSED, "data behind a gap"): (S.CLOSED, "RST"),
    (S.CLOSED, "data outside"): (S.CLOSED, "RST"),
    (S.CLOSED, "data again"): (S.CLOSED, "RST"),
    (S.CLOSED, "FIN"): (S.CLOSED, "RST"),
    (S.CLOSED, "FIN without ours"): (S.CLOSED, "RST"),
    (S.CLOSED, "FIN again"): (S.CLOSED, "RST"),
    (S.CLOSED, "no ACK"): (S.CLOSED, "RST ACK"),
    # 3.10.7.2
    (S.LISTEN, "RST at next"): (S.LISTEN, ""),
    (S.LISTEN, "RST in window"): (S.LISTEN, ""),
    (S.LISTEN, "RST outside"): (S.LISTEN, ""),
    (S.LISTEN, "SYN again"): (S.SYN_RECEIVED, "SYN ACK"),
    (S.LISTEN, "SYN in window"): (S.SYN_RECEIVED, "SYN ACK"),
    (S.LISTEN, "SYN ACK"): (S.LISTEN, "RST"),
    (S.LISTEN, "SYN ACK wrong"): (S.LISTEN, "RST"),
    (S.LISTEN, "ACK of everything"): (S.LISTEN, "RST"),
    (S.LISTEN, "ACK of the future"): (S.LISTEN, "RST"),
    (S.LISTEN, "ACK of the past"): (S.LISTEN, "RST"),
    (S.LISTEN, "data"): (S.LISTEN, "RST"),
    (S.LISTEN, "data behind a gap"): (S.LISTEN, "RST"),
    (S.LISTEN, "data outside"): (S.LISTEN, "RST"),
    (S.LISTEN, "data again"): (S.LISTEN, "RST"),
    (S.LISTEN, "FIN"): (S.LISTEN, "RST"),
    (S.LISTEN, "FIN without ours"): (S.LISTEN, "RST"),
    (S.LISTEN, "FIN again"): (S.LISTEN, "RST"),
    (S.LISTEN, "no ACK"): (S.LISTEN, "RST ACK"),
    # 3.10.7.3: there is no window yet; an acknowledgement is right or wrong.
    (S.SYN_SENT, "RST at next"): (S.CLOSED, ""),
    (S.SYN_SENT, "RST in window"): (S.CLOSED, ""),
    (S.SYN_SENT, "RST outside"): (S.CLOSED, ""),
    (S.SYN_SENT, "SYN again"): (S.SYN_RECEIVED, "SYN ACK"),
    (S.SYN_SENT, "SYN in window"): (S.SYN_RECEIVED, "SYN ACK"),
    (S.SYN_SENT, "SYN ACK"): (S.ESTABLISHED, "ACK"),
    (S.SYN_SENT, "SYN ACK wrong"): (S.SYN_SENT, "RST"),
    (S.SYN_SENT, "ACK of everything"): (S.SYN_SENT, ""),
    (S.SYN_SENT, "ACK of the future"): (S.SYN_SENT, "RST"),
    (S.SYN_SENT, "ACK of the past"): (S.SYN_SENT, "RST"),
    (S.SYN_SENT, "data"): (S.SYN_SENT, ""),
    (S.SYN_SENT, "data behind a gap"): (S.SYN_SENT, ""),
    (S.SYN_SENT, "data outside"): (S.SYN_SENT, ""),
    (S.SYN_SENT, "data again"): (S.SYN_SENT, ""),
    (S.SYN_SENT, "FIN"): (S.SYN_SENT, ""),
    (S.SYN_SENT, "FIN without ours"): (S.SYN_SENT, ""),
    (S.SYN_SENT, "FIN again"): (S.SYN_SENT, ""),
    (S.SYN_SENT, "no ACK"): (S.SYN_SENT, ""),
    # 3.10.7.4, in a connection that a listener began: a reset takes it back to where it came from.
    (S.SYN_RECEIVED, "RST at next"): (S.LISTEN, ""),
    (S.SYN_RECEIVED, "RST in window"): (S.SYN_RECEIVED, "ACK"),
    (S.SYN_RECEIVED, "RST outside"): (S.SYN_RECEIVED, ""),
    (S.SYN_RECEIVED, "SYN again"): (S.SYN_RECEIVED, "SYN ACK"),
    (S.SYN_RECEIVED, "SYN in window"): (S.SYN_RECEIVED, "ACK"),
    (S.SYN_RECEIVED, "SYN ACK"): (S.SYN_RECEIVED, "SYN ACK"),
    (S.SYN_RECEIVED, "SYN ACK wrong"): (S.SYN_RECEIVED, "SYN ACK"),
    (S.SYN_RECEIVED, "ACK of everything"): (S.ESTABLISHED, ""),
    (S.SYN_RECEIVED, "ACK of the future"): (S.SYN_RECEIVED, "RST"),
    (S.SYN_RECEIVED, "ACK of the past"): (S.SYN_RECEIVED, "RST"),
    (S.SYN_RECEIVED, "data"): (S.ESTABLISHED, "ACK"),
    (S.SYN_RECEIVED, "data behind a gap"): (S.ESTABLISHED, "ACK"),
    (S.SYN_RECEIVED, "data outside"): (S.SYN_RECEIVED, "ACK"),
    (S.SYN_RECEIVED, "data again"): (S.SYN_RECEIVED, "ACK"),
    (S.SYN_RECEIVED, "FIN"): (S.CLOSE_WAIT, "ACK"),
    (S.SYN_RECEIVED, "FIN without ours"): (S.CLOSE_WAIT, "ACK"),
    (S.SYN_RECEIVED, "FIN again"): (S.SYN_RECEIVED, "ACK"),
    (S.SYN_RECEIVED, "no ACK"): (S.SYN_RECEIVED, ""),
    # 3.10.7.4, the synchronised states: RST and SYN by RFC 5961, the same in each.
    **{(state, "RST at next"): (S.CLOSED, "") for state in SYNCHRONISED},
    **{(state, "RST in window"): (state, "ACK") for state in SYNCHRONISED},
    **{(state, "RST outside"): (state, "") for state in SYNCHRONISED},
    **{(state, "SYN again"): (state, "ACK") for state in SYNCHRONISED},
    **{(state, "SYN in window"): (state, "ACK") for state in SYNCHRONISED},
    **{(state, "SYN ACK"): (state, "ACK") for state in SYNCHRONISED},
    **{(state, "SYN ACK wrong"): (state, "ACK") for state in SYNCHRONISED},
    **{(state, "ACK of the future"): (state, "ACK") for state in SYNCHRONISED},
    **{(state, "ACK of the past"): (state, "ACK") for state in SYNCHRONISED},
    **{(state, "data outside"): (state, "ACK") for state in SYNCHRONISED},
    **{(state, "no ACK"): (state, "") for state in SYNCHRONISED},
    (S.ESTABLISHED, "ACK of everything"): (S.ESTABLISHED, ""),
    (S.ESTABLISHED, "data"): (S.ESTABLISHED, "ACK"),
    (S.ESTABLISHED, "data behind a gap"): (S.ESTABLISHED, "ACK"),
    (S.ESTABLISHED, "data again"): (S.ESTABLISHED, "ACK"),
    (S.ESTABLISHED, "FIN"): (S.CLOSE_WAIT, "ACK"),
    (S.ESTABLISHED, "FIN without ours"): (S.CLOSE_WAIT, "ACK"),
    (S.ESTABLISHED, "FIN again"): (S.ESTABLISHED, "ACK"),
    (S.FIN_WAIT_1, "ACK of everything"): (S.FIN_WAIT_2, ""),
    (S.FIN_WAIT_1, "data"): (S.FIN_WAIT_2, "ACK"),
    (S.FIN_WAIT_1, "data behind a gap"): (S.FIN_WAIT_2, "ACK"),
    (S.FIN_WAIT_1, "data again"): (S.FIN_WAIT_1, "ACK"),
    (S.FIN_WAIT_1, "FIN"): (S.TIME_WAIT, "ACK"),
    (S.FIN_WAIT_1, "FIN without ours"): (S.CLOSING, "ACK"),
    (S.FIN_WAIT_1, "FIN again"): (S.FIN_WAIT_1, "ACK"),
    (S.FIN_WAIT_2, "ACK of everything"): (S.FIN_WAIT_2, ""),
    (S.FIN_WAIT_2, "data"): (S.FIN_WAIT_2, "ACK"),
    (S.FIN_WAIT_2, "data behind a gap"): (S.FIN_WAIT_2, "ACK"),
    (S.FIN_WAIT_2, "data again"): (S.FIN_WAIT_2, "ACK"),
    (S.FIN_WAIT_2, "FIN"): (S.TIME_WAIT, "ACK"),
    (S.FIN_WAIT_2, "FIN without ours"): (S.TIME_WAIT, "ACK"),
    (S.FIN_WAIT_2, "FIN again"): (S.FIN_WAIT_2, "ACK"),
    # Behind the peer's FIN nothing counts but acknowledgements and a repeated FIN.
    (S.CLOSE_WAIT, "ACK of everything"): (S.CLOSE_WAIT, ""),
    (S.CLOSE_WAIT, "data"): (S.CLOSE_WAIT, ""),
    (S.CLOSE_WAIT, "data behind a gap"): (S.CLOSE_WAIT, ""),
    (S.CLOSE_WAIT, "data again"): (S.CLOSE_WAIT, "ACK"),
    (S.CLOSE_WAIT, "FIN"): (S.CLOSE_WAIT, ""),
    (S.CLOSE_WAIT, "FIN without ours"): (S.CLOSE_WAIT, ""),
    (S.CLOSE_WAIT, "FIN again"): (S.CLOSE_WAIT, "ACK"),
    (S.CLOSING, "ACK of everything"): (S.TIME_WAIT, ""),
    (S.CLOSING, "data"): (S.TIME_WAIT, ""),
    (S.CLOSING, "data behind a gap"): (S.TIME_WAIT, ""),
    (S.CLOSING, "data again"): (S.CLOSING, "ACK"),
    (S.CLOSING, "FIN"): (S.TIME_WAIT, ""),
    (S.CLOSING, "FIN without ours"): (S.CLOSING, ""),
    (S.CLOSING, "FIN again"): (S.CLOSING, "ACK"),
    (S.LAST_ACK, "ACK of everything"): (S.CLOSED, ""),
    (S.LAST_ACK, "data"): (S.CLOSED, ""),
    (S.LAST_ACK, "data behind a gap"): (S.CLOSED, ""),
    (S.LAST_ACK, "data again"): (S.LAST_ACK, "ACK"),
    (S.LAST_ACK, "FIN"): (S.CLOSED, ""),
    (S.LAST_ACK, "FIN without ours"): (S.LAST_ACK, ""),
    (S.LAST_ACK, "FIN again"): (S.LAST_ACK, "ACK"),
    # A new connection needs a listener between these ports; here is none.
    (S.TIME_WAIT, "RST at next"): (S.CLOSED, ""),
    (S.TIME_WAIT, "RST in window"): (S.TIME_WAIT, ""),
    (S.TIME_WAIT, "RST outside"): (S.TIME_WAIT, ""),
    (S.TIME_WAIT, "SYN again"): (S.TIME_WAIT, "ACK"),
    (S.TIME_WAIT, "SYN in window"): (S.TIME_WAIT, "ACK"),
    (S.TIME_WAIT, "SYN ACK"): (S.TIME_WAIT, "ACK"),
    (S.TIME_WAIT, "SYN ACK wrong"): (S.TIME_WAIT, "ACK"),
    (S.TIME_WAIT, "ACK of everything"): (S.TIME_WAIT, ""),
    (S.TIME_WAIT, "ACK of the future"): (S.TIME_WAIT, ""),
    (S.TIME_WAIT, "ACK of the past"): (S.TIME_WAIT, ""),
    (S.TIME_WAIT, "data"): (S.TIME_WAIT, "ACK"),
    (S.TIME_WAIT, "data behind a gap"): (S.TIME_WAIT, "ACK"),
    (S.TIME_WAIT, "data outside"): (S.TIME_WAIT, "ACK"),
    (S.TIME_WAIT, "data again"): (S.TIME_WAIT, "ACK"),
    (S.TIME_WAIT, "FIN"): (S.TIME_WAIT, "ACK"),
    (S.TIME_WAIT, "FIN without ours"): (S.TIME_WAIT, "ACK"),
    (S.TIME_WAIT, "FIN again"): (S.TIME_WAIT, "ACK"),
    (S.TIME_WAIT, "no ACK"): (S.TIME_WAIT, "ACK"),
}

ANSWERS = {"RST": RST, "RST ACK": RST | ACK, "ACK": ACK, "SYN ACK": SYN | ACK}


def test_every_state_meets_every_segment() -> None:
    assert CELLS.keys() == set(product(State, SEGMENTS))


@pytest.mark.parametrize(("state", "segment"), CELLS, ids=lambda part: part if isinstance(part, str) else part.name)
def test_a_segment_does_what_the_table_says(state: State, segment: str) -> None:
    rig = Rig()
    rig.enter(state)
    following, answer = CELLS[state, segment]
    out = SEGMENTS[segment](rig)
    assert (rig.state, [sent.flags for sent in out]) == (following, [ANSWERS[answer]] if answer else [])
    if state in SYNCHRONISED and answer == "ACK" and following is state and "data" not in segment:
        # A challenge tells where we are, and nothing was taken from the segment.
        assert out[0].acknowledgment == (IRS + 1 + rig.got) & 0xFFFFFFFF
