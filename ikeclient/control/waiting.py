"""Waiting for a tunnel, for scripts: until its packets flow, or until it is gone.

While the tunnel is there its own events wake us, and the kernel tells when its process ends. Only a tunnel that does
not run yet has nobody to ask: then its socket is looked for four times a second.
"""

from __future__ import annotations

import select
import time
from pathlib import Path

from ikeclient.control import client
from ikeclient.control.protocol import socket_path
from ikeclient.errors import NoResponse, NoSuchTunnel, UsageError

LOOK_SECONDS = 0.25
_BACKSTOP_SECONDS = 5.0  # after which a tunnel that says nothing is asked again
_ANSWER_SECONDS = 5.0


def wait_up(name: str | None, seconds: float | None, directory: Path | None = None) -> str:
    """Return the tunnel's name once its state is `connected`; without a name it is the only tunnel that runs.

    The tunnel need not run yet, and may end and be started again meanwhile. Raises NoResponse after `seconds`, and
    UsageError if several tunnels run and none was named.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    if name is not None:
        socket_path(directory or client.runtime_directory(), name)  # refuses what will never be a tunnel's name
    while True:
        try:
            running = client.resolve(name, directory)
            if _came_up(running, deadline, directory):
                return running
        except (NoSuchTunnel, NoResponse):  # a tunnel that is stopped, or makes no sense, is nothing to give up for
            _pause(deadline)
        if deadline is not None and time.monotonic() >= deadline:
            raise _late(name, "up", seconds)


def wait_down(name: str | None, seconds: float | None, directory: Path | None = None) -> None:
    """Return once the tunnel's process is gone and the machine restored; at once if it does not run.

    Raises NoResponse after `seconds`, and UsageError if several tunnels run and none was named.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        try:
            running = client.resolve(name, directory)
        except NoSuchTunnel:
            return
        name = running  # not another one that is started meanwhile
        pid = client.running_pid(running, directory)
        with client.process(pid or 0) as ending:
            if client.running_pid(running, directory) == pid and ending is not None:
                poll = select.poll()
                poll.register(ending, select.POLLIN)
                poll.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000)
            else:  # a process that we cannot see, such as in another container
                _pause(deadline)
        if deadline is not None and time.monotonic() >= deadline and client.running_pid(running, directory) is not None:
            raise _late(name, "down", seconds)


def _came_up(name: str, deadline: float | None, directory: Path | None) -> bool:
    """Return whether the tunnel is up, or comes up while we listen; false if it ends or it is time to ask again."""
    limit = time.monotonic() + _BACKSTOP_SECONDS
    limit = limit if deadline is None else min(limit, deadline)
    try:
        listening = client.events(name, directory=directory, timeout=_left(deadline), deadline=limit)
    except UsageError:  # too many listen already
        _pause(deadline)
        return _is_up(name, deadline, directory)
    with listening as events:  # before the question, so that nothing is missed between the two
        if _is_up(name, deadline, directory):
            return True
        return any(event.get("event") == "connected" for event in events)


def _is_up(name: str, deadline: float | None, directory: Path | None) -> bool:
    return client.status(name, directory=directory, timeout=_left(deadline)).state == "connected"


def _left(deadline: float | None) -> float:
    return _ANSWER_SECONDS if deadline is None else min(_ANSWER_SECONDS, max(deadline - time.monotonic(), 0.05))


def _pause(deadline: float | None) -> None:
    time.sleep(min(LOOK_SECONDS, _left(deadline)))


def _late(name: str | None, state: str, seconds: float | None) -> NoResponse:
    tunnel = f"tunnel '{name}'" if name else "a tunnel"
    return NoResponse(f"{tunnel} was not {state} within {seconds:g} s")
