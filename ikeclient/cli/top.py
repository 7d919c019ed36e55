"""`top`: all tunnels at a glance, as they go on."""

from __future__ import annotations

import sys
import time
from typing import Annotated

from ikeclient.cli.options import duration_option
from ikeclient.cli.status import collect
from ikeclient.cli.view import render
from ikeclient.cli.view.rates import Rates
from ikeclient.cli.view.terminal import emit, is_live, styled, until_interrupted, width

_FIRST_SECONDS = 0.5  # between the two looks that the first rates need


def top(
    interval: Annotated[
        float,
        duration_option("--interval", 0.1, 3600, text="How long between two looks.", default="1s"),
    ] = 1.0,
) -> None:
    """Show all tunnels with rates, round-trip time, rekeys and drops until Ctrl-C; once if stdout is no terminal."""
    rates = Rates()

    def lines() -> list[str]:
        tunnels = collect(None)
        rates.look(tunnels, time.monotonic())
        columns = width(sys.stdout)
        shown = [
            styled(line, sys.stdout)
            for tunnel in tunnels
            for line in (*render.top_lines(tunnel, rates.of(tunnel.name), columns), [])
        ]
        return shown[:-1] or [styled([("disconnected", "bad"), ("  no tunnel is running", "dim")], sys.stdout)]

    with until_interrupted():
        lines()
        time.sleep(min(interval, _FIRST_SECONDS))
        if is_live(sys.stdout):
            from ikeclient.cli.view.live import repeat

            repeat(lines, interval)
        else:
            for line in lines():
                emit(line)
