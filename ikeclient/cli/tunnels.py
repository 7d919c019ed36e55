"""`disconnect`, `reconnect` and `wait`: orders to running tunnels, and patience with them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ikeclient.cli.terminal import tell
from ikeclient.control import client, waiting
from ikeclient.control.protocol import Command
from ikeclient.errors import IkeclientError, NoResponse, NoSuchTunnel, UsageError

Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="The tunnel; not needed when only one runs.", show_default=False)
]
_SECONDS = 5.0


def disconnect(
    name: Name = None,
    every: Annotated[bool, typer.Option("--all", help="Disconnect every tunnel.")] = False,
) -> None:
    """End a tunnel: the gateway is told, the machine restored, the process gone."""
    if every and name is not None:
        raise UsageError("name one tunnel or say --all, not both")
    names = client.list_tunnels() if every else [client.resolve(name)]
    failure: IkeclientError | None = None
    for each in names:
        try:
            if not client.disconnect(each, timeout=_SECONDS):
                pid = client.running_pid(each)
                raise NoResponse(
                    f"tunnel '{each}' was told to end but is still there after {_SECONDS:.0f} s",
                    reason=f"its process is {pid}" if pid else None,
                )
            tell(f"{each} disconnected")
        except NoSuchTunnel:
            if not every:
                raise
        except IkeclientError as error:
            failure = error
    if failure is not None:
        raise failure


def reconnect(name: Name = None) -> None:
    """Make a tunnel set up its connection anew, on the same interface."""
    chosen = client.resolve(name)
    client.request(chosen, Command.RECONNECT)
    tell(f"{chosen} reconnecting")


class Awaited(StrEnum):
    """What `wait` can wait for."""

    UP = "up"
    DOWN = "down"


def wait(
    name: Name = None,
    state: Annotated[
        Awaited, typer.Option("--for", help="up: packets flow. down: the tunnel has ended and all is restored.")
    ] = Awaited.UP,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="S", min=0, max=10**6, help="Give up with 5.", show_default="never"),
    ] = None,
) -> None:
    """Wait until a tunnel is up, whether or not it runs yet, or until it has ended."""
    if state is Awaited.UP:
        waiting.wait_up(name, timeout)
    else:
        waiting.wait_down(name, timeout)
