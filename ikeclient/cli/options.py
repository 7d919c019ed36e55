"""Options that several commands have, in the same words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ikeclient.cli.context import LogFormat

_DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m(?:in)?)?(?:(\d{1,9}(?:\.\d{1,9})?)s?)?")
_UNITS = (86400, 3600, 60, 1)


def duration(minimum: float, maximum: float) -> Callable[[Any], float]:
    """Return what reads a duration in seconds: `90`, `1.5`, `90s`, `1m`, `1h30m`; from `minimum` to `maximum`."""

    def parse(given: Any) -> float:
        if isinstance(given, int | float):  # a default
            return float(given)
        text = str(given).strip().lower()
        match = _DURATION.fullmatch(text)
        if match is None or not any(match.groups()):
            raise typer.BadParameter(f"'{given}' is not a duration such as 30, 90s, 1m or 1h30m")
        seconds = sum(float(count or 0) * unit for count, unit in zip(match.groups(), _UNITS, strict=True))
        if not minimum <= seconds <= maximum:
            raise typer.BadParameter(f"'{given}' is not from {_short(minimum)} to {_short(maximum)}")
        return seconds

    return parse


def _short(seconds: float) -> str:
    for length, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= length and not seconds % length:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:g}s"


def duration_option(name: str, minimum: float, maximum: float, *, text: str, default: str | bool) -> Any:
    """Return the option of a length of time; `default` is what help shows for it, or false."""
    return typer.Option(name, metavar="TIME", parser=duration(minimum, maximum), help=text, show_default=default)


Timeout = Annotated[
    float,
    duration_option("--timeout", 1, 3600, text="How long to try for the first connection, such as 1m.", default="30s"),
]
RetryFirst = Annotated[
    bool,
    typer.Option(
        "--retry-first",
        help="Try for the first connection until it is up, as at boot before the network; refused credentials end it.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key; repeatable.", show_default=False),
]
ChosenLogFormat = Annotated[
    LogFormat | None,
    typer.Option(
        "--log-format", metavar="text|json", help="What stderr is: lines of text or of JSON.", show_default="text"
    ),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        help="Say more: -v every message and decision of IKE, -vv lengths and timers, -vvv libraries.",
        show_default=False,
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics", metavar="[HOST:]PORT", help="Tell metrics there over HTTP [127.0.0.1].", show_default=False
    ),
]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password (or PSK) from the first line of standard input.")
]


def metrics_address(text: str | None) -> tuple[str, int] | None:
    """Return where metrics are to be told, None for nowhere. Raises UsageError."""
    if text is None:
        return None
    from ikeclient.control.http_listener import parse_address

    return parse_address(text)
