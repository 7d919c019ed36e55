"""Try what was made, each in a clean root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def run(out: Path, only: Sequence[str]) -> int:
    """Every check, or those named; an exit code."""
    raise NotImplementedError
