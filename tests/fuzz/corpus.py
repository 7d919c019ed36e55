"""The corpus: a few inputs of each target that between them reach all lines that a search reached, as hexadecimal.

One input a line; a line that begins with `#` is a comment.
"""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import ikeclient
from fuzz.target import Target

DIRECTORY = Path(__file__).parent / "corpus"
MOST_BYTES = 6_000  # of a target's inputs together
LONGEST = 1_500  # bytes of one input
_PACKAGE = str(Path(ikeclient.__file__).parent)

Line = tuple[str, int]


def path_of(target: Target) -> Path:
    """Return where the corpus of a target is; there need not be one."""
    return DIRECTORY / f"{target.name.replace(' ', '-')}.hex"


def read(path: Path) -> list[bytes]:
    """Return the inputs in a file; none if it is not there."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    return [bytes.fromhex(line) for line in lines if not line.startswith("#")]


def write(path: Path, inputs: Iterable[bytes], comments: Sequence[str]) -> None:
    """Write inputs into a file, below comments."""
    text = "".join(f"# {line}\n" for comment in comments for line in _wrapped(ascii(comment)[1:-1]) or [""])
    path.write_text(text + "".join(f"{data.hex()}\n" for data in inputs), encoding="ascii")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 116, break_on_hyphens=False)


def lines_of(target: Target, data: bytes) -> frozenset[Line]:
    """Return the lines of the package that reading `data` runs."""
    found: set[Line] = set()

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            found.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def entered(frame: FrameType, event: str, _: Any) -> Any:
        del event
        return local if frame.f_code.co_filename.startswith(_PACKAGE) else None

    former = sys.gettrace()
    sys.settrace(entered)
    try:
        with contextlib.suppress(*target.errors):
            target.check(data)
    finally:
        sys.settrace(former)
    return frozenset(found)


def distilled(target: Target, inputs: Iterable[bytes]) -> list[bytes]:
    """Return the few of these inputs that reach what all of them reach, the shortest first."""
    reached: set[Line] = set()
    for seed in target.seeds():
        reached |= lines_of(target, seed)
    found, size = [], 0
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        if len(data) > LONGEST or size + len(data) > MOST_BYTES:
            continue
        if new := lines_of(target, data) - reached:
            reached |= new
            found.append(data)
            size += len(data)
    return found
