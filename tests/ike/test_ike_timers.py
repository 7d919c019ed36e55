import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.ike.timers import Timers, jittered


def test_a_deadline_expires_once_at_its_time() -> None:
    timers: Timers[str] = Timers()
    assert timers.next is None
    timers.set("rekey", 10.0)
    timers.set("liveness", 5.0)
    assert timers.next == 5.0
    assert timers.expired(4.99) == []
    assert timers.expired(5.0) == ["liveness"]
    assert timers.expired(5.0) == []
    assert timers.next == 10.0


def test_what_is_set_again_moves_and_what_is_cancelled_is_gone() -> None:
    timers: Timers[str] = Timers()
    timers.set("rekey", 10.0)
    timers.set("rekey", 20.0)
    assert timers.expired(15.0) == []
    timers.cancel("rekey")
    timers.cancel("never set")
    assert timers.next is None
    assert timers.expired(100.0) == []


@given(st.dictionaries(st.integers(), st.floats(0, 100)), st.floats(0, 100))
def test_all_that_is_due_comes_earliest_first(deadlines: dict[int, float], now: float) -> None:
    """S15: after hours of sleep everything is due at once."""
    timers: Timers[int] = Timers()
    for name, at in deadlines.items():
        timers.set(name, at)
    due = timers.expired(now)
    assert [deadlines[name] for name in due] == sorted(at for at in deadlines.values() if at <= now)
    assert timers.next == min((at for at in deadlines.values() if at > now), default=None)


@given(st.floats(0.001, 1e6), st.binary(min_size=2, max_size=2))
def test_lifetimes_are_shortened_by_5_to_15_percent(period: float, entropy: bytes) -> None:
    """RFC 7296 section 2.8: jitter, so that two ends rarely rekey at once; never later than the lifetime."""
    assert 0.8499 * period <= jittered(period, lambda count: entropy[:count]) <= 0.9501 * period


def test_the_ends_of_the_jitter() -> None:
    assert jittered(1000.0, lambda count: bytes(count)) == pytest.approx(850.0)
    assert jittered(1000.0, lambda count: b"\xff" * count) == pytest.approx(950.0)
