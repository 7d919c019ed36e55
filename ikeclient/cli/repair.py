"""`repair`: a machine without what dead tunnels left on it, by hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ikeclient.cli.view.terminal import emit, say
from ikeclient.control.directory import runtime_directory, system_directories
from ikeclient.errors import PlatformError, PrivilegeError


def repair(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be undone, as commands.")] = False,
) -> None:
    """Remove what tunnels left that died: rules, routes and name servers. Living ones are not touched."""
    from ikeclient.net.machine.machine import NOT_UNDONE, remove_leftovers
    from ikeclient.net.machine.machine import repair as repair_journals
    from ikeclient.net.rights.grants import Missing, grant
    from ikeclient.net.rights.privileges import has_net_admin

    if not has_net_admin():
        why = "the capability CAP_NET_ADMIN is missing"
        raise PrivilegeError("cannot repair this machine", reason=why, hint=grant(Missing.NET_ADMIN))
    lines = [line for directory in _directories() for line in repair_journals(directory, dry_run=dry_run)]
    lines = list(dict.fromkeys([*lines, *remove_leftovers(dry_run=dry_run)]))
    for line in lines:
        emit(line)
    if not lines:
        say("nothing to repair")
    if failed := [line for line in lines if line.startswith(NOT_UNDONE)]:
        raise PlatformError(f"{len(failed)} changes of a dead tunnel could not be undone", hint="see above")


def _directories() -> list[Path]:
    """Where journals of this user's tunnels may be; systemd gives each service a directory.

    One of another user's is left alone: with root's rights its content would become the machine's configuration.
    """
    mine = [path for path in system_directories() if path.is_dir() and path.stat().st_uid == os.geteuid()]
    return list(dict.fromkeys([runtime_directory(), *mine]))
