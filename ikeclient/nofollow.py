"""Files opened where others may have put something else under the name: a link, a FIFO, a device.

A name is never followed if it is a symbolic link. The directories above it are not looked at: they have to be trusted,
or the name is taken relative to `directory`, an open descriptor of one. All functions raise OSError.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from io import BufferedReader, BufferedWriter
from pathlib import Path


def open_regular(path: Path | str, directory: int | None = None) -> BufferedReader:
    """Open a regular file for reading. Anything else is refused, and not even opened: that of a device has effects."""
    _require_regular(os.stat(path, dir_fd=directory, follow_symlinks=False))
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=directory)
    try:
        _require_regular(os.fstat(descriptor))  # another one by now
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def create_file(path: Path | str, directory: int | None = None) -> BufferedWriter:
    """Make a file of mode 0600 and open it for writing. Raises FileExistsError if the name is taken, also by a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(path, flags, 0o600, dir_fd=directory), "wb")


def open_directory(path: Path) -> int:
    """Return a descriptor of a directory."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def open_lock(path: Path | str, directory: int | None = None) -> int:
    """Return a descriptor to lock, of a file with mode 0600 that is made if it is missing."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)


def take_lock(path: Path | str, directory: int | None = None) -> int:
    """Lock a file that whoever holds the lock removes, once others have given it up; returns the descriptor."""
    while (descriptor := _lock(path, directory, fcntl.LOCK_EX)) is None:
        pass
    return descriptor


def try_lock(path: Path | str, directory: int | None = None) -> int | None:
    """Do as `take_lock`, but return None if another process holds the lock."""
    return _lock(path, directory, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock(path: Path | str, directory: int | None, operation: int) -> int | None:
    descriptor = open_lock(path, directory)
    try:
        fcntl.flock(descriptor, operation)
        there = os.stat(path, dir_fd=directory, follow_symlinks=False)
        if os.path.samestat(os.fstat(descriptor), there):  # else it went with its former holder
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
