"""Where it stands what is closed: a file for each tunnel, in the directory of its journal. `store` reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

SUFFIX = ".block.json"


def any_in(directories: Iterable[Path]) -> bool:
    """Return whether there is such a file, whatever is in it."""
    return any(map(file_names, directories))


def file_names(directory: Path) -> list[str]:
    """Return the names of these files in a directory; none if it cannot be read."""
    try:
        return sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))
    except OSError:
        return []
