"""Fixtures of the machine tests; what they are made of is in `net_lab`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from net_lab import Lan, a_lan


@pytest.fixture
def lan() -> Iterator[Lan]:
    if os.geteuid() != 0:
        pytest.skip("needs root to make network namespaces")
    with a_lan() as made:
        yield made


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"
