"""What the global options chose. One command runs per process, so one object for all modules is enough."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Settings:
    """`verbosity` counts -v: 1 shows notices, 2 the log, 3 all of it. `debug` shows tracebacks of bugs.

    `json_errors`: stderr is a log in lines of JSON, so errors are too.
    """

    verbosity: int = 0
    debug: bool = False
    json_errors: bool = False

    def reset(self) -> None:
        """Back to the defaults, for a process that runs several commands (tests)."""
        self.verbosity, self.debug, self.json_errors = 0, False, False


settings = Settings()
