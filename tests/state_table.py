"""What every literal state table of ours promises, checked in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import pytest


def check_pair(
    pair: tuple[Enum, Enum],
    transitions: Mapping[Any, Enum],
    impossible: Mapping[Any, str],
    after: Callable[[Any, Any], Enum],
) -> None:
    """A pair has a successor, or else a reason why it cannot happen and an error if it does."""
    assert (pair in transitions) != (pair in impossible)
    if pair in transitions:
        assert after(*pair) is transitions[pair]
    else:
        assert impossible[pair]
        with pytest.raises(KeyError):
            after(*pair)


def reached(first: Enum, transitions: Mapping[Any, Enum]) -> set[Enum]:
    """Every state that the table leads to from the first one."""
    found = {first}
    while more := {transitions[pair] for pair in transitions if pair[0] in found} - found:
        found |= more
    return found


def name(pair: tuple[Enum, Enum]) -> str:
    """A test's name for a pair."""
    return f"{pair[0].name}-{pair[1].name}"
