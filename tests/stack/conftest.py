"""Makes the packets of the ESP tests and the namespaces of the machine tests importable from here."""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
for _directory in ("esp", "net", "stack"):
    if str(_TESTS / _directory) not in sys.path:
        sys.path.append(str(_TESTS / _directory))
