"""The targets of `scripts/fuzz` run, and a few cases of each pass: so that they do not rot between two long runs.

C12, C17, E3, E11, E12, F1, F2, K2, K7, K11, K12, N2, N6, O15, P10, S4, S11 are about such input.
"""

from __future__ import annotations

import fuzz
import pytest


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_a_target_runs(name: str) -> None:
    for number in range(300):
        fuzz.run(name, f"{name} {number}")
