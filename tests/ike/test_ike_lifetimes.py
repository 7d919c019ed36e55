"""When an IKE SA acts by itself."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from sim_world import altered, client_config

from ikeclient.ike.v2.lifetimes import HINT_PAUSE, LINGER, Due, Lifetimes, of_child, retry_after

CONFIG = altered(client_config(), rekey_ike=1000.0, liveness=30.0)


def lifetimes(**changes: object) -> Lifetimes:
    made = Lifetimes(altered(CONFIG, **changes), random.Random(5).randbytes)
    made.start(100.0)
    return made


def constant(value: int) -> Callable[[int], bytes]:
    return lambda count: bytes((value,)) * count


def test_rekeying_starts_before_the_lifetime_ends_and_the_hard_end_comes_after_it() -> None:
    """S8."""
    made = lifetimes(liveness=0.0)
    assert 950 <= made.rekey_at <= 1050
    assert made.expired(made.rekey_at) == [Due.REKEY]
    assert made.expired(1199.9) == []
    assert made.expired(1200.1) == [Due.EXPIRE]


def test_a_child_sa_is_rekeyed_before_its_lifetime_ends_and_its_hard_end_comes_after_it() -> None:
    """S8."""
    rekey_at, ends_at = of_child(altered(CONFIG, rekey_child=1000.0), random.Random(5).randbytes, 100.0)
    assert 950 <= rekey_at <= 1050 < ends_at
    assert ends_at == pytest.approx(1200.0)


def test_liveness_follows_what_was_heard() -> None:
    made = lifetimes()
    assert made.next == 130.0
    assert made.expired(130.0) == [Due.LIVENESS]
    assert made.watch(last_heard=120.0, now=130.0) is False
    assert made.next == 150.0
    assert made.watch(last_heard=120.0, now=150.0) is True
    assert made.next == 180.0


def test_without_liveness_there_is_no_check() -> None:
    assert Due.LIVENESS not in lifetimes(liveness=0.0).expired(1e9)


def test_a_stopped_sa_does_nothing_any_more() -> None:
    made = lifetimes()
    made.stop()
    assert made.next is None
    made.linger(200.0)
    assert made.expired(200.0 + LINGER) == [Due.LINGER]


def test_the_earliest_limit_of_the_authentication_counts_and_is_inherited() -> None:
    """K18, RFC 7296 section 2.8.3."""
    made = lifetimes(liveness=0.0)
    made.limit(500, 100.0)
    made.limit(5000, 100.0)
    successor = lifetimes(liveness=0.0)
    made.stop()
    successor.inherit(made)
    assert successor.expired(499.0) == []
    assert successor.expired(500.0) == [Due.REAUTHENTICATE]
    assert successor.expired(574.0) == []
    assert successor.expired(575.0) == [Due.AUTHENTICATION_OVER]


def test_an_unlimited_authentication_stays_so() -> None:
    successor = lifetimes()
    successor.inherit(lifetimes())
    assert not {Due.REAUTHENTICATE, Due.AUTHENTICATION_OVER} & {*successor.expired(1e9)}


def test_hints_are_followed_once_in_a_while_also_by_a_successor() -> None:
    """S3."""
    made = lifetimes()
    assert made.hinted(100.0)
    assert not made.hinted(100.0 + HINT_PAUSE - 1)
    successor = lifetimes()
    successor.inherit(made)
    assert not successor.hinted(100.0 + HINT_PAUSE - 1)
    assert successor.hinted(100.0 + HINT_PAUSE)


def test_rekeying_now_is_news_once() -> None:
    """S17."""
    made = lifetimes()
    assert made.rekey_now(200.0)
    assert not made.rekey_now(201.0)


@pytest.mark.parametrize("refusals", [1, 2, 3, 4, 5, 6, 10, 100])
def test_pauses_grow_up_to_five_minutes_and_have_chance_in_them(refusals: int) -> None:
    """S8, RFC 7296 section 2.25."""
    shortest, longest = retry_after(refusals, constant(0)), retry_after(refusals, constant(255))
    assert longest == pytest.approx(min(10 * 2.0 ** (refusals - 1), 300))
    assert shortest == pytest.approx(longest / 2)


def test_refusals_in_a_row_are_counted() -> None:
    made = lifetimes(liveness=0.0, rekey_ike=100_000.0)
    made.expired(made.rekey_at)
    for number in range(1, 6):
        made.refused(2000.0)
        pause = (made.next or 0) - 2000.0
        assert 5 * 2 ** (number - 1) <= pause <= 10 * 2 ** (number - 1)
