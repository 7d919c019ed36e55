"""What the global options chose. One command runs per process, so one object for all modules is enough."""

from __future__ import annotations

from enum import StrEnum

from ikeclient.lazy_dataclass import dataclass


class LogFormat(StrEnum):
    """What the lines on stderr are."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


@dataclass(slots=True)
class Settings:
    """`verbosity` counts -v: 1 shows the protocol, 2 its details, 3 libraries. `debug` shows tracebacks of bugs.

    `log_format` is what the global option said; `json_errors`: stderr is lines of JSON, so errors are too.
    """

    verbosity: int = 0
    debug: bool = False
    log_format: LogFormat | None = None
    json_errors: bool = False

    def choose(self, *, verbosity: int, debug: bool, log_format: LogFormat | None) -> None:
        """Take what the global options say."""
        self.verbosity, self.debug, self.log_format = verbosity, debug, log_format

    def say_more(self, verbosity: int) -> None:
        """Count further -v, those behind the command."""
        self.verbosity += verbosity

    def write(self, form: LogFormat) -> None:
        """Write stderr in this form."""
        self.json_errors = form is LogFormat.JSON

    def reset(self) -> None:
        """Back to the defaults, for a process that runs several commands (tests)."""
        self.verbosity, self.debug, self.log_format, self.json_errors = 0, False, None, False


settings = Settings()
