"""Reading files that a person names: only regular ones, only so much, and with the right user's rights.

A path in a profile may lead to a FIFO that never ends, to `/dev/zero`, to somebody else's key. Each of these becomes a
sentence instead of a hang. What is checked about a file is checked on the opened file, so that it cannot be swapped.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.load.author import TIMEOUT, Author, NoRights
from ikeclient.wire.text import printable

_READ = 1 << 16
_PERMIT = "connection.permissions says whose rights count; each of these users must be allowed to read it"
_OWN_IT = "chown 0 the profile and its directory if what it names shall be read with root's rights"
_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ELOOP: "its symbolic links form a loop",
    errno.ENAMETOOLONG: "the name is too long",
}


class FileFault(Exception):
    """Why a file cannot be used, as the rest of a sentence that starts with its path; `missing`: it is not there."""

    def __init__(self, reason: str, *, missing: bool = False, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.missing = missing
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """What was read, with the mode and the owner that the file had while it was open."""

    data: bytes = field(repr=False)
    mode: int
    owner: int


def shown_path(path: Path) -> str:
    """A path fit for one line of an error."""
    return printable(str(path), 512)


def quoted_path(path: Path) -> str:
    """A path fit for a command that a person pastes into a shell."""
    return shlex.quote(shown_path(path))


def read_regular(path: Path, limit: int, author: Author | None = None) -> FileContent:
    """The content of a regular file of at most `limit` bytes. Raises FileFault; never blocks on a FIFO or a device.

    With an `author` it is opened and read with that user's rights (hardening F14, F17).
    """
    return _read(path, limit) if author is None else _read_as(author, path, limit)


def _read_as(author: Author, path: Path, limit: int) -> FileContent:
    def read() -> tuple[dict[str, object], bytes]:
        try:
            content = _read(path, limit)
        except FileFault as fault:
            return {"reason": fault.reason, "missing": fault.missing}, b""
        return {"mode": content.mode, "owner": content.owner}, content.data

    try:
        head, data = author.read(read)
    except NoRights as refusal:
        raise FileFault(f"cannot be read: {refusal}", hint=_OWN_IT) from None
    except TimeoutError:
        raise FileFault(f"did not come within {TIMEOUT:g} seconds") from None
    match head:
        case {"mode": int() as mode, "owner": int() as owner}:
            return FileContent(data=data, mode=mode, owner=owner)
        case {"reason": str() as reason, "missing": bool() as missing}:
            role = "for whom the connection is" if author.of_connection else "who owns the profile"
            why = f"{reason}, with the rights of {author}, {role}"
            raise FileFault(why, missing=missing, hint=_PERMIT if author.of_connection else _OWN_IT)
    raise FileFault("cannot be read")


def _read(path: Path, limit: int) -> FileContent:
    try:
        _require_regular(path.stat())  # opening a device can do things
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise _fault(error) from None
    try:
        status = os.fstat(descriptor)
        _require_regular(status)
        data = bytearray()
        while len(data) <= limit and (piece := os.read(descriptor, _READ)):
            data += piece
    except OSError as error:
        raise _fault(error) from None
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise FileFault(f"is larger than {_size(limit)}")
    return FileContent(data=bytes(data), mode=stat.S_IMODE(status.st_mode), owner=status.st_uid)


def read_configuration(path: Path, limit: int, author: Author | None = None) -> FileContent:
    """As `read_regular`, for a file that a profile names; raises ProfileError with the path in it."""
    try:
        return read_regular(path, limit, author)
    except FileFault as fault:
        raise ProfileError(f"{shown_path(path)}: {fault.reason}", hint=fault.hint) from None


def trusted_owners(environ: Mapping[str, str]) -> frozenset[int]:
    """Whose files may decide what we do: root's, our own, and under sudo those of the user who called it."""
    caller = sudo_caller(environ)
    return frozenset({0, os.geteuid()} if caller is None else {0, caller})


def sudo_caller(environ: Mapping[str, str]) -> int | None:
    """Return the user who called sudo, None if that is root or we are not root."""
    caller = environ.get("SUDO_UID", "")
    written = caller.isascii() and caller.isdigit() and len(caller) <= 10
    return (int(caller) or None) if written and os.geteuid() == 0 else None


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise FileFault("is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise FileFault("is not a regular file")


def _fault(error: OSError | ValueError) -> FileFault:
    if isinstance(error, OSError):
        reason = _REASONS.get(error.errno or 0, f"cannot be read: {error.strerror}")
        return FileFault(reason, missing=error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG))
    return FileFault("is not a path", missing=True)  # a NUL in it


def _size(limit: int) -> str:
    return f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"
