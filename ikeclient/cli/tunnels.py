"""`disconnect`, `reconnect` and `wait`: change the state of running tunnels, or wait for one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated

import typer

from ikeclient.cli.block import closed, undo_crashes
from ikeclient.cli.complete import tunnel_names
from ikeclient.cli.leftovers import require_restored
from ikeclient.cli.options import duration_option
from ikeclient.cli.view.terminal import say
from ikeclient.control import client, waiting
from ikeclient.control.events import error_of
from ikeclient.control.protocol import Command
from ikeclient.errors import IkeclientError, NoResponse, NoSuchTunnel, UsageError

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The tunnel; not needed when only one runs.",
        show_default=False,
        autocompletion=tunnel_names,
    ),
]
_SECONDS = 5.0
_CONNECTING_SECONDS = 60.0


def disconnect(
    name: Name = None,
    every: Annotated[bool, typer.Option("--all", help="Disconnect every tunnel.")] = False,
    timeout: Annotated[
        float,
        duration_option("--timeout", 0.1, 3600, text="How long to wait for its end.", default="5s"),
    ] = _SECONDS,
) -> None:
    """End a tunnel: the gateway is told, the machine restored, the process gone."""
    require_one_or_all(name, every)
    if not every and (opened := _open_without_process(name)):
        say(f"{opened} disconnected; nothing is blocked any more")
        return

    def end(each: str) -> None:
        if not client.disconnect(each, timeout=timeout):
            pid = client.running_pid(each)
            raise NoResponse(
                f"tunnel '{each}' was told to end but is still there after {timeout:g} s",
                reason=f"its process is {pid}" if pid else None,
            )
        require_restored(each)
        say(f"{each} disconnected")

    failure = for_each(client.list_tunnels(ours=True) if every else [_running(name)], end, may_be_gone=every)
    if every:
        for blocks, kept in closed():
            blocks.open(kept.block.name)
            say(f"{kept.block.name} disconnected; nothing is blocked any more")
    if failure is None and every:
        require_restored(None)
    if failure is not None:
        raise failure


def require_one_or_all(name: str | None, every: bool) -> None:
    """Raise UsageError if a tunnel is named and all are asked for."""
    if every and name is not None:
        raise UsageError("name one tunnel or say --all, not both")


def for_each(names: Iterable[str], do: Callable[[str], None], *, may_be_gone: bool) -> IkeclientError | None:
    """Do something with each tunnel; a failure does not keep it from the others, and the last one is returned.

    Raises NoSuchTunnel at once, unless tunnels may be gone meanwhile.
    """
    failure: IkeclientError | None = None
    for name in names:
        try:
            do(name)
        except NoSuchTunnel:
            if not may_be_gone:
                raise
        except IkeclientError as error:
            failure = error
    return failure


def _open_without_process(name: str | None) -> str | None:
    """Open what the kill switch of a tunnel that does not run keeps closed; returns the tunnel's name."""
    running = client.list_tunnels()
    if name in running or (name is None and running):
        return None
    found = [(blocks, each.block.name) for blocks, each in closed(name)]
    if len(found) != 1:
        return None
    blocks, only = found[0]
    blocks.open(only)
    undo_crashes()
    return only


def _running(name: str | None) -> str:
    """Return the tunnel that is meant. Raises NoSuchTunnel, or PlatformError if only its leftovers are there."""
    try:
        return client.resolve(name)
    except NoSuchTunnel:
        require_restored(name)
        raise


def reconnect(
    name: Name = None,
    wait_for_it: Annotated[bool, typer.Option("--wait", help="Return when the new connection is up.")] = False,
    timeout: Annotated[
        float,
        duration_option("--timeout", 1, 3600, text="How long to wait with --wait; then exit with 5.", default="1m"),
    ] = _CONNECTING_SECONDS,
) -> None:
    """Make a tunnel set up its connection anew, on the same interface."""
    chosen = client.resolve(name)
    if not wait_for_it:
        client.request(chosen, Command.RECONNECT)
        say(f"{chosen} reconnecting")
        return
    with client.events(chosen, deadline=time.monotonic() + timeout) as events:  # before it is asked: none is missed
        client.request(chosen, Command.RECONNECT)
        try:
            event = next(event for event in events if event.get("event") in ("connected", "error"))
        except StopIteration:
            raise NoSuchTunnel(f"tunnel '{chosen}' has ended", reason="it was to connect anew") from None
        except NoResponse:
            raise NoResponse(
                f"tunnel '{chosen}' was not connected again within {timeout:g} s",
                hint=f"it goes on trying: `ikeclient wait {chosen}` returns when it is",
            ) from None
    if event["event"] == "error":
        raise error_of(event)
    say(f"{chosen} connected")


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
        duration_option("--timeout", 0, 10**6, text="How long to wait; then exit with 5.", default="for ever"),
    ] = None,
) -> None:
    """Wait until a tunnel is up, whether or not it runs yet, or until it has ended."""
    if state is Awaited.UP:
        waiting.wait_up(name, timeout)
    else:
        waiting.wait_down(name, timeout)
        require_restored(name)
