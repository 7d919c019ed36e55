"""`events`: what happens to a tunnel, as it happens."""

from __future__ import annotations

from typing import Annotated

import typer

from ikeclient.cli.tunnels import Name
from ikeclient.cli.view.render import event_line
from ikeclient.cli.view.terminal import emit, until_interrupted
from ikeclient.control import client
from ikeclient.control.protocol import encode


def events(
    name: Name = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show a line per event of a tunnel until it ends or Ctrl-C."""
    with until_interrupted(), client.events(client.resolve(name)) as stream:
        for event in stream:
            emit(encode(event).decode().rstrip("\n") if as_json else event_line(event))
