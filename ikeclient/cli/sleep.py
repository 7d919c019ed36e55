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

from ikeclient.cli.options import duration_option
from ikeclient.cli.tunnels import Name
from ikeclient.cli.view.terminal import say
from ikeclient.control import client
from ikeclient.control.protocol import Command
from ikeclient.errors import IkeclientError, NoResponse, NoSuchTunnel, UsageError

_SECONDS = 3.0
_LOOK = 0.05  # seconds between two looks at a tunnel that says goodbye

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
        if client.status(each).state != "connected":
            say(f"{each} is not connected: there is nobody to say goodbye to")
            return
        deadline = time.monotonic() + timeout
        client.request(each, Command.SUSPEND)
        while client.status(each).state == "connected":
            if time.monotonic() > deadline:
                raise NoResponse(f"the gateway of '{each}' has not answered to the goodbye within {timeout:g} s")
            time.sleep(_LOOK)
        say(f"{each} suspended")

    _each(name, every, told)


def resume(name: Name = None, every: Every = False) -> None:
    """Have a tunnel that was suspended connect again; one that was not goes on as it is."""

    def told(each: str) -> None:
        client.request(each, Command.RESUME)

    _each(name, every, told)


def _each(name: str | None, every: bool, told: Callable[[str], None]) -> None:
    """Do something with the tunnel that is meant, or with all; the last failure is raised when all were asked."""
    if every and name is not None:
        raise UsageError("name one tunnel or say --all, not both")
    failure: IkeclientError | None = None
    for each in client.list_tunnels(ours=os.geteuid() != 0) if every else [client.resolve(name)]:
        try:
            told(each)
        except NoSuchTunnel:
            if not every:
                raise
        except IkeclientError as error:
            failure = error
    if failure is not None:
        raise failure
