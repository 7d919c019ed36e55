"""Terminal policy, in one place.

Data goes to stdout, everything else to stderr. Colour and live displays only on a terminal, never under `NO_COLOR` or
on a dumb one. Text that came from a gateway or a file is made harmless before it is shown. Whoever stops reading our
standard error never ends a tunnel; whoever stops reading our standard output ends the command quietly.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from typing import TextIO

from ikeclient.errors import IkeclientError, UsageError, output_failed

WIDTH = 80

_STYLES = {
    "": "",
    "good": "\x1b[32m",
    "busy": "\x1b[33m",
    "bad": "\x1b[31m",
    "strong": "\x1b[1m",
    "dim": "\x1b[2m",
}
_RESET = "\x1b[0m"
_MAXIMUM_PASSWORD = 4096

Segments = Iterable[tuple[str, str]]  # text and its style, a key of `_STYLES`


def is_live(stream: TextIO | None) -> bool:
    """Return whether colour and lines that change belong on `stream`."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether `stream` is a terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def styled(segments: Segments, stream: TextIO | None) -> str:
    """Return the segments as one string, coloured if `stream` is for colour."""
    if not is_live(stream):
        return "".join(text for text, _ in segments)
    return "".join(f"{_STYLES[style]}{text}{_RESET}" if style else text for text, style in segments)


def symbol(wanted: str, plain: str, stream: TextIO | None) -> str:
    """Return `wanted` if the stream's encoding has it, else `plain`."""
    try:
        wanted.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return plain
    return wanted


def printable(text: object, limit: int = 1024) -> str:
    """Return `text` as one line that cannot steer a terminal: control and format characters are escaped."""
    string = str(text)
    shown = string[:limit] + ("..." if len(string) > limit else "")
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in shown)


def emit(text: str) -> None:
    """Write one line of data to stdout, at once.

    Raises BrokenPipeError, which ends the command quietly, and PlatformError if stdout takes no more.
    """
    if sys.stdout is not None:
        try:
            sys.stdout.write(_encodable(text, sys.stdout) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise output_failed(error) from None


def tell(text: str, *, end: str = "\n") -> None:
    """Write one line for people to stderr. A closed or full stderr is ignored."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(_encodable(text, sys.stderr) + end)
            sys.stderr.flush()


def warn(text: str) -> None:
    """Write one warning to stderr."""
    tell(styled([("warning: ", "busy"), (printable(text), "")], sys.stderr))


def show_error(error: IkeclientError) -> None:
    """Write the one to three lines of an error to stderr."""
    first, *rest = (printable(line) for line in error.lines())
    tell(styled([("error: ", "bad"), (first, "")], sys.stderr))
    for line in rest:
        tell(f"  {line}")


def asker() -> Callable[[str], str] | None:
    """A function that shows a prompt and returns what was typed without echo; None when nobody is there to type."""
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        return None
    return _ask


def _ask(prompt: str) -> str:
    import getpass

    return getpass.getpass(printable(prompt), stream=sys.stderr)


def read_secret() -> str:
    """A secret from the first line of standard input (`--password-stdin`); typed without echo on a terminal.

    Bytes that are not UTF-8 become surrogates. Raises UsageError when there is nothing.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("no password given", reason="standard input is closed")
    if ask := asker():
        try:
            secret = ask("Password: ")
        except EOFError:
            secret = ""
    else:
        # Unbuffered, because what follows the line may be for a program that is run.
        line = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer).readline(_MAXIMUM_PASSWORD + 2).rstrip(b"\r\n")
        if len(line) > _MAXIMUM_PASSWORD:
            raise UsageError(f"the password is longer than {_MAXIMUM_PASSWORD} bytes")
        secret = line.decode("utf-8", "surrogateescape")
    if not secret:
        raise UsageError("no password given", reason="the first line of standard input is empty")
    return secret


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
