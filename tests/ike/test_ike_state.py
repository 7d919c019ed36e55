from itertools import product

import pytest

from ikeclient.ike.v2.state import IMPOSSIBLE, TRANSITIONS, Input, State, after

PAIRS = list(product(State, Input))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
def test_every_pair_has_a_successor_or_a_reason_why_it_cannot_happen(pair: tuple[State, Input]) -> None:
    assert (pair in TRANSITIONS) != (pair in IMPOSSIBLE)
    if pair in TRANSITIONS:
        assert after(*pair) is TRANSITIONS[pair]
    else:
        assert IMPOSSIBLE[pair]
        with pytest.raises(KeyError):
            after(*pair)


def test_every_state_is_reached_from_the_first() -> None:
    reached = {State.AUTHENTICATING}
    while more := {TRANSITIONS[pair] for pair in TRANSITIONS if pair[0] in reached} - reached:
        reached |= more
    assert reached == set(State)


def test_every_state_can_be_closed_and_a_closed_one_stays_closed() -> None:
    assert {after(state, Input.CLOSE) for state in State} == {State.CLOSED}
    assert [event for event in Input if (State.CLOSED, event) in TRANSITIONS] == [Input.CLOSE]


def test_nothing_comes_back_to_life() -> None:
    """A life goes one way: what is being deleted or was replaced never carries traffic again."""
    order = [State.AUTHENTICATING, State.ESTABLISHED, State.REPLACED, State.DELETING, State.CLOSED]
    assert all(order.index(source) <= order.index(target) for (source, _), target in TRANSITIONS.items())
