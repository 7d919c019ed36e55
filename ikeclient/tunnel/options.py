"""How one run of a tunnel differs from another with the same profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """`timeout` is for the first attempt, in seconds; `keylog` a directory for keys in Wireshark's formats."""

    name: str
    timeout: float
    keylog: Path | None
    runtime_directory: Path
    verbosity: int = 0
