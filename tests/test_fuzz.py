"""The targets of `scripts/fuzz` run, and a few cases of each pass: so that they do not rot between two long runs."""

from __future__ import annotations

from random import Random

import fuzz
import pytest


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_a_target_runs(name: str) -> None:
    for number in range(300):
        fuzz.TARGETS[name](Random(f"{name} {number}"))
