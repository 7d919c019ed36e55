"""A few random upheavals; `scripts/chaos` has as many as wanted."""

from __future__ import annotations

import os

import pytest
from lab.chaos import Chaos
from lab.world import Lab

pytestmark = pytest.mark.waits


def test_a_tunnel_survives_upheavals_in_random_order(lab: Lab) -> None:
    """O3, O4, O18, O21, S16, F16: it carries packets again after each, nothing leaves, and all is given back."""
    seed = int.from_bytes(os.urandom(4))
    assert Chaos(lab, seed, print).run(4, quick=True) == [], f"scripts/chaos 4 --seed {seed}"
