"""Where control sockets live, and which of them have somebody behind them.

The kernel says who is alive: a socket with a listener accepts, a dead one refuses, and the listener's process ID comes
from the kernel too. So there are no PID files to go stale. Taking a name and clearing a dead socket happen under a lock
on a file of the directory, which the kernel releases with the process: others can open the directory itself, and could
hold a lock on that for ever.

Root's tunnels are in `/run/ikeclient`, those of services in directories of their own below it. Everybody may look
there. An ordinary user's own are in a directory that only they and root may enter.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ikeclient import nofollow
from ikeclient.errors import PlatformError
from ikeclient.lazy_dataclass import dataclass

SYSTEM_DIRECTORY = Path("/run/ikeclient")
USER_DIRECTORIES = Path("/run/user")  # where systemd makes each user's XDG_RUNTIME_DIR

_LOCK = ".lock"
_PEER_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_HINT = "set IKECLIENT_RUNTIME_DIR to a directory that only you can write to"


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a Unix socket; `pid` is 0 when it lives in another PID namespace."""

    pid: int
    uid: int

    def trusted_by(self, uid: int) -> bool:
        """Return whether it is root's or that user's. No other user may control a tunnel or answer for one."""
        return self.uid in {0, uid}


class _HasOptions(Protocol):
    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def peer(connection: _HasOptions) -> Peer:
    """Return the process at the other end, by the word of the kernel."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid, uid, _ = _PEER_CREDENTIALS.unpack(data)
    return Peer(pid, uid)


def runtime_directory() -> Path:
    """Return the directory of this user's control sockets; it need not exist.

    `IKECLIENT_RUNTIME_DIR`, else what systemd made for a service below `/run/ikeclient`, else `/run/ikeclient` for
    root, else below `XDG_RUNTIME_DIR`, else below the cache of the user. A user without a home, or with one they cannot
    write to (a container with an arbitrary UID), gets one below `/tmp`, checked like all others.
    """
    if chosen := os.environ.get("IKECLIENT_RUNTIME_DIR"):
        return Path(chosen).absolute()
    service = Path(os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0])
    if service.parent == SYSTEM_DIRECTORY:
        return service
    if os.geteuid() == 0:
        return SYSTEM_DIRECTORY
    for variable, tail in (("XDG_RUNTIME_DIR", "ikeclient"), ("XDG_CACHE_HOME", "ikeclient/run")):
        base = os.environ.get(variable, "")
        if base.startswith("/"):  # the XDG specification has relative ones ignored
            return Path(base, tail)
    with suppress(RuntimeError):
        cache = Path.home() / ".cache/ikeclient/run"
        there = next(
            path for path in (cache, *cache.parents) if os.path.exists(path)
        )  # not ours to look into: as if not there
        if os.access(there, os.W_OK):
            return cache
    return Path(f"/tmp/ikeclient-{os.geteuid()}")  # noqa: S108 - `prepare` refuses it unless it is ours alone


def system_directories() -> list[Path]:
    """Return where the tunnels of root and of services are; none if the environment names a directory."""
    if os.environ.get("IKECLIENT_RUNTIME_DIR"):
        return []
    return [SYSTEM_DIRECTORY, *_inner(SYSTEM_DIRECTORY)]


def user_directories() -> list[Path]:
    """Return where the tunnels of ordinary users are, as root: to all others those are closed."""
    if os.environ.get("IKECLIENT_RUNTIME_DIR") or os.geteuid() != 0:
        return []
    return [path / "ikeclient" for path in _inner(USER_DIRECTORIES) if _is_directory(path / "ikeclient")]


def _inner(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if _is_directory(path))
    except OSError:
        return []


def _is_directory(path: Path) -> bool:
    """Return whether it is a directory and no symbolic link to one, which could lead anywhere."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def prepare(directory: Path) -> None:
    """Make `directory`, or check that it is ours and that no other user can put anything into it.

    Below `/run/ikeclient` everybody may look, elsewhere we alone. An existing directory is never changed: it may have
    been named by mistake. Raises PlatformError.
    """
    try:
        for each in (SYSTEM_DIRECTORY, directory):
            if directory.is_relative_to(each) and not each.exists():
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
                if each.is_relative_to(SYSTEM_DIRECTORY):
                    each.chmod(0o755)
        status = directory.lstat()
    except OSError as error:
        raise PlatformError(f"cannot make {directory}", reason=error.strerror, hint=_HINT) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PlatformError(f"{directory} is not safe", reason="others can change what is in it", hint=_HINT)


@contextmanager
def try_lock(directory: Path) -> Iterator[bool]:
    """Hold the lock of `directory` for the block; gives False if another process has it. Raises OSError."""
    path = directory / _LOCK
    descriptor = nofollow.try_lock(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)
            os.close(descriptor)


class Claim:
    """The right to start the tunnel `name`, which one process has at a time: a lock on a file that goes with it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, directory: Path, name: str) -> Claim | None:
        """Return the claim, or None while another process has it. Raises PlatformError."""
        path = directory / f"{name}.start"
        try:
            descriptor = nofollow.try_lock(path)
        except OSError as error:
            raise PlatformError(f"cannot write into {directory}", reason=error.strerror, hint=_HINT) from error
        return None if descriptor is None else cls(path, descriptor)

    def release(self) -> None:
        """Give it up, for others to take."""
        with suppress(OSError):
            self._path.unlink()
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # children have copies of the descriptor
        os.close(self._descriptor)


def connect(path: Path, timeout: float = 1.0) -> socket.socket | None:
    """Connect to the trusted listener behind `path`; None if there is none, or one that is not trusted.

    Trusted are root, ourselves, and a service or a user in a directory of their own that only root could have given
    them that name.

    Raises PermissionError when we may not ask, BlockingIOError or TimeoutError when a listener exists but has too much
    to do, OSError for the rest.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):  # a link could lead to a socket of another program
            raise FileNotFoundError
        connection.settimeout(timeout)
        connection.connect(os.fspath(path))
        if peer(connection).uid in _answering(path.parent):
            return connection
    except (FileNotFoundError, ConnectionRefusedError):
        pass
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def _answering(directory: Path) -> set[int]:
    """Return the users who may answer for the tunnels in `directory`."""
    owner = directory.stat().st_uid
    ours = {0, os.geteuid()}
    if owner in ours:
        return ours
    if os.geteuid() == 0:
        return {owner}
    above = directory.parent.stat()
    return ours | {owner} if above.st_uid == 0 and not above.st_mode & 0o022 else ours


def listener(path: Path) -> int | None:
    """Return the process ID behind a socket: 0 if it cannot be told, None if no process that we trust listens."""
    try:
        connection = connect(path)
    except PermissionError:
        return None
    except OSError:  # the queue of a listener that does nothing is full
        return 0
    if connection is None:
        return None
    with connection:
        return peer(connection).pid


def remove_dead(path: Path) -> None:
    """Unlink a socket without a listener; anything that is not a socket stays. The caller holds the lock.

    Raises OSError.
    """
    try:
        if stat.S_ISSOCK(path.lstat().st_mode) and listener(path) is None:
            path.unlink()
    except FileNotFoundError:
        pass
