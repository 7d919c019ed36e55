"""What tunnels that died have left on this machine, which no status of a running one tells."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ikeclient.control import client
from ikeclient.errors import PlatformError

if TYPE_CHECKING:
    from ikeclient.net.changes.steps import Step

CHANGED = "but this machine is not as it was"
REPAIR = "`ikeclient repair` does it"
_SHOWN = 3  # commands of an error


def require_restored(name: str | None) -> None:
    """Raise PlatformError if the tunnel, or without a name any tunnel, has died and left something to undo."""
    for dead, commands in left_behind(name):
        shown = "; ".join(commands[:_SHOWN]) + (f" and {len(commands) - _SHOWN} more" if len(commands) > _SHOWN else "")
        raise PlatformError(
            f"tunnel '{dead}' has ended, {CHANGED}",
            reason=f"still to be undone: {shown}",
            hint=f"{REPAIR}, and so does the next `connect`",
        )


def left_behind(name: str | None = None) -> list[tuple[str, list[str]]]:
    """Return the tunnels whose process is gone and whose journal is there, each with what would undo what it left."""
    from ikeclient.net.changes.journal import SUFFIX, JournalError, load, open_directory

    directory, own = (client.runtime_directory(), None) if name is None else client.locate(name)
    left = []
    with contextlib.suppress(OSError, PlatformError), open_directory(directory) as opened:
        found = sorted(each for each in os.listdir(opened) if each.endswith(SUFFIX))
        for filename in found if own is None else [own + SUFFIX]:
            with contextlib.suppress(OSError, JournalError):
                journal = load(opened, filename)
                steps = [] if journal.alive else _in_force(journal.steps)
                commands = [line for step in reversed(steps) for line in step.undo_commands()]
                if commands:
                    left.append((filename.removesuffix(SUFFIX), commands))
    return left


def _in_force(steps: Sequence[Step]) -> list[Step]:
    """Return those of a dead tunnel's steps that still have an effect: it may have undone some without noting it."""
    from ikeclient.net.changes.steps import Address, Link, LocalRuleLast, Route, Rule
    from ikeclient.net.machine.kernel import Kernel

    of_device = [step for step in steps if isinstance(step, Link | Address)]
    others = [step for step in steps if isinstance(step, Route | Rule)]
    gone: set[Step] = set()
    with contextlib.suppress(PlatformError), Kernel() as kernel:
        gone.update(kernel.missing(others))
    for step in of_device:
        try:
            socket.if_indextoname(step.index)
        except OSError:  # the device went with its process
            gone.add(step)
    # Where the kernel's own rule stands says nothing: it may have been there before.
    return [step for step in steps if step not in gone and not isinstance(step, LocalRuleLast)]
