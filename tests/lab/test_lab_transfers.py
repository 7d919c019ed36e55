"""Transfers through the stack while everything below changes; `scripts/transfers` has as many as wanted."""

from __future__ import annotations

import os

import pytest
from lab.network import Topology
from lab.transfers import Transfers
from lab.world import MakeLab

pytestmark = [pytest.mark.waits, pytest.mark.extended, pytest.mark.timeout(900)]


def test_every_byte_arrives_once(make_lab: MakeLab) -> None:
    lab = make_lab(Topology(impaired=True))
    seed = int.from_bytes(os.urandom(4))
    transfers = Transfers(lab, seed, print)
    assert transfers.run(150) == [], f"scripts/transfers 150 --seed {seed}"
    assert transfers.upheavals.total() > 3
