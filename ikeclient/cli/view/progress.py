"""How `connect` shows what it is doing: a line per step on stderr.

On a terminal the step that is going on stands at the bottom and is completed in place with the time it took. Elsewhere
each step is a plain line with its time, which the journal adds by itself, or if that was asked for the event as a line
of JSON. There is no thread and no timer: a display that could delay or end the tunnel it talks about would be worse
than none.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from ikeclient.cli.context import LogFormat, settings
from ikeclient.cli.view.render import event_line, sentence
from ikeclient.cli.view.terminal import (
    Priority,
    answer_later,
    in_journal,
    is_live,
    is_terminal,
    journal,
    printable,
    said,
    show_error,
    styled,
    symbol,
    tell,
    warn,
    width,
)
from ikeclient.control.events import QUIET, STEPS, failed, happened, timestamp
from ikeclient.control.protocol import encode
from ikeclient.errors import IkeclientError, Interrupted, UsageError

if TYPE_CHECKING:
    from ikeclient.cli.view.journal import Fields, Place
    from ikeclient.process.tunnel_request import Display

_ERASE = "\r\x1b[K"


VARIABLE = "IKECLIENT_LOG_FORMAT"


def chosen_format(option: LogFormat | None) -> LogFormat:
    """Return TEXT or JSON: what `--log-format` says, else `IKECLIENT_LOG_FORMAT`; `auto` is TEXT.

    Raises UsageError for another word in the variable.
    """
    written = os.environ.get(VARIABLE) or LogFormat.AUTO
    try:
        form = option or LogFormat(written)
    except ValueError:
        choices = ", ".join(LogFormat)
        raise UsageError(f"{VARIABLE} must be one of {choices}, not {printable(written, 40)}") from None
    return LogFormat.JSON if form is LogFormat.JSON else LogFormat.TEXT


_PRIORITIES = {
    "error": Priority.ERROR,
    "warning": Priority.WARNING,
    "reconnecting": Priority.WARNING,
    "retrying": Priority.NOTICE,
    "notice": Priority.NOTICE,
    "connected": Priority.NOTICE,
    "disconnected": Priority.NOTICE,
}
_LEVELS = {
    "critical": Priority.ERROR,
    "error": Priority.ERROR,
    "warning": Priority.WARNING,
    "debug": Priority.DEBUG,
}
_MOST_TOLD = 256  # notices that are remembered, so that each is told once for one cause
_BURST = 0.5  # seconds in which the same words are about the same occurrence


def use_format(option: LogFormat | None) -> LogFormat:
    """Return what `chosen_format` does, and have everything else on stderr written so as well."""
    form = chosen_format(option or settings.log_format)
    settings.write(form)
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
        self._connected = self._ended = False  # the tunnel has said so
        self._told: dict[str, float] = {}
        self._journal = journal()  # while it can be opened: later this process may have no rights

    def __call__(self, event: Mapping[str, object]) -> None:
        """Show one event."""
        name = str(event.get("event"))
        priority = _PRIORITIES.get(name, Priority.INFO)
        self._connected |= name == "connected"
        self._ended = self._connected and name == "disconnected"
        if self._is_repeated(name, event):
            return
        if self._form is LogFormat.JSON:
            tell(
                encode(event if "time" in event else {**event, "time": timestamp()}).decode().rstrip("\n"),
                priority=priority,
                fields=self._fields(event),
            )
        elif name in QUIET and not self._verbosity:
            return
        elif self.live and name in STEPS:
            self._begin(sentence(event))
        elif name == "connected":
            self.done()
            self._line(event, "good", priority)
        elif name == "retrying":
            self.failed()
            self._line(event, "busy", priority)
        elif self.live and name == "disconnected":
            tell(_ERASE + sentence(event), priority=priority)  # over the `^C` that the terminal shows
        else:
            self._line(event, "busy" if name in {"reconnecting", "warning"} else "", priority)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Mark the step that was going on as failed if the block raises.

        Ctrl-C is how a tunnel in the foreground is meant to end: after it has, the command says no more, and ends with
        the exit code of an interruption.
        """
        try:
            yield
        except BaseException as error:
            self.failed()
            if isinstance(error, Interrupted) and self._ended:
                raise typer.Exit(error.exit_code) from None
            raise

    async def ask(self, prompt: str) -> str:
        """Put a question to the person at the terminal; the step that is going on moves below it."""
        if self._step is not None:
            tell(_ERASE, end="")
        try:
            return await answer_later(prompt)
        finally:
            if self._step is not None:
                self._draw()

    def _is_repeated(self, name: str, event: Mapping[str, object]) -> bool:
        """Whether this is a notice that was told a moment ago, with nothing else since then."""
        if name not in {"notice", "warning"}:
            if name != "log":
                self._told.clear()
            return False
        text, now = str(event.get("text")), self._clock()
        repeated = now - self._told.get(text, -_BURST) < _BURST
        if repeated or len(self._told) < _MOST_TOLD:
            self._told[text] = now
        return repeated

    def _line(self, event: Mapping[str, object], style: str, priority: Priority) -> None:
        """Show an event with its time, unless somebody watches it happen, or the journal knows the time."""
        watched = is_terminal(sys.stderr) and (not self._connected or event.get("event") == "connected")
        if watched or in_journal():
            text = sentence(event)
        else:
            text = event_line(event if "time" in event else {**event, "time": timestamp()})
        self.line(text, style, priority, self._fields(event))

    def _fields(self, event: Mapping[str, object]) -> Fields:
        """What the journal knows of an event by name; from the first of a tunnel on, whose the other lines are."""
        if self._journal is None:
            return []
        from ikeclient.cli.view.journal import fields_of

        if event.get("tunnel") is not None:
            self._journal.be_about(printable(event["tunnel"]))
        return fields_of(event)

    def line(
        self,
        text: str,
        style: str = "",
        priority: Priority = Priority.INFO,
        fields: Fields | None = None,
        place: Place | None = None,
    ) -> None:
        """Show a line of its own; the step that is going on moves below it."""
        first, *rest = said(text, style)
        tell((_ERASE if self._step is not None else "") + first, priority=priority, fields=fields, place=place)
        for line in rest:
            tell(line, priority=priority)
        if self._step is not None:
            self._draw()

    def log(self, text: str, place: Place | None = None) -> None:
        """Show a line of the log, from that place in the code."""
        if self._form is LogFormat.JSON:
            self(happened("log", text=text))
        elif is_terminal(sys.stderr) or in_journal():
            self.line(text, priority=_LEVELS.get(text.partition(":")[0], Priority.INFO), place=place)
        else:
            self.line(f"{timestamp()}  {text}")

    def _begin(self, text: str) -> None:
        self.done()
        self._step, self._began = text, self._clock()
        self._draw()

    def _draw(self) -> None:
        mark = symbol("\u2022", "*", sys.stderr)
        tell(styled([(f"{mark} ", "busy"), ((self._step or "")[: width(sys.stderr) - 3], "")], sys.stderr), end="")

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


def tell_failure(error: IkeclientError) -> None:
    """Show an error on stderr, as text or as a line of JSON."""
    if settings.json_errors:
        event = failed(error)
        fields = None
        if journal() is not None:
            from ikeclient.cli.view.journal import fields_of

            fields = fields_of(event)
        tell(encode(event).decode().rstrip("\n"), priority=Priority.ERROR, fields=fields)
    else:
        show_error(error)


def display_of(progress: Progress, show: Callable[[Mapping[str, object]], None]) -> Display:
    """Return what shows events by `show`, and all else on stderr, for processes that know nothing of terminals."""
    from ikeclient.process.tunnel_request import Display

    def error(failure: IkeclientError) -> None:
        progress.failed()
        tell_failure(failure)

    return Display(show=show, line=event_line, warn=warn, error=error, verbosity=settings.verbosity)
