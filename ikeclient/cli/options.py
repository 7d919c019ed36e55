"""Options that several commands have, in the same words."""

from __future__ import annotations

from typing import Annotated

import typer

from ikeclient.cli.view.progress import LogFormat

Timeout = Annotated[
    float, typer.Option("--timeout", metavar="S", min=1, max=3600, help="Seconds for the first attempt.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key; repeatable.", show_default=False),
]
ChosenLogFormat = Annotated[
    LogFormat | None,
    typer.Option("--log-format", help="What stderr is; auto: JSON lines unless a terminal.", show_default="auto"),
]
