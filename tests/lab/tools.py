"""Programs from PyPI that a test uses and the project does not need: each set in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lab.client import REPOSITORY


def programs(name: str, *packages: str) -> Path:
    """The directory with the programs of these packages, installed below build/NAME if they are not there yet."""
    place = REPOSITORY / "build" / name / "venv"
    installed = place / "packages"
    wanted = "\n".join(packages)
    if not installed.exists() or installed.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, timeout=120)
        subprocess.run([place / "bin" / "pip", "install", "-q", *packages], check=True, timeout=300)
        installed.write_text(wanted)
    return place / "bin"
