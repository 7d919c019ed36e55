"""`status`: what runs and how it is doing, for people, for scripts and for supervisors."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ikeclient.cli.at_once import at_once
from ikeclient.cli.block import closed
from ikeclient.cli.complete import tunnel_names
from ikeclient.cli.leftovers import CHANGED, REPAIR, left_behind
from ikeclient.cli.view import render
from ikeclient.cli.view.rates import Rates
from ikeclient.cli.view.terminal import emit, is_live, say, styled, until_interrupted, warn, width
from ikeclient.control import client
from ikeclient.errors import NoResponse, NoSuchTunnel, NotConnected, PrivilegeError, UsageError

if TYPE_CHECKING:
    from ikeclient.control.status import TunnelStatus

_WATCH_SECONDS = 1.0
_ANSWER_SECONDS = 2.0


class Check(StrEnum):
    """What `--check` can ask for."""

    UP = "up"


def status(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The tunnel.", show_default="all", autocompletion=tunnel_names)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole document, see docs/status.md.")] = False,
    fields: Annotated[
        str | None,
        typer.Option("--fields", "-f", metavar="FIELD,...", help="These fields, tab-separated, a line a tunnel."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it until Ctrl-C.")] = False,
    check: Annotated[Check | None, typer.Option("--check", help="Exit with 3 unless it is connected.")] = None,
) -> None:
    """Show running tunnels, and those that are watched. Exits with 8 when NAME does not run."""
    if as_json and fields is not None:
        raise UsageError("say --json or --fields, not both")
    if watch and check is not None:
        raise UsageError("say --watch or --check, not both")
    if watch:
        with until_interrupted():
            _watch(name, as_json, fields)
        return
    try:
        running, idle = _look(name)
    except NoSuchTunnel as error:
        if check is None:
            raise
        raise NotConnected(error.message, reason=error.reason) from error
    tunnels = [*running, *idle]
    _show(tunnels, as_json, fields)
    if name is None and not as_json and fields is None:
        _tell_unshown()
    if check is Check.UP:
        _require_connected(tunnels)
    elif name is not None and not running:
        raise NoSuchTunnel(f"no tunnel '{name}' is running")


def _tell_unshown() -> None:
    """Say where tunnels may be that we may not look at, and which have died and left changes of this machine."""
    for path in client.hidden():
        say(f"{path} may not be read: a tunnel there is not shown")
    for dead, commands in left_behind():
        changes = f"{len(commands)} changes are" if len(commands) > 1 else "a change is"
        warn(f"tunnel '{dead}' has ended, {CHANGED}: {changes} still to be undone; {REPAIR}")


def collect(name: str | None) -> list[TunnelStatus]:
    """Return the status of the tunnel `name`, or of all that run, are watched or keep something closed.

    Raises NoSuchTunnel for a name that is none of these.
    """
    running, idle = _look(name)
    return [*running, *idle]


def _look(name: str | None) -> tuple[list[TunnelStatus], list[TunnelStatus]]:
    """Return what `collect` does: first the tunnels that run, then those that have no process."""
    from ikeclient.control.status import down

    running, decisions = client.survey()
    watched = {each: decision for each, decision in decisions.items() if name in (None, each)}
    blocked = [each for each in _blocked(name) if each.name not in running]
    idle = [replace(each, watch=watched.pop(each.name, None)) for each in blocked]
    idle += [down(each, decision) for each, decision in watched.items()]
    if name is not None:
        running = [] if idle else [client.resolve(name)]
    return _running(running, name), idle


def _running(names: Sequence[str], name: str | None) -> list[TunnelStatus]:
    """Return what tunnels say; one that has ended meanwhile is left out. Raises NoSuchTunnel if it was asked for."""
    if name is not None:
        return [_answer(each) for each in names]
    return [each for each in at_once(_answer_if_there, names) if each is not None]


def _answer_if_there(name: str) -> TunnelStatus | None:
    """Return what one of many tunnels says, or why it says nothing; None if it ended while we asked."""
    try:
        return _answer(name)
    except NoSuchTunnel:
        return None
    except (PrivilegeError, UsageError) as error:  # of one tunnel, which must not hide the others
        return replace(_silent(name), last_error=": ".join(error.lines()[:2]))


def _answer(name: str) -> TunnelStatus:
    """Return what a tunnel says, or that it says nothing. Raises NoSuchTunnel, PrivilegeError and UsageError."""
    try:
        return client.status(name, timeout=_ANSWER_SECONDS)
    except NoResponse:
        return _silent(name)


def _silent(name: str) -> TunnelStatus:
    from ikeclient.control.status import unresponsive

    pid = client.running_pid(name) or 0
    return replace(unresponsive(name, pid, stopped=_is_stopped(pid)), watch=client.decision(name))


def _is_stopped(pid: int) -> bool:
    """Whether a process was stopped, by SIGSTOP or a debugger (the states T and t of proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False


def _blocked(name: str | None) -> list[TunnelStatus]:
    """Return an entry for each tunnel whose kill switch keeps the machine closed, as if none of them ran."""
    from ikeclient.control.status import blocked

    return [blocked(each.block.name, each.means, is_open=each.is_open) for _, each in closed(name)]


def _require_connected(tunnels: Sequence[TunnelStatus]) -> None:
    down = [tunnel for tunnel in tunnels if tunnel.state != "connected"]
    if not tunnels:
        raise NotConnected("no tunnel is running")
    if down:
        raise NotConnected(", ".join(f"tunnel '{each.name}' is {each.state}" for each in down))


def _show(tunnels: Sequence[TunnelStatus], as_json: bool, fields: str | None) -> None:
    if as_json:
        from ikeclient.control.status import document

        emit(json.dumps(document(tunnels)))
    elif fields is not None:
        names = [part.strip() for part in fields.split(",")]
        if not tunnels:
            from ikeclient.control.status import unresponsive

            render.fields(unresponsive("", 0), names)  # what is no field is none without a tunnel either
        for tunnel in tunnels:
            emit(render.fields(tunnel, names))
    else:
        for line in _lines(tunnels):
            emit(line)


def _lines(tunnels: Sequence[TunnelStatus], rates: Rates | None = None) -> list[str]:
    if not tunnels:
        return [styled([("disconnected", "bad"), ("  no tunnel is running", "dim")], sys.stdout)]
    columns = width(sys.stdout)
    lines: list[str] = []
    for tunnel in tunnels:
        rate = rates.of(tunnel.name) if rates is not None else None
        lines += [""] * bool(lines)
        lines += [styled(line, sys.stdout) for line in render.status_lines(tunnel, columns=columns, rate=rate)]
    return lines


def _watch(name: str | None, as_json: bool, fields: str | None) -> None:
    """On a terminal a display that changes in place; elsewhere the same output as without --watch, once per change."""
    if not as_json and fields is None and is_live(sys.stdout):
        _watch_live(name)
        return
    last = None
    while True:
        tunnels = collect(name)
        if tunnels != last:
            _show(tunnels, as_json, fields)
            last = tunnels
        time.sleep(_WATCH_SECONDS)


def _watch_live(name: str | None) -> None:
    from ikeclient.cli.view.live import repeat

    rates = Rates()

    def lines() -> list[str]:
        tunnels = collect(name)
        rates.look(tunnels, time.monotonic())
        return _lines(tunnels, rates)

    repeat(lines, _WATCH_SECONDS)
