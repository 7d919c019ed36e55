"""Who can change what a path leads to: every directory on the way decides, and every symbolic link.

A file of root's in a directory of Eve's is Eve's: she can put another in its place. In a directory with the sticky bit,
such as `/tmp`, everybody can make files, but an entry can be replaced by its own owner only. Where the file system is
mounted read-only nobody can, whatever the mode says: engines of containers mount configuration so, in directories of
mode 0777.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.load.author import Author, expand
from ikeclient.profile.load.files import quoted_path, shown_path, trusted_owners
from ikeclient.wire.text import printable

MAX_LINKS = 40  # as the kernel has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One directory, symbolic link or file that a path leads through."""

    path: Path
    status: os.stat_result

    @property
    def is_loose(self) -> bool:
        """Whether others than its owner can change what is in it. Raises OSError if it is gone."""
        mode = self.status.st_mode
        if stat.S_ISLNK(mode) or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
            return False
        return bool(mode & 0o022) and not os.statvfs(self.path).f_flag & os.ST_RDONLY

    def __str__(self) -> str:
        return shown_path(self.path)


def places(path: Path) -> Iterator[Place]:
    """Every place on the way from the root to `path`, itself included; links are followed. Raises OSError."""
    left = list(reversed(Path(os.getcwd(), path).parts[1:]))  # `..` is kept, since a link may stand before it
    here = Path("/")
    links = 0
    yield Place(path=here, status=here.lstat())
    while left:
        name = left.pop()
        if name == "..":
            here = here.parent
            continue
        place = Place(path=here / name, status=(here / name).lstat())
        yield place
        if not stat.S_ISLNK(place.status.st_mode):
            here = place.path
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(place.path)
        if target.startswith("/"):
            here = Path("/")
        left += [part for part in reversed(target.split("/")) if part not in ("", ".")]


def changeable(path: Path, trusted: Collection[int]) -> tuple[str, str | None] | None:
    """Why others than `trusted` users can change what `path` leads to, with what to do about it; None if they cannot.

    Raises OSError if it leads nowhere.
    """
    for place in places(path):
        what = "" if place.path == path else f"is reached through {place}, which "
        if place.status.st_uid not in trusted:
            return f"{what}belongs to another user (uid {place.status.st_uid})", None
        if place.is_loose:
            mode = stat.S_IMODE(place.status.st_mode)
            return f"{what}others may change (mode {mode:04o})", f"chmod go-w {quoted_path(place.path)}"
    return None


def writer(path: Path, owner: int, *, given: frozenset[tuple[str, ...]]) -> Author | None:
    """The author of the profile at `path`, for root: None if it is root's. `owner` has the opened file.

    Raises ProfileError if there is more than one, or if anybody can write to it.
    """
    found: dict[int, str] = {}
    try:
        for place in places(path):
            if place.is_loose:
                mode = stat.S_IMODE(place.status.st_mode)
                message = f"{shown_path(path)}: root does not use a profile that others may change"
                raise ProfileError(
                    message, reason=f"{place} has mode {mode:04o}", hint=f"chmod go-w {quoted_path(place.path)}"
                )
            if place.status.st_uid != 0:
                found.setdefault(place.status.st_uid, str(place))
    except OSError as error:  # it is being changed this moment
        raise ProfileError(f"{shown_path(path)}: {error.strerror}") from None
    if owner != 0:
        found.setdefault(owner, shown_path(path))
    if not found:
        return None
    if len(found) > 1:
        whose = ", ".join(f"{place} to uid {uid}" for uid, place in found.items())
        raise ProfileError(
            f"{shown_path(path)}: root does not use a profile that more than one other user can change",
            reason=f"of its path, {whose} belongs",
            hint="copy it to /etc/ikeclient/profiles",
        )
    (uid,) = found
    return Author.of(uid, called_sudo=uid in trusted_owners(os.environ), given=given)


def program(written: str, base_dir: Path, what: str, author: Author | None = None) -> str:
    """The absolute path of a program that only root and the user it runs as may change (hardening F15, F17).

    `what` starts the sentence of an error. Raises ProfileError.
    """
    found = str(base_dir / expand(written, author)) if "/" in written else shutil.which(written)
    if found is None:
        raise ProfileError(f"{what} {printable(written, 80)}, which is not in the search path")
    path = Path(os.path.abspath(found))
    if trouble := _trouble(path, trusted_owners(os.environ) if author is None else {0, author.uid}):
        raise ProfileError(f"{what} {shown_path(path)}, which {trouble[0]}", hint=trouble[1])
    return str(path)


_LIBRARIES = ("/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
_INSIDE = ("", "pkcs11", "softhsm", "opensc")


def library(written: str, base_dir: Path, what: str, author: Author | None = None) -> str:
    """The absolute path of a shared library that only root and the user it is loaded as may change, as `program`.

    A bare name is looked for in the system's directories. Raises ProfileError.
    """
    if "/" in written:
        path = Path(os.path.abspath(base_dir / expand(written, author)))
    else:
        places = [Path(each.format(machine=os.uname().machine), inside) for each in _LIBRARIES for inside in _INSIDE]
        path = next((place / written for place in places if (place / written).is_file()), Path(written))
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
        loose = changeable(path, trusted_owners(os.environ) if author is None else {0, author.uid})
    except (OSError, ValueError):
        name = shown_path(path) if "/" in written else printable(written, 80)
        hint = "install the token's driver, such as opensc-pkcs11, or give the module's path"
        raise ProfileError(f"{what} {name}, which cannot be found", hint=hint) from None
    if not regular:
        raise ProfileError(f"{what} {shown_path(path)}, which is not a library")
    if loose:
        raise ProfileError(f"{what} {shown_path(path)}, which {loose[0]}", hint=loose[1])
    return str(path)


def _trouble(path: Path, trusted: Collection[int]) -> tuple[str, str | None] | None:
    """Why a program cannot or must not be run, with what to do about it."""
    try:
        status = path.stat()
        loose = changeable(path, trusted)
    except (OSError, ValueError):
        return "cannot be found", None
    if not stat.S_ISREG(status.st_mode):
        return "is not a program", None
    if not os.access(path, os.X_OK):
        return "is not executable", f"chmod +x {quoted_path(path)}"
    return loose
