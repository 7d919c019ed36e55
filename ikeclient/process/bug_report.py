"""What is kept of a bug in ikeclient: where it happened and what kind of exception it was.

The exception's message is left out, because it may quote a secret.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path

from ikeclient import __version__
from ikeclient.control.directory import prepare, runtime_directory
from ikeclient.errors import IkeclientError
from ikeclient.nofollow import create_file


def outline(error: BaseException) -> str:
    """Return the traceback and those of its causes without the messages of the exceptions.

    An OSError keeps the words of the operating system, an ImportError the name of what is missing.
    """
    pieces = [f"ikeclient {__version__}, Python {sys.version.split()[0]}\n"]
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        pieces += traceback.format_tb(current.__traceback__)
        pieces.append(f"{type(current).__module__}.{type(current).__qualname__}{_harmless(current)}\n")
        following = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        if following is not None:
            pieces.append("\nbecause of\n")
        current = following
    return "".join(pieces)


def _harmless(error: BaseException) -> str:
    match error:
        case OSError(errno=int() as number):
            return f": {os.strerror(number)}"
        case ImportError():
            return f": {error}"
    return ""


def write(text: str) -> Path | None:
    """Write a description into a private file; None if there is no place for it, or no right to write there."""
    path = runtime_directory() / "crash.log"
    with contextlib.suppress(OSError, IkeclientError):
        prepare(path.parent)
        path.unlink(missing_ok=True)
        with create_file(path) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
        return path
    return None
