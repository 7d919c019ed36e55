"""The life of a tunnel as a table, and the words that people see for it."""

from __future__ import annotations

from itertools import product

import pytest
from state_table import check_pair, name, reached

from ikeclient.tunnel.state import IMPOSSIBLE, REPORTED, TRANSITIONS, Input, State, after
from ikeclient.tunnel.status import Life, Status

PAIRS = list(product(State, Input))
UP = (State.CONNECTED, State.MOVING, State.RECONNECTING, State.BLOCKED)  # the machine is closed


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_every_pair_has_a_successor_or_a_reason_why_it_cannot_happen(pair: tuple[State, Input]) -> None:
    check_pair(pair, TRANSITIONS, IMPOSSIBLE, after)


def test_every_state_is_reached_from_the_first() -> None:
    assert reached(State.DISCONNECTED, TRANSITIONS) == set(State)


def test_the_machine_opens_only_through_closing() -> None:
    """S21: nothing that a gateway or a network does leads back to a machine without the tunnel's routes."""
    for state, event in product(UP, Input):
        if (state, event) in TRANSITIONS:
            assert after(state, event) in ({State.CLOSING} if event is Input.CLOSE else UP)
    assert [pair for pair, state in TRANSITIONS.items() if state is State.DISCONNECTED and pair[0] is not state] == [
        (State.CLOSING, Input.CLOSED)
    ]


def test_a_tunnel_that_gave_up_ends() -> None:
    """What can succeed later is tried again before: nothing leads back."""
    gives_up = {state for state in State if TRANSITIONS.get((state, Input.GIVE_UP)) is State.BLOCKED}
    assert gives_up == {State.RESOLVING, State.CONNECTING, State.RECONNECTING}
    out = {event: state for (source, event), state in TRANSITIONS.items() if source is State.BLOCKED}
    assert out == {Input.CLOSE: State.CLOSING}


def test_what_arrives_late_does_not_bring_a_closing_tunnel_back() -> None:
    late = set(Input) - {Input.START, Input.CLOSED}
    assert {after(State.CLOSING, event) for event in late} == {State.CLOSING}


def test_every_state_can_be_closed() -> None:
    assert {after(state, Input.CLOSE) for state in State} == {State.CLOSING, State.DISCONNECTED}
    assert set(REPORTED) == set(State)


def test_people_see_one_word_for_a_lost_path_and_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(f"moment {number}" for number in range(9))
    monkeypatch.setattr("ikeclient.tunnel.status.timestamp", lambda: next(moments))
    status = Status(name="work", life=Life(since="the start"))
    seen = [(status.life.word, status.life.since)]
    for event in (Input.START, Input.RESOLVED, Input.UP, Input.PATH_LOST, Input.LINK_LOST, Input.UP, Input.CLOSE):
        status.life.happens(event)
        seen.append((status.life.word, status.life.since))
    assert seen == [
        *[("connecting", "the start")] * 3,
        ("connected", "moment 0"),
        *[("reconnecting", "moment 1")] * 2,
        *[("connected", "moment 2")] * 2,
    ]
    status.life.happens(Input.CLOSED)
    assert (status.life.word, status.life.since) == ("disconnected", "moment 3")


def test_an_impossible_pair_is_told_as_a_bug_and_changes_nothing() -> None:
    status = Status(name="work")
    with pytest.warns(RuntimeWarning, match="a bug in ikeclient: UP while the tunnel is DISCONNECTED"):
        status.life.happens(Input.UP)
    assert (status.life.state, status.life.word) == (State.DISCONNECTED, "connecting")
