from itertools import product

import pytest
from state_table import check_pair, name, reached

from ikeclient.ike.v2.state import IMPOSSIBLE, TRANSITIONS, Input, State, after

PAIRS = list(product(State, Input))


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_every_pair_has_a_successor_or_a_reason_why_it_cannot_happen(pair: tuple[State, Input]) -> None:
    check_pair(pair, TRANSITIONS, IMPOSSIBLE, after)


def test_every_state_is_reached_from_the_first() -> None:
    assert reached(State.AUTHENTICATING, TRANSITIONS) == set(State)


def test_every_state_can_be_closed_and_a_closed_one_stays_closed() -> None:
    assert {after(state, Input.CLOSE) for state in State} == {State.CLOSED}
    assert [event for event in Input if (State.CLOSED, event) in TRANSITIONS] == [Input.CLOSE]


def test_nothing_comes_back_to_life() -> None:
    """A life goes one way: what is being deleted or was replaced never carries traffic again."""
    order = [State.AUTHENTICATING, State.ESTABLISHED, State.REPLACED, State.DELETING, State.CLOSED]
    assert all(order.index(source) <= order.index(target) for (source, _), target in TRANSITIONS.items())
