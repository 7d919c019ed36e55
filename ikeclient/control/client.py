"""The asking side of control sockets: plain blocking calls, because that is all a command needs.

Nothing a tunnel sends is trusted for its size or shape. Dead sockets that crashed tunnels left are skipped and removed.

A tunnel is looked for in our own runtime directory, then in those of the machine, then, as root, in those of users. One
that is not the first of its name is called USER:NAME. With `directory` that one alone is looked at.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import socket
import time
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ikeclient.control import protocol
from ikeclient.control.directory import (
    connect,
    listener,
    peer,
    remove_dead,
    runtime_directory,
    system_directories,
    try_lock,
    user_directories,
)
from ikeclient.control.protocol import Command
from ikeclient.errors import NoResponse, NoSuchTunnel, ParseError, PrivilegeError, UsageError

if TYPE_CHECKING:
    from ikeclient.control.status import TunnelStatus, WatchStatus

__all__ = [
    "Events",
    "decision",
    "disconnect",
    "events",
    "find",
    "hidden",
    "join",
    "list_tunnels",
    "locate",
    "process",
    "request",
    "resolve",
    "running_pid",
    "runtime_directory",
    "status",
    "survey",
]

_CHUNK = 64 * 1024
_BUSY_PAUSE = 0.05
_MOST_OF_A_USER = 16  # tunnels of another user that root looks at


def list_tunnels(directory: Path | None = None, *, ours: bool = False) -> list[str]:
    """Return the names of the running tunnels; clears dead sockets. Never raises for a bad directory.

    `ours` leaves out those that we may only look at, and as root those of ordinary users.
    """
    return _names(directory) if directory is not None else list(_running(ours=ours))


def readable_directories() -> list[Path]:
    """Return the runtime directories whose tunnels are found by name."""
    return _places()


def survey() -> tuple[list[str], dict[str, WatchStatus]]:
    """Return the names of the running tunnels, and what `ikeclient watch` has decided for those that do not run.

    Never raises. A tunnel that runs tells by `status` what was decided for it.
    """
    from ikeclient.control import automatic

    running = _running()
    down: dict[str, WatchStatus] = {}
    for place in _places():
        own_names = {own for directory, own in running.values() if directory == place}
        most = _MOST_OF_A_USER if place in user_directories() else None
        for name, decision in islice(automatic.decisions(place, without=own_names), most):
            down[_shown(name, place, running.keys() | down.keys())] = decision
    return list(running), down


def decision(name: str) -> WatchStatus | None:
    """Return what `ikeclient watch` has decided for a tunnel. Raises UsageError as `locate` does."""
    from ikeclient.control import automatic

    return automatic.decision(*locate(name))


def _running(*, ours: bool = False) -> dict[str, tuple[Path, str]]:
    """Return the directories and the own names of the running tunnels, by the names that they are shown with."""
    found: dict[str, tuple[Path, str]] = {}
    for place in _places(ours=ours):
        names = _names(place)
        for name in names[:_MOST_OF_A_USER] if place in user_directories() else names:
            found[_shown(name, place, found)] = (place, name)
    return found


def _shown(name: str, place: Path, others: Container[str]) -> str:
    """Return the name that a tunnel is shown with: its own, unless another one has that."""
    return name if name not in others else f"{_user_of(place)}:{name}"


def _places(*, ours: bool = False) -> list[Path]:
    """Return the directories to look in, in this order."""
    machine = [] if ours and os.geteuid() != 0 else system_directories()
    return list(dict.fromkeys([runtime_directory(), *machine, *([] if ours else user_directories())]))


def _names(directory: Path) -> list[str]:
    """Return the names of those that run there. What has no name of a tunnel is none: a user can bind any socket."""
    names = []
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == protocol.SOCKET_SUFFIX)
    except OSError:
        return []
    for path in filter(lambda path: protocol.is_name(path.stem), paths):
        if listener(path) is not None:
            names.append(path.name.removesuffix(protocol.SOCKET_SUFFIX))
        else:
            with contextlib.suppress(OSError), try_lock(directory) as locked:
                if locked:
                    remove_dead(path)
    return names


def _user_of(directory: Path) -> str:
    try:
        return _user_name(directory.stat().st_uid)
    except OSError:
        return "?"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def hidden() -> list[Path]:
    """Return the directories and sockets of the machine's tunnels that we may not look into."""
    closed = []
    for place in system_directories():
        try:
            sockets = [path for path in place.iterdir() if path.suffix == protocol.SOCKET_SUFFIX]
        except PermissionError:
            closed.append(place)
        except OSError:
            continue
        else:
            closed += [path for path in sockets if not os.access(path, os.W_OK)]
    return closed


def find(name: str) -> tuple[Path, int] | None:
    """Return where the tunnel `name` of ours or of this machine runs, and its process ID; None if it does not run."""
    for place in dict.fromkeys([runtime_directory(), *system_directories()]):
        pid = listener(protocol.socket_path(place, name))
        if pid is not None:
            return place, pid
    return None


def locate(name: str) -> tuple[Path, str]:
    """Return the directory of the tunnel that is called `name` or USER:NAME, and its own name.

    Our own directory if it runs nowhere. Raises UsageError if several ordinary users have one of that name.
    """
    user, _, own = name.rpartition(":")
    places = [place for place in _places() if not user or _user_of(place) == user]
    running = [place for place in places if listener(protocol.socket_path(place, own)) is not None]
    of_users = set(user_directories())
    if running and running[0] in of_users and len(running) > 1:
        raise UsageError(
            f"several tunnels are called '{own}'",
            reason=f"running: {', '.join(f'{_user_of(place)}:{own}' for place in running)}",
            hint="name one in this way",
        )
    return (running or [runtime_directory()])[0], own


def _at(name: str, directory: Path | None) -> tuple[Path, str]:
    return locate(name) if directory is None else (directory, name)


def running_pid(name: str, directory: Path | None = None) -> int | None:
    """Return the process ID of a running tunnel: None when it does not run, 0 when it runs out of sight."""
    directory, name = _at(name, directory)
    return listener(protocol.socket_path(directory, name))


def resolve(name: str | None, directory: Path | None = None) -> str:
    """Return the tunnel that is meant: `name` if it runs, without a name the only one that runs.

    Raises NoSuchTunnel, PrivilegeError when we may not look, or UsageError when several run and none was named.
    """
    if name is None:
        running = list_tunnels(directory, ours=True) or list_tunnels(directory)
        match running:
            case [only]:
                return only
            case []:
                raise NoSuchTunnel(
                    "no tunnel is running", reason=_unseen(directory), hint="`ikeclient connect PROFILE` starts one"
                )
        raise UsageError("several tunnels are running", reason=f"running: {', '.join(running)}", hint="name one")
    if running_pid(name, directory) is None:
        _refuse_hidden(name, directory)
        running = list_tunnels(directory)
        reason = f"running: {', '.join(running)}" if running else "nor is any other one"
        raise NoSuchTunnel(f"no tunnel '{name}' is running", reason=reason)
    return name


def _unseen(directory: Path | None) -> str | None:
    closed = hidden() if directory is None else []
    return f"{', '.join(map(str, closed))} may not be read by user {_user_name(os.geteuid())}" if closed else None


def _refuse_hidden(name: str, directory: Path | None) -> None:
    """Raise PrivilegeError if the tunnel may run where we may not look."""
    unseen = _unseen(directory)
    if unseen is not None:
        raise PrivilegeError(f"tunnel '{name}' may not be read", reason=unseen, hint="ask as root")


def request(
    name: str,
    command: Command,
    arguments: Mapping[str, object] | None = None,
    *,
    directory: Path | None = None,
    timeout: float = 5.0,
) -> object:
    """Return what the tunnel `name` answers to `command`, which may have arguments.

    Raises NoSuchTunnel when it does not run, NoResponse when it does not answer within `timeout` seconds,
    PrivilegeError when it is not ours to control, UsageError when it refuses.
    """
    with _Connection(name, directory, timeout) as connection:
        return connection.ask(command, arguments)


def status(name: str, *, directory: Path | None = None, timeout: float = 5.0) -> TunnelStatus:
    """Return what the tunnel `name` tells about itself, with what `ikeclient watch` has decided for it beside it.

    Its name and its process ID are not its own word: they are those of the socket, the latter where it is visible.

    Raises NoSuchTunnel when it does not run, NoResponse when it does not answer in time or makes no sense, UsageError
    when it refuses.
    """
    from ikeclient.control import automatic
    from ikeclient.control.status import TunnelStatus

    with _Connection(name, directory, timeout) as connection:
        answer = connection.ask(Command.STATUS)
    if not isinstance(answer, Mapping):
        raise _nonsense(name, ParseError("it is no object"))
    told = TunnelStatus.from_json(answer)
    watch = automatic.decision(connection.place, connection.own_name)
    pid = connection.pid or told.pid
    return replace(told, name=connection.own_name, pid=pid, user=connection.user, watch=watch)


def join(name: str, *, directory: Path | None = None, timeout: float = 10.0) -> object | None:
    """Return the way into the namespace of the tunnel `name`, which now lasts at least as long as this process.

    None if it is about to end. Raises as `request` does, after waiting while too many ask.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return request(name, Command.JOIN, directory=directory, timeout=timeout)
        except UsageError as error:
            if error.reason == protocol.ENDING:
                return None
            if error.reason != protocol.TOO_MANY or time.monotonic() > deadline:
                raise
        time.sleep(_BUSY_PAUSE)


def events(name: str, *, directory: Path | None = None, timeout: float = 5.0, deadline: float | None = None) -> Events:
    """Subscribe to the events of the tunnel `name`: those that happen after this call. Raises as `request` does.

    Listening ends at `deadline` (`time.monotonic`) with NoResponse.
    """
    connection = _Connection(name, directory, timeout)
    try:
        connection.ask(Command.EVENTS)
    except BaseException:
        connection.close()
        raise
    return Events(connection, deadline)


def disconnect(name: str, *, directory: Path | None = None, timeout: float = 5.0) -> bool:
    """End the tunnel `name` and wait until its process is gone; False when it still was not after `timeout` seconds.

    Raises as `request` does.
    """
    deadline = time.monotonic() + timeout
    with _Connection(name, directory, timeout) as connection, process(connection.pid) as ending:
        connection.ask(Command.DISCONNECT)
        if ending is None:
            return _wait_for_silence(name, directory, deadline)
        poll = select.poll()
        poll.register(ending, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


class Events:
    """The events of one tunnel, dictionaries with `event` and `time`; iteration blocks and ends with the tunnel.

    Iteration raises NoResponse when what arrives is no event, and when the deadline has passed.
    """

    def __init__(self, connection: _Connection, deadline: float | None = None) -> None:
        self._connection = connection
        self.pid = connection.pid
        connection.wait_until(deadline)

    def __iter__(self) -> Iterator[dict[str, object]]:
        return self

    def __next__(self) -> dict[str, object]:
        try:
            return self._connection.read()
        except ParseError as error:
            self.close()
            raise _nonsense(self._connection.name, error) from error
        except TimeoutError:
            raise NoResponse(f"nothing more happened to tunnel '{self._connection.name}' in time") from None
        except (EOFError, OSError):
            self.close()
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._connection.close()


class _Connection:
    """One connection to a tunnel; every call before `wait_until` is bound by one deadline."""

    def __init__(self, name: str, directory: Path | None, timeout: float) -> None:
        self.name = name
        self._deadline: float | None = time.monotonic() + timeout
        self._buffer = bytearray()
        self.place, self.own_name = _at(name, directory)
        self._socket = self._open(protocol.socket_path(self.place, self.own_name), directory)
        who = peer(self._socket)
        self.pid = who.pid
        self.user = _user_name(who.uid)

    def _open(self, path: Path, directory: Path | None) -> socket.socket:
        while True:
            try:
                connection = connect(path, self._left() or 1.0)
            except PermissionError:
                connection = None
            except OSError:  # its queue is full
                time.sleep(_BUSY_PAUSE)
                continue
            if connection is None:
                resolve(self.name, directory)  # says what runs instead
                raise NoSuchTunnel(f"tunnel '{self.name}' has just ended")
            return connection

    def _left(self) -> float | None:
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise NoResponse(
                f"tunnel '{self.name}' does not answer",
                reason="its process is there but stopped or too busy",
            )
        return left

    def ask(self, command: Command, arguments: Mapping[str, object] | None = None) -> object:
        """Send a request and return the result of the reply."""
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(protocol.encode(protocol.request(command, **(arguments or {}))))
        except OSError:
            pass  # a server that refuses us may have closed already; what it said can still be read
        try:
            reply = self.read()
        except TimeoutError:
            self._left()
            raise NoResponse(f"tunnel '{self.name}' does not answer") from None
        except ParseError as error:
            raise _nonsense(self.name, error) from error
        except (EOFError, OSError) as error:
            raise NoSuchTunnel(f"tunnel '{self.name}' ended before it answered") from error
        if reply.get("ok") is not True and reply.get("error") == protocol.NOT_YOURS:
            raise PrivilegeError(
                f"tunnel '{self.name}' is not yours to control",
                reason=f"it belongs to user {self.user}, and {protocol.NOT_YOURS}",
                hint="sudo makes you root",
            )
        if reply.get("ok") is not True:
            raise UsageError(f"tunnel '{self.name}' refused", reason=str(reply.get("error")))
        return reply.get("result")

    def read(self) -> dict[str, object]:
        """Read the next line. Raises EOFError, ParseError, TimeoutError and OSError."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > protocol.MAXIMUM_REPLY:
                raise ParseError("the line is too long")
            self._socket.settimeout(self._left())
            data = self._socket.recv(_CHUNK)
            if not data:
                raise EOFError
            self._buffer += data
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        return protocol.decode(bytes(line))

    def wait_until(self, deadline: float | None) -> None:
        """Set another deadline, or none."""
        self._deadline = deadline

    def close(self) -> None:
        """Close the connection; a thread that reads from it is woken."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _nonsense(name: str, error: ParseError) -> NoResponse:
    return NoResponse(f"tunnel '{name}' gave an answer that makes no sense", reason=str(error))


@contextlib.contextmanager
def process(pid: int) -> Iterator[int | None]:
    """Give a descriptor that becomes readable when the process ends, or None if the process cannot be watched.

    It is taken while we are connected to the process, so it cannot be that of a later one with the same number.
    """
    try:
        descriptor = os.pidfd_open(pid) if pid > 0 else None
    except OSError:
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _wait_for_silence(name: str, directory: Path | None, deadline: float) -> bool:
    while running_pid(name, directory) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_BUSY_PAUSE)
    return True
