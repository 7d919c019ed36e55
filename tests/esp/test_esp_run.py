"""Where the datagrams of a run are."""

from __future__ import annotations

import pytest

from ikeclient.esp.codec.run import Run
from ikeclient.esp.codec.slots import Slots


@pytest.mark.parametrize(
    ("start", "end", "first", "lengths"),
    [
        (0, 300, 0, [100, 100, 100]),
        (0, 301, 0, [100, 100, 100, 1]),
        (200, 299, 2, [99]),
        (100, 200, 1, [100]),
        (100, 350, 1, [100, 100, 50]),
    ],
)
def test_a_part_of_what_was_received_has_its_own_slots(start: int, end: int, first: int, lengths: list[int]) -> None:
    run = Run(Slots(1000))
    run.fill(1000, 100, ("192.0.2.1", 4500), 3)
    run.narrow(start, end)
    assert (run.first, run.count, run.last) == (first, len(lengths), lengths[-1])
    assert [run.length(i) for i in range(run.count)] == lengths
    assert run.whole == lengths.count(100)
    assert (run.source, run.tos, run.stride) == (("192.0.2.1", 4500), 3, 100)
