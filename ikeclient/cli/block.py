"""`block` and `unblock`: what a kill switch closes, closed without a tunnel, and opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ikeclient.cli.complete import profile_names
from ikeclient.cli.options import duration_option
from ikeclient.cli.view.terminal import emit, say
from ikeclient.control import client
from ikeclient.control.directory import system_directories, user_directories
from ikeclient.errors import IkeclientError, NoSuchTunnel, PrivilegeError, UsageError

if TYPE_CHECKING:
    from ikeclient.net.block.store import Blocks, Closed

_SUFFIX = ".block.json"  # of `net.block.store`, which only has to be loaded if there is such a file


def directories() -> list[Path]:
    """Return where tunnels may keep something closed: this user's directory, those of root and services, of users."""
    return list(dict.fromkeys([client.runtime_directory(), *system_directories(), *user_directories()]))


def closed(name: str | None = None) -> Iterator[tuple[Blocks, Closed]]:
    """Give what the tunnel `name`, or any, keeps closed. Costs nothing if there is none."""
    for directory in directories():
        if not any(directory.glob(f"*{_SUFFIX}")):
            continue
        from ikeclient.net.block.store import Blocks

        blocks = Blocks(directory, system_directories)
        for block in blocks.all():
            if block.networks and name in (None, block.name):
                yield blocks, blocks.in_force(block)


def block(
    profile: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE", help="A profile with session.kill_switch = true.", autocompletion=profile_names
        ),
    ],
) -> None:
    """Close the machine as the kill switch of a profile does, without connecting. For the start of the machine.

    Reads no secret. `connect` goes on from there; `disconnect` and `unblock` open.
    """
    _require_rights("close")
    from ikeclient.process.block import close

    name, result = close(profile, client.runtime_directory())
    say(f"{name} blocked ({result.means})")
    if result.problem is not None:
        say(f"notice: programs that name an interface can send past the routes ({result.problem})")


def unblock(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The tunnel; not needed if only one.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Open what any tunnel keeps closed, or left closed.")] = False,
    seconds: Annotated[
        float | None,
        duration_option("--for", 1, 86400, text="Close again by itself after this time.", default=False),
    ] = None,
) -> None:
    """Open what a kill switch keeps closed, until the next `connect`, or for a while with --for."""
    if every and name is not None:
        raise UsageError("name one tunnel or say --all, not both")
    wait = None if seconds is None else round(seconds)
    _require_rights("open")
    found = list(closed(name))
    if name is None and not every and len(found) > 1:
        names = ", ".join(each.block.name for _, each in found)
        raise UsageError("several tunnels keep this machine closed", reason=names, hint="name one or say --all")
    refused: IkeclientError | None = None
    for blocks, each in found:
        try:
            if wait is None:
                blocks.open(each.block.name)
                say(f"{each.block.name} unblocked")
            else:
                opened = blocks.open_for(each.block.name, wait)
                say(f"{each.block.name} {opened.means}, then closed again")
        except IkeclientError as error:
            refused = error
    if found:
        undo_crashes()
    strays = _open_strays() if wait is None and (every or (not found and _is_meant(name))) else []
    for line in strays:
        emit(f"removed: {line}")
    if refused is not None:
        raise refused
    if not found and not strays and not every:
        reason = f"tunnel '{name}' keeps nothing closed" if name else "no tunnel keeps anything closed"
        hint = "`ikeclient unblock --all` opens what no known tunnel keeps closed"
        raise NoSuchTunnel("nothing is blocked", reason=reason, hint=hint)
    if wait is not None and found:
        from ikeclient.process.block import close_after

        close_after(directories(), wait)


def undo_crashes() -> None:
    """Undo what tunnels that crashed left, which is closed as well; what a living one has stays."""
    from ikeclient.net.machine.machine import repair

    for line in repair(client.runtime_directory()):
        say(line)


def _is_meant(name: str | None) -> bool:
    """Return whether what no file tells of is meant: no tunnel is named, or the one whose file is damaged."""
    from ikeclient.net.block.store import Blocks

    return name is None or any(Blocks(directory).is_damaged(name) for directory in directories())


def _open_strays() -> list[str]:
    """Open what is closed by no tunnel that could be found."""
    from ikeclient.net.block.store import Blocks

    known = frozenset(each.block.table for _, each in closed())
    return [line for each in directories() for line in Blocks(each, system_directories).open_strays(known)]


def _require_rights(what: str) -> None:
    from ikeclient.net.rights.grants import Missing, grant
    from ikeclient.net.rights.privileges import has_net_admin

    if not has_net_admin():
        why = "the capability CAP_NET_ADMIN is missing"
        raise PrivilegeError(f"cannot {what} this machine", reason=why, hint=grant(Missing.NET_ADMIN))
