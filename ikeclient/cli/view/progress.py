"""How `connect` shows what it is doing: a line per step on stderr.

On a terminal the step that is going on stands at the bottom and is completed in place with the time it took. Elsewhere
each step is the event itself as a line of JSON, for whoever collects logs, or a plain line where that was asked for.
There is no thread and no timer: a display that could delay or end the tunnel it talks about would be worse than none.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from ikeclient.cli.context import settings
from ikeclient.cli.view.render import event_line, sentence
from ikeclient.cli.view.terminal import WIDTH, is_live, is_terminal, printable, show_error, styled, symbol, tell, warn
from ikeclient.control.events import QUIET, STEPS, happened, timestamp
from ikeclient.control.protocol import encode
from ikeclient.errors import UsageError

if TYPE_CHECKING:
    from ikeclient.process.tunnel_request import Display

_ERASE = "\r\x1b[K"


class LogFormat(StrEnum):
    """What the lines on stderr are."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


VARIABLE = "IKECLIENT_LOG_FORMAT"


def chosen_format(option: LogFormat | None) -> LogFormat:
    """Return TEXT or JSON: what `--log-format` says, else `IKECLIENT_LOG_FORMAT`; `auto` is TEXT on a terminal only.

    Raises UsageError for another word in the variable.
    """
    written = os.environ.get(VARIABLE) or LogFormat.AUTO
    try:
        form = option or LogFormat(written)
    except ValueError:
        choices = ", ".join(LogFormat)
        raise UsageError(f"{VARIABLE} must be one of {choices}, not {printable(written, 40)}") from None
    if form is LogFormat.AUTO:
        return LogFormat.TEXT if is_terminal(sys.stderr) else LogFormat.JSON
    return form


class Progress:
    """Takes the tunnel's events and shows them. Never raises. `form` is TEXT or JSON."""

    def __init__(self, form: LogFormat, verbosity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._form = form
        self._verbosity = verbosity
        self._clock = clock
        self.live = form is LogFormat.TEXT and is_live(sys.stderr)
        self._step: str | None = None
        self._began = 0.0
        self._connected = False

    def __call__(self, event: Mapping[str, object]) -> None:
        """Show one event."""
        name = event.get("event")
        if self._form is LogFormat.JSON:
            tell(encode(event if "time" in event else {**event, "time": timestamp()}).decode().rstrip("\n"))
        elif name in QUIET and not self._verbosity:
            return
        elif self.live and name in STEPS:
            self._begin(sentence(event))
        elif name == "connected":
            self.done()
            self._connected = True
            self.line(styled([(sentence(event), "good")], sys.stderr))
        elif name in STEPS:
            tell(sentence(event))
        else:
            style = "busy" if name in {"reconnecting", "warning"} else ""
            text = event_line(event) if self._connected else sentence(event)
            self.line(styled([(text, style)], sys.stderr))

    def line(self, text: str) -> None:
        """Show a line of its own; the step that is going on moves below it."""
        tell((_ERASE if self._step is not None else "") + text)
        if self._step is not None:
            self._draw()

    def log(self, text: str) -> None:
        """Show a line of the log."""
        if self._form is LogFormat.JSON:
            self(happened("log", text=text))
        else:
            self.line(text)

    def _begin(self, text: str) -> None:
        self.done()
        self._step, self._began = text, self._clock()
        self._draw()

    def _draw(self) -> None:
        mark = symbol("\u2022", "*", sys.stderr)
        tell(styled([(f"{mark} ", "busy"), ((self._step or "")[: WIDTH - 3], "")], sys.stderr), end="")

    def done(self) -> None:
        """Mark the step that was going on as complete."""
        if self._step is not None:
            took = f"  {1000 * (self._clock() - self._began):.0f} ms"
            mark = symbol("\u2713", "+", sys.stderr)
            tell(_ERASE + styled([(f"{mark} ", "good"), (self._step, ""), (took, "dim")], sys.stderr))
            self._step = None

    def failed(self) -> None:
        """Mark the step that was going on as failed."""
        if self._step is not None:
            mark = symbol("\u2717", "x", sys.stderr)
            tell(_ERASE + styled([(f"{mark} ", "bad"), (self._step, "")], sys.stderr))
            self._step = None


def display_of(show: Callable[[Mapping[str, object]], None]) -> Display:
    """Return what shows events by `show`, and all else on stderr, for processes that know nothing of terminals."""
    from ikeclient.process.tunnel_request import Display

    return Display(show=show, line=event_line, warn=warn, error=show_error, verbosity=settings.verbosity)
