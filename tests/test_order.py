from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
from order import spread


@dataclass(frozen=True)
class Item:
    """A collected test, as far as the order asks."""

    name: str
    marks: tuple[str, ...] = ()

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


def ordered(*items: Item) -> list[str]:
    return [cast(Any, item).name for item in spread(cast("list[pytest.Item]", list(items)))]


def busy(*names: str) -> list[Item]:
    return [Item(name) for name in names]


LAB = Item("lab", ("lab",))
WAITS = [Item(f"w{n}", ("lab", "waits")) for n in range(3)]


def test_tests_that_wait_are_spread_over_those_that_need_the_cores() -> None:
    assert ordered(*busy(*"abc"), LAB, *WAITS, *busy(*"def")) == ["w0", *"ab", "w1", "c", "lab", "d", "w2", *"ef"]


def test_more_that_wait_than_others_lose_none() -> None:
    assert sorted(ordered(*busy("a"), *WAITS)) == ["a", "w0", "w1", "w2"]


def test_a_run_of_lab_tests_alone_keeps_its_order() -> None:
    assert ordered(LAB, *WAITS) == ["lab", "w0", "w1", "w2"]
    assert ordered(*busy(*"ab"), LAB) == ["a", "b", "lab"]
