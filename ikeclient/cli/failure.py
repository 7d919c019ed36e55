"""What a person sees of a bug in ikeclient: one sentence and a place to find the rest.

The rest is where it happened and what kind of exception it was. Its message is left out, because it may quote a secret.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path

from ikeclient import __version__
from ikeclient.cli.context import settings
from ikeclient.cli.journal import CappedFile
from ikeclient.cli.view.terminal import tell
from ikeclient.control.directory import prepare, runtime_directory
from ikeclient.errors import IkeclientError, bug_error


def unexpected(error: BaseException, *, log: CappedFile | None = None) -> IkeclientError:
    """The error to show for a bug. Its traceback goes to `log`, or with `--debug` to stderr, or to a private file."""
    text = outline(error)
    if log is not None:
        log.line(text.rstrip("\n"))
        where = f"the traceback is in {log.path}"
    elif settings.debug:
        tell(text.rstrip("\n"))
        where = "the traceback is above"
    else:
        path = _write(text)
        if path is None:  # there is no place for it, or we gave up the right to write there
            tell(text.rstrip("\n"))
        where = f"the traceback is in {path}" if path else "the traceback is above"
    return bug_error(error, where)


def outline(error: BaseException) -> str:
    """The traceback and those of its causes without the messages of the exceptions.

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


def _write(text: str) -> Path | None:
    path = runtime_directory() / "crash.log"
    with contextlib.suppress(OSError, IkeclientError):
        prepare(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return path
    return None
