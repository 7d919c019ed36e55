"""Programs inside a tunnel: what `exec` and `proxy` have in common.

Four processes, so that each can be simple. This one is what the caller started: it shows progress, reads the secrets,
and then stands in for the command, in its job and for its signals (`supervise`). The *init* makes the namespace and
has rights in it (`net.namespace.namespace`). The *child* enters it and becomes the command. The *tunnel* carries the
packets and outlives this process when other commands joined. Init and child are forked before a secret is read.

Who joins a running tunnel needs none of them: it enters, and becomes the command itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ikeclient.cli.context import settings
from ikeclient.cli.view.terminal import asker, read_secret, show_error, warn
from ikeclient.control import client
from ikeclient.control.directory import Claim, prepare
from ikeclient.control.events import happened
from ikeclient.control.protocol import TOO_MANY
from ikeclient.errors import IkeclientError, NoResponse, NoSuchTunnel, PlatformError, UsageError

if TYPE_CHECKING:
    from ikeclient.net.namespace.namespace import Namespace
    from ikeclient.profile.compile import CompiledProfile
    from ikeclient.profile.load.load import LoadedProfile

Show = Callable[[Mapping[str, object]], None]
Work = Callable[[], int]

_POLL = 0.05
_ENDING_SECONDS = 10.0  # for a tunnel that is about to end to be gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Which tunnel, and how to start it where it does not run.

    `profile` is a name or a path, `overrides` are KEY=VALUE, `timeout` is in seconds, `show` gets the events until the
    tunnel is up.
    """

    profile: str
    show: Show
    overrides: tuple[str, ...] = ()
    timeout: float = 30.0
    password_stdin: bool = False

    @property
    def name(self) -> str:
        """The tunnel's name."""
        from ikeclient.profile.load.lookup import is_path

        return Path(self.profile).stem if is_path(self.profile) else self.profile


def run(wish: Wish, work: Work) -> int:
    """Have `work` called inside the tunnel that is meant, connected by then, and return the exit status it gives.

    The tunnel of that name is joined where it runs, and started for `work` otherwise. `work` is called in a process
    with one thread that has never seen a secret and has no capability. Its network namespace holds the tunnel and
    loopback; sockets that were opened before keep the network they were opened in, so a listener bound outside accepts
    there. It has this process's terminal, directory, environment and descriptors, may end by `os.exec*`, and is killed
    when this process is. Signals sent to this process are handed on to it. A death by signal n is the status 128 + n.

    Raises what connecting raises; PrivilegeError where the machine allows no namespaces. To be called from a process
    with one thread that has not read a secret.
    """
    from ikeclient.cli.supervise import open_standard_files

    open_standard_files()
    while True:
        if client.running_pid(wish.name) is None:
            status = _start_first(wish, work)
            if status is not None:
                return status
        with contextlib.suppress(NoSuchTunnel):  # it may have ended just now
            way = client.join(wish.name, timeout=wish.timeout)
            if way is not None:
                if not isinstance(way, Mapping) or way.get("state") == "connecting":
                    _wait_up(wish)
                _enter(wish.name, way)
                return work()
            _wait_gone(wish.name)


# Joining.


def _enter(name: str, way: object) -> None:
    from ikeclient.net.namespace.handle import NamespaceHandle, is_inside

    match way:
        case {"pid": int() as pid, "namespaces": [int() as user, int() as network, int() as mounts]}:
            if not is_inside((user, network, mounts)):  # as a command that runs there and says `exec` again is
                NamespaceHandle.of_process(pid, (user, network, mounts)).enter()
            return
    raise NoResponse(f"tunnel '{name}' gave an answer that makes no sense")


def _wait_up(wish: Wish) -> None:
    """Wait for the first attempt of a tunnel that was joined; that one is lost for a while is no reason to."""
    deadline = time.monotonic() + wish.timeout
    while True:
        try:
            state = client.status(wish.name, timeout=wish.timeout).state
        except UsageError as error:
            if error.reason != TOO_MANY:
                raise
        except NoSuchTunnel as error:
            raise NoResponse(f"tunnel '{wish.name}' did not come up", hint="try it alone, to see why") from error
        else:
            if state != "connecting":
                return
        if time.monotonic() > deadline:
            raise NoResponse(f"tunnel '{wish.name}' is still connecting after {wish.timeout:.0f} s")
        time.sleep(_POLL)


def _wait_gone(name: str) -> None:
    deadline = time.monotonic() + _ENDING_SECONDS
    while client.running_pid(name) is not None:
        if time.monotonic() > deadline:
            raise NoResponse(f"tunnel '{name}' is about to end, and does not")
        time.sleep(_POLL)


# Starting.


def _start_first(wish: Wish, work: Work) -> int | None:
    """Start the tunnel and see `work` through, unless somebody else starts it: then None when it can be joined."""
    deadline = time.monotonic() + wish.timeout
    directory = client.runtime_directory()
    prepare(directory)
    while client.running_pid(wish.name) is None:
        if (claim := Claim.take(directory, wish.name)) is not None:
            try:
                started = _Started(wish, work) if client.running_pid(wish.name) is None else None
            finally:
                claim.release()
            return None if started is None else started.wait()
        if time.monotonic() > deadline:
            raise NoResponse(f"another process has not started tunnel '{wish.name}' within {wish.timeout:.0f} s")
        time.sleep(_POLL)
    return None


class _Started:
    """A tunnel that came up for `work`, which waits in its namespace. Construction raises what connecting raises."""

    def __init__(self, wish: Wish, work: Work) -> None:
        from ikeclient.net.namespace.namespace import Namespace
        from ikeclient.profile.load.load import load_profile

        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or the kernel would take our children's exit status
        loaded = load_profile(wish.profile, wish.overrides)
        namespace = Namespace.make(loaded.profile.network.interface)
        self._name = loaded.name
        self._founder, theirs = socket.socketpair()
        self._child = _Child(namespace, work, without=(self._founder, theirs))
        try:
            self._tunnel = _start_tunnel(wish, loaded, namespace, theirs)
        except BaseException:
            self._child.kill()
            self._founder.close()
            raise
        finally:
            theirs.close()
            namespace.leave()
            namespace.handle.close()

    def wait(self) -> int:
        """Let `work` begin, stand in for it, and return its exit status when it and the tunnel have ended."""
        from ikeclient.cli.supervise import Supervisor, wait_for_end

        try:
            supervisor = Supervisor(self._child.pid, self._tunnel, self._name)
            self._child.go()
            status = supervisor.wait()
        except BaseException:
            self._child.kill()
            raise
        finally:
            others_stay = _take_leave(self._founder)
        if not others_stay and not wait_for_end(self._tunnel, _ENDING_SECONDS):
            warn(f"tunnel '{self._name}' was told to end but is still there")
        return status


def _start_tunnel(wish: Wish, loaded: LoadedProfile, namespace: Namespace, founder: socket.socket) -> int:
    """The process that carries the tunnel, connected."""
    from ikeclient.cli.detach import run_detached
    from ikeclient.net.rights.privileges import forbid_core_dumps
    from ikeclient.process.run_in_namespace import run_inside
    from ikeclient.tunnel.options import ConnectOptions

    forbid_core_dumps()
    compiled = _with_secrets(wish, loaded)
    options = ConnectOptions(
        name=compiled.name,
        timeout=wish.timeout,
        keylog=None,
        runtime_directory=client.runtime_directory(),
        verbosity=settings.verbosity,
    )
    return run_detached(
        lambda listener: run_inside(compiled, options, listener, namespace, founder),
        wish.show,
        options.runtime_directory / f"{options.name}.log",
        settings.verbosity,
        keep=(*namespace.descriptors, founder.fileno()),
    )


def _with_secrets(wish: Wish, loaded: LoadedProfile) -> CompiledProfile:
    from ikeclient.profile.compile import compile_profile

    stdin = read_secret() if wish.password_stdin else None
    compiled = compile_profile(
        loaded.profile, loaded.base_dir, asker(), name=loaded.name, stdin_password=stdin, author=loaded.author
    )
    for warning in (*loaded.warnings, *compiled.warnings):
        wish.show(happened("notice", loaded.name, text=warning))
    return compiled


class _Child:
    """A child process in the namespace that calls `work` when it is told to."""

    def __init__(self, namespace: Namespace, work: Work, *, without: Iterable[socket.socket]) -> None:
        reading, self._writing = os.pipe()
        self._variables = set(os.environ)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self._writing)
                for each in without:
                    each.close()
                code = _be_child(namespace, work, reading, parent)
            finally:
                os._exit(code)
        os.close(reading)

    def go(self) -> None:
        """Let it call `work`, without the variables that this process has taken out of its environment since."""
        gone = sorted(self._variables - set(os.environ))
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its status tells why
            os.write(self._writing, json.dumps(gone).encode())
        os.close(self._writing)

    def kill(self) -> None:
        """End it; it need not have begun."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _be_child(namespace: Namespace, work: Work, reading: int, parent: int) -> int:
    """The life of the child; returns its exit code."""
    from ikeclient.net.syscalls import die_with_parent
    from ikeclient.profile.secrets.secrets import erase_variable

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        namespace.leave()
        namespace.handle.enter()
        die_with_parent(signal.SIGKILL, parent)
        with open(reading, "rb") as order:
            words = order.read()
        if not words:
            return 1  # there will be no tunnel
        for name in json.loads(words):
            erase_variable(name)
        return work()
    except IkeclientError as error:
        show_error(error)
        return error.exit_code
    except OSError as error:
        show_error(PlatformError("cannot run in the namespace", reason=error.strerror))
        return PlatformError.exit_code
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def _take_leave(founder: socket.socket) -> bool:
    """Tell the tunnel that its first command has ended; whether others keep it."""
    with founder:
        try:
            founder.shutdown(socket.SHUT_WR)
            founder.settimeout(_ENDING_SECONDS)
            return bool(founder.recv(16))
        except OSError:
            return False
