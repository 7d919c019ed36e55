"""Makes the simulation importable from here, whatever part of the tests is run."""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
for _directory in ("eap", "sim"):
    if str(_TESTS / _directory) not in sys.path:
        sys.path.append(str(_TESTS / _directory))
