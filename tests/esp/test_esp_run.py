"""Where the datagrams of a run are."""

from __future__ import annotations

import pytest

from ikeclient.esp.codec.run import Run
from ikeclient.esp.codec.slots import Slots


@pytest.mark.parametrize(
    ("filled", "first", "lengths"),
    [
        (300, 0, [100, 100, 100]),
        (301, 0, [100, 100, 100, 1]),
        (299, 2, [99]),
        (1000, 1, [100]),
        (350, 1, [100, 100, 50]),
    ],
)
def test_a_part_of_what_was_received_has_its_own_slots(filled: int, first: int, lengths: list[int]) -> None:
    run = Run(Slots(1000))
    run.fill(filled, 100, ("192.0.2.1", 4500), 3, [])
    run.narrow(first, len(lengths))
    assert (run.first, run.count, run.last) == (first, len(lengths), lengths[-1])
    assert (run.start, run.end) == (first * 100, first * 100 + sum(lengths))
    assert [run.length(i) for i in range(run.count)] == lengths
    assert run.whole == lengths.count(100)
    assert run.alike(first, len(lengths)) == len(lengths)
    assert (run.source, run.tos, run.stride) == (("192.0.2.1", 4500), 3, 100)


def test_the_datagrams_of_a_run_may_differ_in_length() -> None:
    lengths = [100, 9, 50, 100, 100, 8, 100]
    run = Run(Slots(1000))
    run.fill(700, 100, ("192.0.2.1", 4500), 0, lengths)
    run.narrow(1, 5)
    assert [run.length(i) for i in range(5)] == lengths[1:6]
    assert (run.start, run.end, run.last) == (100, 508, 8)
    assert [run.alike(first, 7 - first) for first in range(7)] == [2, 1, 1, 3, 2, 1, 1]
    assert run.alike(3, 2) == 2
