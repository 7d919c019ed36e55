"""The receive windows: how one grows with what is read, and what all may grow by together."""

from __future__ import annotations

import pytest

from ikeclient.stack.tcp.window import LARGEST, SMALLEST, WindowBudget, WindowTuner

TRIP = 0.125
MSS = 512  # 64 of them are a super-packet, of which shares are multiples


def read_all(tuner: WindowTuner, trips: int, start: float = 0.0) -> None:
    """A user that reads a whole window in every round trip."""
    tuner.measure(TRIP)
    for trip in range(trips):
        tuner.read(tuner.capacity)
        tuner.look(start + (trip + 1) * TRIP, 0)


def test_a_window_grows_while_it_is_read_and_up_to_its_bound() -> None:
    tuner = WindowTuner(WindowBudget(), MSS)
    read_all(tuner, 3)
    assert tuner.capacity > SMALLEST
    read_all(tuner, 20, 1.0)
    assert tuner.capacity == LARGEST


def test_a_window_that_is_not_read_does_not_grow() -> None:
    tuner = WindowTuner(WindowBudget(), MSS)
    tuner.measure(TRIP)
    for trip in range(20):
        tuner.look(trip * TRIP, 0)
    assert tuner.capacity == SMALLEST


def test_a_window_is_not_the_bound_of_a_sender_that_doubles_in_each_round_trip() -> None:
    tuner = WindowTuner(WindowBudget(), MSS)
    tuner.measure(TRIP)
    size = 14_000  # ten segments
    for trip in range(1, 8):
        assert tuner.capacity >= min(2 * size, LARGEST)
        tuner.read(size)
        tuner.look(trip * TRIP, 0)
        size *= 2


def carry(tuners: list[WindowTuner], size: int, trips: int, start: float) -> None:
    """Each reads so much in every round trip, or what its window has."""
    for number in range(1, trips + 1):
        for tuner in tuners:
            tuner.measure(TRIP)
            tuner.read(min(size, tuner.capacity))
            tuner.look(start + number * TRIP, 0)


def test_those_that_carry_much_share_what_one_may_have_and_the_others_do_not_count() -> None:
    """The round trip is ten times as long as the path, so everything else waits in queues."""
    budget = WindowBudget()
    busy, idle = [WindowTuner(budget, MSS) for _ in range(16)], [WindowTuner(budget, MSS) for _ in range(100)]
    for tuner in busy + idle:
        tuner.measure(TRIP / 10)
    carry(busy[:1], LARGEST, 20, 0.0)
    assert busy[0].capacity == LARGEST
    carry(idle, 1000, 40, 3.0)
    carry(busy, LARGEST, 40, 3.0)
    assert [tuner.capacity for tuner in busy] == [LARGEST // 16] * 16
    assert {tuner.capacity for tuner in idle} == {SMALLEST}
    carry(busy[:1], LARGEST, 40, 8.0)  # the others have stopped
    assert busy[0].capacity == LARGEST


@pytest.mark.parametrize(("size", "segments"), [(1348, 44), (1328, 44), (1200, 49), (536, 64), (8948, 6)])
def test_a_share_is_of_whole_super_packets(size: int, segments: int) -> None:
    """Of those that a device of ours has the kernel make at the far end, at the most."""
    budget = WindowBudget()
    tuners = [WindowTuner(budget, size) for _ in range(64)]
    for tuner in tuners:
        tuner.measure(TRIP / 100)
    carry(tuners, LARGEST, 20, 0.0)
    whole = segments * size
    assert {tuner.capacity for tuner in tuners} == {LARGEST // 64 // whole * whole}


def test_a_window_that_shrinks_leaves_room_for_others_only_when_nothing_more_may_come() -> None:
    budget = WindowBudget(LARGEST)
    first, *others = (WindowTuner(budget, MSS) for _ in range(8))
    carry([first], LARGEST, 20, 0.0)
    for number in range(10):
        carry(others, SMALLEST, 1, 3.0 + number * TRIP)
        first.read(LARGEST // 64)
        first.look(3.0 + (number + 1) * TRIP, LARGEST)
    assert first.capacity == LARGEST // 8
    assert not budget.take(LARGEST // 8)
    first.read(LARGEST // 64)
    first.look(5.0, 0)
    assert budget.take(LARGEST // 8)


def test_many_have_more_than_their_share_on_a_long_path() -> None:
    """Twice what arrives in the shortest round trip."""
    budget = WindowBudget()
    tuners = [WindowTuner(budget, MSS) for _ in range(64)]
    carry(tuners, 500_000, 40, 0.0)
    assert all(900_000 < tuner.capacity <= 1_000_000 for tuner in tuners)


def test_all_windows_together_are_bounded_and_one_that_is_gone_leaves_room() -> None:
    """Peers with many connections whose users stop reading cannot have the memory filled."""
    budget = WindowBudget(LARGEST)
    first, second = WindowTuner(budget, MSS), WindowTuner(budget, MSS)
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
        tuner = WindowTuner(budget, MSS)
        read_all(tuner, 20)
        assert tuner.capacity == LARGEST
        del tuner
    assert budget.take(LARGEST)
    assert not budget.take(1)
