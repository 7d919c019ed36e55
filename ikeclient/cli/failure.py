"""What a person sees of a bug in ikeclient: one sentence and a place to find the rest (`process.bug_report`)."""

from __future__ import annotations

from ikeclient.cli.context import settings
from ikeclient.cli.view.terminal import tell
from ikeclient.errors import IkeclientError, bug_error


def unexpected(error: BaseException) -> IkeclientError:
    """Return the error to show for a bug. Its traceback goes to a private file, or with `--debug` to stderr."""
    from ikeclient.process.bug_report import outline, write

    text = outline(error)
    path = None if settings.debug else write(text)
    if path is None:
        tell(text.rstrip("\n"))
    return bug_error(error, f"the traceback is in {path}" if path else "the traceback is above")
