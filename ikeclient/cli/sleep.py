"""`suspend` and `resume`: what tunnels do before the machine sleeps, and after.

A gateway that is not told keeps the session, and some count it, or send to it for minutes. The service manager runs
these around every sleep (docs/systemd/ikeclient-sleep.service); it holds the sleep back meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Annotated

import typer

from ikeclient.cli.at_once import at_once
from ikeclient.cli.options import duration_option
from ikeclient.cli.tunnels import Name, for_each, require_one_or_all
from ikeclient.cli.view.terminal import say
from ikeclient.control import client
from ikeclient.control.protocol import Command
from ikeclient.errors import NoResponse, NoSuchTunnel

_SECONDS = 3.0

Every = Annotated[bool, typer.Option("--all", help="Every tunnel that may be told to.")]


def suspend(
    name: Name = None,
    every: Every = False,
    timeout: Annotated[
        float, duration_option("--timeout", 0.1, 60, text="How long to wait for the gateway.", default="3s")
    ] = _SECONDS,
) -> None:
    """Have a tunnel say goodbye to its gateway before the machine sleeps. Routes and kill switch stay.

    It connects again after `resume`, or when the machine has been awake for half a minute.
    """

    def told(each: str) -> None:
        if client.status(each, timeout=timeout).state != "connected":
            say(f"{each} is not connected: there is nobody to say goodbye to")
            return
        with client.events(each, deadline=time.monotonic() + timeout) as events:  # before it is asked: none is missed
            client.request(each, Command.SUSPEND)
            try:
                next(event for event in events if event.get("event") == "reconnecting")
            except StopIteration:
                raise NoSuchTunnel(f"tunnel '{each}' has ended", reason="it was to say goodbye") from None
            except NoResponse:
                raise NoResponse(
                    f"the gateway of '{each}' has not answered to the goodbye within {timeout:g} s"
                ) from None
        say(f"{each} suspended")

    _each(name, every, told)


def resume(name: Name = None, every: Every = False) -> None:
    """Have a tunnel that was suspended connect again; one that was not goes on as it is."""

    def told(each: str) -> None:
        client.request(each, Command.RESUME)

    _each(name, every, told)


def _each(name: str | None, every: bool, told: Callable[[str], None]) -> None:
    """Do something with the tunnel that is meant, or with all; the last failure is raised when all were asked."""
    require_one_or_all(name, every)
    names = client.list_tunnels(ours=os.geteuid() != 0) if every else [client.resolve(name)]
    failures = at_once(lambda each: for_each([each], told, may_be_gone=every), names)
    if failure := next(filter(None, reversed(failures)), None):
        raise failure
