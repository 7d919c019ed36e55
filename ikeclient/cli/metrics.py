"""`metrics`: the running tunnels in the format that Prometheus reads, for a pipe or for node_exporter's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ikeclient.cli.complete import tunnel_names
from ikeclient.cli.status import collect
from ikeclient.cli.store import write_file
from ikeclient.cli.view.terminal import emit
from ikeclient.control import client


def metrics(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The tunnel.", show_default="all", autocompletion=tunnel_names)
    ] = None,
    textfile: Annotated[
        Path | None,
        typer.Option(
            "--textfile",
            metavar="FILE",
            help="Write FILE instead, whole or not at all, for node_exporter.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print what running tunnels count, as Prometheus reads it. Exits with 8 when NAME does not run.

    A tunnel started with --metrics tells its own over HTTP.
    """
    from ikeclient.control.metrics import render

    tunnels = [each for each in collect(name) if each.watch is None or each.state != "disconnected"]
    if name is not None and not tunnels:
        client.resolve(name)
    text = render(tunnels)
    if textfile is None:
        emit(text.removesuffix("\n"))
    else:
        write_file(textfile.expanduser(), text.encode(errors="replace"), mode=0o644, force=True)
