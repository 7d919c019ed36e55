"""Run something inside a tunnel, joined or started for it: what `exec` and `proxy` have in common.

Four processes, so that each can be simple. This one is what the caller started: it shows progress, reads the secrets,
and then stands in for the command, in its job and for its signals (`stand_in`). The *init* makes the namespace and has
rights in it (`net.namespace.namespace`). The *child* enters it and becomes the command. The *tunnel* carries the
packets and outlives this process when other commands joined. Init and child are forked before a secret is read, and
before anything large is imported.

Who joins a running tunnel needs none of them: it enters, and becomes the command itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

from ikeclient.control import client
from ikeclient.control.directory import Claim, prepare
from ikeclient.control.protocol import TOO_MANY
from ikeclient.errors import NoResponse, NoSuchTunnel, UsageError
from ikeclient.process.stand_in import open_standard_files
from ikeclient.process.tunnel_request import Display, TunnelRequest, Work

_POLL = 0.05
_ENDING_SECONDS = 10.0  # for a tunnel that is about to end to be gone


def run(request: TunnelRequest, work: Work, display: Display) -> int:
    """Have `work` called inside the tunnel that is meant, connected by then, and return the exit status it gives.

    The tunnel of that name is joined where it runs, and started for `work` otherwise. `work` is called in a process
    with one thread that has never seen a secret and has no capability. Its network namespace holds the tunnel and
    loopback; sockets that were opened before keep the network they were opened in, so a listener bound outside accepts
    there. It has this process's terminal, directory, environment and descriptors, may end by `os.exec*`, and is killed
    when this process is. Signals sent to this process are handed on to it. A death by signal n is the status 128 + n.

    Raises what connecting raises; PrivilegeError where the machine allows no namespaces. To be called from a process
    with one thread that has not read a secret.
    """
    open_standard_files()
    ours = client.runtime_directory()  # the namespaces of others are none that we could enter
    while True:
        if client.running_pid(request.name, ours) is None:
            status = _start_first(request, work, display)
            if status is not None:
                return status
        if request.metrics is not None and client.running_pid(request.name, ours) is not None:
            raise UsageError(
                f"tunnel '{request.name}' is running already, and tells its metrics where it was told to when it began",
                hint="leave out --metrics, or end the tunnel first",
            )
        with contextlib.suppress(NoSuchTunnel):  # it may have ended just now
            way = client.join(request.name, directory=ours, timeout=request.timeout)
            if way is not None:
                if not isinstance(way, Mapping) or way.get("state") == "connecting":
                    _wait_up(request)
                enter(request.name, way)
                return work()
            _wait_gone(request.name)


# Joining.


def enter(name: str, way: object) -> None:
    """Enter the namespace of a tunnel by the way that it told. Raises PlatformError, NoResponse."""
    from ikeclient.net.namespace.handle import NamespaceHandle, is_inside

    match way:
        case {"pid": int() as pid, "namespaces": [int() as user, int() as network, int() as mounts]}:
            if not is_inside((user, network, mounts)):  # as a command that runs there and says `exec` again is
                NamespaceHandle.of_process(pid, (user, network, mounts)).enter()
            return
    raise NoResponse(f"tunnel '{name}' gave an answer that makes no sense")


def _wait_up(request: TunnelRequest) -> None:
    """Wait for the first attempt of a tunnel that was joined, but not for one that is lost for a while."""
    deadline = time.monotonic() + request.timeout
    while True:
        try:
            state = client.status(request.name, directory=client.runtime_directory(), timeout=request.timeout).state
        except UsageError as error:
            if error.reason != TOO_MANY:
                raise
        except NoSuchTunnel as error:
            raise NoResponse(f"tunnel '{request.name}' did not come up", hint="try it alone, to see why") from error
        else:
            if state != "connecting":
                return
        if time.monotonic() > deadline:
            raise NoResponse(f"tunnel '{request.name}' is still connecting after {request.timeout:.0f} s")
        time.sleep(_POLL)


def _wait_gone(name: str) -> None:
    deadline = time.monotonic() + _ENDING_SECONDS
    while client.running_pid(name, client.runtime_directory()) is not None:
        if time.monotonic() > deadline:
            raise NoResponse(f"tunnel '{name}' is about to end, and does not")
        time.sleep(_POLL)


# Starting.


def _start_first(request: TunnelRequest, work: Work, display: Display) -> int | None:
    """Start the tunnel and see `work` through, or return None when another process has started it."""
    deadline = time.monotonic() + request.timeout
    directory = client.runtime_directory()
    prepare(directory)
    while client.running_pid(request.name, directory) is None:
        if (claim := Claim.take(directory, request.name)) is not None:
            try:
                from ikeclient.process.start_inside import StartedTunnel

                alone = client.running_pid(request.name, directory) is None
                started = StartedTunnel(request, work, display) if alone else None
            finally:
                claim.release()
            return None if started is None else started.wait()
        if time.monotonic() > deadline:
            raise NoResponse(f"another process has not started tunnel '{request.name}' within {request.timeout:.0f} s")
        time.sleep(_POLL)
    return None
