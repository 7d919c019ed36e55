"""`disconnect` and `reconnect`: orders to running tunnels."""

from __future__ import annotations

from typing import Annotated

import typer

from ikeclient.cli.terminal import tell
from ikeclient.control import client
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
