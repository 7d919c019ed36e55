"""Terminal policy, in one place.

Data goes to stdout, everything else to stderr. Colour and live displays only on a terminal, never under `NO_COLOR` or
on a dumb one. Text that came from a gateway or a file is made harmless before it is shown. Whoever stops reading our
standard error never ends a tunnel; whoever stops reading our standard output ends the command quietly.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, TextIO

import typer

from ikeclient.cli.context import settings
from ikeclient.cli.view.harmless import printable as printable
from ikeclient.control.events import failed, happened
from ikeclient.control.protocol import encode
from ikeclient.errors import IkeclientError, Interrupted, UsageError, output_failed

if TYPE_CHECKING:
    from ikeclient.cli.view.journal import Fields, Journal, Place

WIDTH = 80  # columns where there is no terminal
_NARROWEST, _WIDEST = 40, 200  # columns that a line is made for
_SPACIOUS = 60  # columns from which on no word need be broken at its hyphens
_SPAN = re.compile(r"`[^`]*`")
_PASTED = re.compile(
    r"ch(?:mod|own) \S+ \S+$|ch(?:mod|own) \S+ '"
)  # a command that people paste: the terminal breaks it

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


class Priority(IntEnum):
    """How much a line matters, as syslog counts it."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


def width(stream: TextIO | None) -> int:
    """Return how many columns a line may have: the terminal's, but from 40 to 200; 80 without a terminal."""
    columns = WIDTH
    with contextlib.suppress(OSError, ValueError):
        if stream is not None and is_terminal(stream):
            columns = os.get_terminal_size(stream.fileno()).columns or WIDTH
    return min(max(columns, _NARROWEST), _WIDEST)


def height(stream: TextIO | None) -> int:
    """Return how many rows the terminal has; 24 without one."""
    with contextlib.suppress(OSError, ValueError):
        if stream is not None:
            return os.get_terminal_size(stream.fileno()).lines or 24
    return 24


def wrapped(text: str, columns: int, *, cut: bool = False) -> list[str]:
    """Return a harmless line as one or more that fit; words and what stands in backquotes stay whole if they can.

    A word that is too long is left so, or `cut`.
    """
    whole = _SPAN.sub(lambda span: span[0].replace(" ", "\0") if len(span[0]) <= columns else span[0], text)
    lines = textwrap.wrap(whole, columns, break_long_words=cut, break_on_hyphens=cut and columns < _SPACIOUS)
    return [line.replace("\0", " ") for line in lines] or [""]


def in_journal() -> bool:
    """Return whether standard error is a stream to systemd's journal."""
    if not os.environ.get("JOURNAL_STREAM"):
        return False
    from ikeclient.cli.view.journal import is_journal

    return is_journal(sys.stderr)


@cache
def journal() -> Journal | None:
    """Return the way to journald, if standard error is a stream to it; ask once before rights are given up."""
    if not in_journal():
        return None
    from ikeclient.cli.view.journal import Journal

    return Journal.behind(sys.stderr)


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


def tell(
    text: str,
    *,
    end: str = "\n",
    priority: Priority = Priority.INFO,
    fields: Fields | None = None,
    place: Place | None = None,
) -> None:
    """Write one line for people to stderr. A closed or full stderr is ignored.

    The journal gets its priority, its `fields`, and the place in the code that it is from.
    """
    if (native := journal()) is not None and native.send(text, priority, fields or [], place):
        return
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            if in_journal():
                text = "\n".join(f"<{priority}>{line}" for line in text.split("\n"))
            sys.stderr.write(_encodable(text, sys.stderr) + end)
            sys.stderr.flush()


def say(text: str, style: str = "", *, label: str = "", priority: Priority = Priority.INFO) -> None:
    """Write a sentence to stderr, on a terminal wrapped at words. `style` is that of the label, if there is one.

    Where stderr is lines of JSON it is a `warning` or a `notice`.
    """
    if settings.json_errors:
        kind = "warning" if priority <= Priority.WARNING else "notice"
        tell(encode(happened(kind, text=text)).decode().rstrip("\n"), priority=priority)
        return
    for line in said(text, style, label=label):
        tell(line, priority=priority)


def said(text: str, style: str = "", *, label: str = "") -> list[str]:
    """Return the lines that `say` writes."""
    whole = f"{label}{printable(text)}"
    lines = wrapped(whole, width(sys.stderr) - 2) if is_terminal(sys.stderr) else [whole]
    if label and lines[0].startswith(label):
        first = styled([(label, style), (lines[0].removeprefix(label), "")], sys.stderr)
        return [first, *(f"  {line}" for line in lines[1:])]
    return [styled([("  " * bool(number) + line, style)], sys.stderr) for number, line in enumerate(lines)]


def warn(text: str) -> None:
    """Write one warning to stderr."""
    say(text, "busy", label="warning: ", priority=Priority.WARNING)


def show_error(error: IkeclientError) -> None:
    """Write the one to three lines of an error to stderr; a terminal that is too narrow has more.

    In the journal it is one entry.
    """
    first, *rest = error.lines()
    if (native := journal()) is not None:
        from ikeclient.cli.view.journal import fields_of

        entry = "\n  ".join([f"error: {printable(first)}", *map(printable, rest)])
        if native.send(entry, Priority.ERROR, fields_of(failed(error))):
            return
    say(first, "bad", label="error: ", priority=Priority.ERROR)
    for text in rest:
        whole = not is_terminal(sys.stderr) or _PASTED.match(text)
        for line in [printable(text)] if whole else wrapped(printable(text), width(sys.stderr) - 2):
            tell(f"  {line}", priority=Priority.ERROR)


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Let Ctrl-C end what goes on until then, quietly: it is not an error."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(Interrupted.exit_code) from None


def asker() -> Callable[[str], str] | None:
    """A function that shows a prompt and returns what was typed without echo; None when nobody is there to type."""
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        return None
    return _ask


def _ask(prompt: str) -> str:
    import getpass

    try:
        return getpass.getpass(printable(prompt), stream=sys.stderr)
    except (EOFError, KeyboardInterrupt):
        tell("")  # what follows is not to stand behind the prompt
        raise


def ask_line(prompt: str, default: str) -> str:
    """Ask a person for a line, with echo; Enter alone means `default`. Raises Interrupted after Ctrl-D."""
    tell(f"{printable(prompt)} [{printable(default)}]: ", end="")
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        tell("")
        raise Interrupted("interrupted")
    return line.strip() or default


async def answer_later(prompt: str) -> str:
    """Show a prompt and return what is typed without echo, while the event loop goes on.

    The terminal is as before afterwards, also if nobody waits for the answer any more. Raises UsageError at its end.
    """
    import asyncio
    import termios

    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)
    quiet = [*before[:3], before[3] & ~termios.ECHO | termios.ICANON, *before[4:]]
    readable = asyncio.Event()
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, quiet)
    loop.add_reader(descriptor, readable.set)
    try:
        tell(f"{printable(prompt)}: ", end="")
        await readable.wait()
        line = os.read(descriptor, 4 * _MAXIMUM_PASSWORD)
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        tell("")
    if not line:
        raise UsageError("no answer given", reason="the prompt was left with Ctrl-D")
    if not line.strip(b"\r\n"):
        raise UsageError("no answer given", reason="the line that was typed is empty")
    return line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")


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
            raise UsageError("no password given", reason="the prompt was left with Ctrl-D") from None
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
