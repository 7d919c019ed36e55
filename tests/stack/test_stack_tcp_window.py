"""The receive windows: how one grows with what is read, and what all may grow by together."""

from __future__ import annotations

from ikeclient.stack.tcp.window import LARGEST, SMALLEST, WindowBudget, WindowTuner

TRIP = 0.1


def read_all(tuner: WindowTuner, trips: int, start: float = 0.0) -> None:
    """A user that reads a whole window in every round trip."""
    tuner.measure(TRIP)
    for trip in range(trips):
        tuner.read(tuner.capacity)
        tuner.look(start + (trip + 1) * TRIP)


def test_a_window_grows_while_it_is_read_and_up_to_its_bound() -> None:
    tuner = WindowTuner(WindowBudget())
    read_all(tuner, 3)
    assert tuner.capacity > SMALLEST
    read_all(tuner, 20, 1.0)
    assert tuner.capacity == LARGEST


def test_a_window_that_is_not_read_does_not_grow() -> None:
    tuner = WindowTuner(WindowBudget())
    tuner.measure(TRIP)
    for trip in range(20):
        tuner.look(trip * TRIP)
    assert tuner.capacity == SMALLEST


def test_all_windows_together_are_bounded_and_one_that_is_gone_leaves_room() -> None:
    """Peers with many connections whose users stop reading cannot have the memory filled."""
    budget = WindowBudget(LARGEST)
    first, second = WindowTuner(budget), WindowTuner(budget)
    read_all(first, 20)
    read_all(second, 20)
    assert first.capacity == LARGEST
    assert second.capacity < LARGEST
    assert first.capacity + second.capacity - 2 * SMALLEST <= LARGEST
    del first
    read_all(second, 20, 10.0)
    assert second.capacity == LARGEST


def test_what_was_taken_comes_back_whole() -> None:
    budget = WindowBudget(LARGEST)
    for _ in range(10):
        tuner = WindowTuner(budget)
        read_all(tuner, 20)
        assert tuner.capacity == LARGEST
        del tuner
    assert budget.take(LARGEST)
    assert not budget.take(1)
