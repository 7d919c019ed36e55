"""What takes minutes to make, such as a root of Debian, and is kept for later runs."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path


def kept(place: Path, make: Callable[[Path], None]) -> Path:
    """Return the directory `place`, filled by `make` if it is not there whole; others wait meanwhile."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{place}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "ready").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            make(place)
            (place / "ready").touch()
    return place
