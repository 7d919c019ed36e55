"""Damaged and odd input for everything that reads what others wrote; `targets.py` has the table of it all.

An input is bytes. A target says what reads them, which errors are documented, and how a valid input is damaged so that
the damage gets past lengths, checksums and MACs. A worker (`worker.py`) makes inputs from the seeds and the corpus,
keeps those with a new outcome to go on from, and looks for other errors, for slow ones and for memory that grows.
`__main__.py` shares the time among workers, and sees those that hang or crash.
"""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(_TESTS / name) for name in ("eap", "sim", "profile", "stack") if str(_TESTS / name) not in sys.path]
