"""What builds a release: one environment with pinned tools, and a few words that all parts share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ikeclient-release"
LOCK = ROOT / "release/requirements.txt"  # what is shipped, with hashes
PLUGIN = ROOT / "release/networkmanager.txt"  # what NetworkManager's plugin needs besides, likewise
TOOLS = ROOT / "release/tools.txt"  # what builds it, with hashes


class ReleaseError(Exception):
    """It cannot be made, or is not what it should be."""


def say(line: str) -> None:
    """Tell the person."""
    print(line, file=sys.stderr, flush=True)


def run(*argv: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, seconds: float = 1800) -> str:
    """Run a program; its output, or ReleaseError with what it said."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-3000:]
        raise ReleaseError(f"{' '.join(words[:8])}: exit {done.returncode}\n{said}")
    return done.stdout


def kept(place: Path, make: Callable[[Path], None]) -> Path:
    """The directory `place`, filled by `make` if it is not there whole, and kept; others wait meanwhile."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{place}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "ready").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            make(place)
            (place / "ready").touch()
    return place


def python() -> Path:
    """The interpreter of the environment with the build tools, made when the lock file says something new."""
    return kept(CACHE / f"tools-{digest(TOOLS.read_text(), sys.version)}", _build_tools) / "bin/python"


def _build_tools(place: Path) -> None:
    say("fetching the build tools")
    run(sys.executable, "-m", "venv", place)
    pip = (place / "bin/python", "-m", "pip", "-q", "install", "--disable-pip-version-check")
    run(*pip, "--require-hashes", "--only-binary", ":all:", "--no-deps", "-r", TOOLS)


def resolver() -> Path:
    """The program that resolves dependencies for all platforms at once."""
    place = CACHE / "resolver"
    if not (place / "bin/uv").exists():
        run(sys.executable, "-m", "venv", "--clear", place)
        run(place / "bin/python", "-m", "pip", "-q", "install", "--disable-pip-version-check", "uv>=0.9")
    return place / "bin/uv"


def digest(*parts: str) -> str:
    """A short name for a state of something."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def commit_time() -> int:
    """When the sources were written, which is the time of every file that is made (SOURCE_DATE_EPOCH)."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if told:
        return int(told)
    if (ROOT / ".git").exists():
        return int(run("git", "-C", ROOT, "log", "-1", "--format=%ct"))
    return int((ROOT / "pyproject.toml").stat().st_mtime)  # an unpacked source distribution has it from its archive


def environment() -> dict[str, str]:
    """The caller's, without what would make two builds differ."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "CFLAGS"))}
    return {
        **kept,
        "SOURCE_DATE_EPOCH": str(commit_time()),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def scratch(name: str) -> tempfile.TemporaryDirectory[str]:
    """A directory for a while."""
    return tempfile.TemporaryDirectory(prefix=f"ikeclient-{name}-")
