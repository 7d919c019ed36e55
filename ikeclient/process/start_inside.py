"""Start a tunnel in a namespace of its own for a command, and stand in for the command.

What carries a tunnel is imported after the fork of the namespace's init and of the command, which stay small.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ikeclient.control import client
from ikeclient.control.events import error_of, failed, happened
from ikeclient.errors import AuthenticationFailed, IkeclientError, PlatformError
from ikeclient.ipc.fork import fork
from ikeclient.ipc.messages import pack, receive
from ikeclient.ipc.typed import Codec
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.namespace.namespace import Namespace
from ikeclient.net.syscalls import die_with_parent
from ikeclient.process.stand_in import StandIn, wait_for_end
from ikeclient.process.tunnel_request import Display, TunnelRequest, Work
from ikeclient.profile.importers.open import may_be_foreign, opened
from ikeclient.profile.load.load import LoadedProfile, load_profile
from ikeclient.profile.secrets.secrets import Secret, erase_variable, forget_typed

if TYPE_CHECKING:
    from ikeclient.profile.compiled import CompiledProfile

_ENDING_SECONDS = 10.0  # for a tunnel that is about to end to be gone


class StartedTunnel:
    """A tunnel that came up for `work`, which waits in its namespace. Construction raises what connecting raises."""

    def __init__(self, request: TunnelRequest, work: Work, display: Display) -> None:
        self._display = display
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or the kernel would take our children's exit status
        loaded = None if may_be_foreign(request.profile) else load_profile(request.profile, request.overrides)
        namespace = Namespace.make(_interface(request) if loaded is None else loaded.profile.network.interface)
        self._name = request.name if loaded is None else loaded.name
        self._first, theirs = socket.socketpair()
        self._child = _Child(namespace, work, display, without=(self._first, theirs))
        try:
            self._tunnel = _start_tunnel(request, display, loaded, namespace, theirs)
        except BaseException:
            self._child.kill()
            self._first.close()
            raise
        finally:
            theirs.close()
            namespace.leave()
            namespace.handle.close()

    def wait(self) -> int:
        """Let `work` begin, stand in for it, and return its exit status when it and the tunnel have ended."""
        try:
            stand_in = StandIn(self._child.pid, self._tunnel, self._name, self._display.warn)
            self._child.go()
            status = stand_in.wait()
        except BaseException:
            self._child.kill()
            raise
        finally:
            others_stay = _take_leave(self._first)
        if not others_stay and not wait_for_end(self._tunnel, _ENDING_SECONDS):
            self._display.warn(f"tunnel '{self._name}' was told to end but is still there")
        return status


def _interface(request: TunnelRequest) -> str:
    """The name of the device that a file to import asks for, read by another process: secrets may be in it."""
    reading, writing = os.pipe()
    pid = fork(partial(_tell_interface, request, writing))
    os.close(writing)
    with open(reading, "rb", buffering=0) as answers:
        answer = receive(answers.read)
    os.waitpid(pid, 0)
    match answer:
        case {"interface": str() as interface}:
            return interface
    if answer is not None and answer.get("event") == "error":
        raise error_of(answer)
    raise PlatformError("the process that read the file to import ended without a word")


def _tell_interface(request: TunnelRequest, writing: int) -> int:
    answer: dict[str, object]
    try:
        with opened(request.profile, request.overrides, name=request.name) as loaded:
            answer = {"interface": loaded.profile.network.interface}
    except IkeclientError as error:
        answer = failed(error)
    os.write(writing, pack(answer))
    return 0


def _start_tunnel(
    request: TunnelRequest, display: Display, loaded: LoadedProfile | None, namespace: Namespace, first: socket.socket
) -> int:
    """Start the process that carries the tunnel; returns its ID when it is connected."""
    from ikeclient.net.rights.privileges import forbid_core_dumps
    from ikeclient.process.detach import run_detached
    from ikeclient.process.run_in_namespace import run_inside
    from ikeclient.tunnel.options import ConnectOptions

    forbid_core_dumps()
    kept: dict[str, Secret] = {}
    compiled = _with_secrets(request, loaded, kept)
    options = ConnectOptions(
        name=compiled.name,
        timeout=request.timeout,
        keylog=None,
        runtime_directory=client.runtime_directory(),
        verbosity=display.verbosity,
        metrics=request.metrics,
    )

    def start(compiled: CompiledProfile) -> int:
        return run_detached(
            lambda listener: run_inside(compiled, options, listener, namespace, first),
            display.show,
            display.line,
            options.runtime_directory / f"{options.name}.log",
            display.verbosity,
            keep=(*namespace.descriptors, first.fileno()),
        )

    for warning in compiled.warnings:
        display.show(happened("notice", compiled.name, text=warning))
    try:
        return start(compiled)
    except IkeclientError as error:  # the other process's, of which the exit code tells the kind
        refused = error.exit_code == AuthenticationFailed.exit_code
        if not refused or request.ask is None or request.stdin is not None or not forget_typed(kept):
            raise
        display.error(error)  # what was typed may have been mistyped: once more, never twice
    return start(_with_secrets(request, loaded, kept))


def _with_secrets(request: TunnelRequest, loaded: LoadedProfile | None, kept: dict[str, Secret]) -> CompiledProfile:
    """The profile with its secrets and all warnings; without one it is a file to import."""
    if loaded is not None:
        return _compiled(request, loaded, kept)
    with opened(request.profile, request.overrides, ask=request.ask, kept=kept, name=request.name) as imported:
        return _compiled(request, imported, kept)


def _compiled(request: TunnelRequest, loaded: LoadedProfile, kept: dict[str, Secret]) -> CompiledProfile:
    from ikeclient.profile.compile import compile_profile

    with loaded.places.told():
        compiled = compile_profile(
            loaded.profile,
            loaded.base_dir,
            request.ask,
            name=loaded.name,
            stdin_password=request.stdin() if request.stdin else None,
            kept=kept,
            author=loaded.author,
        )
    return replace(compiled, warnings=tuple(dict.fromkeys((*loaded.warnings, *compiled.warnings))))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begin:
    """Call the work, without the variables of the environment that are `gone`."""

    gone: tuple[str, ...]


_CODEC = Codec()


class _Child:
    """A child process in the namespace that calls `work` when it is told to."""

    def __init__(self, namespace: Namespace, work: Work, display: Display, *, without: Iterable[socket.socket]) -> None:
        reading, self._writing = os.pipe()
        self._variables = set(os.environ)
        parent = os.getpid()

        def life() -> int:
            os.close(self._writing)
            for each in without:
                each.close()
            return _be_child(namespace, work, display, reading, parent)

        self.pid = fork(life)
        os.close(reading)

    def go(self) -> None:
        """Let it call `work`, without the variables that this process has taken out of its environment since."""
        begin = _Begin(gone=tuple(sorted(self._variables - set(os.environ))))
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its status tells why
            os.write(self._writing, pack(_CODEC.encode(begin)))
        os.close(self._writing)

    def kill(self) -> None:
        """End it; it need not have begun."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _be_child(namespace: Namespace, work: Work, display: Display, reading: int, parent: int) -> int:
    """Do everything that the child does; returns its exit code."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        namespace.leave()
        namespace.handle.enter()
        die_with_parent(signal.SIGKILL, parent)
        message = receive(partial(os.read, reading))
        os.close(reading)
        if message is None:
            return 1  # there will be no tunnel
        for name in _CODEC.decode(_Begin, message).gone:
            erase_variable(name)
        return work()
    except IkeclientError as error:
        display.error(error)
        return error.exit_code
    except OSError as error:
        display.error(PlatformError("cannot run in the namespace", reason=error.strerror))
        return PlatformError.exit_code
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def _take_leave(first: socket.socket) -> bool:
    """Tell the tunnel that its first command has ended; returns whether others keep it."""
    with first:
        try:
            first.shutdown(socket.SHUT_WR)
            first.settimeout(_ENDING_SECONDS)
            return receive(first.recv) is not None
        except (OSError, ValueError):
            return False
