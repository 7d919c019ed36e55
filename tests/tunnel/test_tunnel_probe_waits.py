"""How long `probe` waits for a port that stays silent."""

from __future__ import annotations

import pytest

from ikeclient.tunnel.probe import PATIENCE, waits


@pytest.mark.parametrize("patience", [0.1, 0.9, 1.0, 1.4, 1.5, PATIENCE, 30.0, 3600.0])
def test_the_waits_together_are_what_was_asked_for(patience: float) -> None:
    found = list(waits(patience))
    assert sum(found) == pytest.approx(patience)
    assert max(found) <= 6.0
    assert found == sorted(found[:-1]) + found[-1:]
