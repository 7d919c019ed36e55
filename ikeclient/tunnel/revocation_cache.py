"""Revocation lists and OCSP responses on disk, until they expire.

What is in here is signed, and judged again each time it is read: a file that was damaged or exchanged says nothing, and
the worst that its owner can do is to keep an answer for as long as it holds. The directory belongs to the user that the
tunnel's process becomes, and to nobody else: 0700, files 0600, and a directory that is otherwise is not used. Whatever
goes wrong with it, the tunnel does without.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ikeclient.net.rights.drop_privileges import future_user
from ikeclient.nofollow import create_file, open_directory, open_regular
from ikeclient.profile.compiled import CompiledProfile

MAX_FILES = 64
MAX_BYTES = 64 << 20
_NAME_LENGTH = 64


def cache_directory(environment: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """Where the files are: a service's cache directory, the machine's for root, else the user's."""
    if given := environment.get("CACHE_DIRECTORY", "").partition(":")[0]:
        return Path(given) / "revocation"
    if (os.geteuid() if uid is None else uid) == 0:
        return Path("/var/cache/ikeclient/revocation")
    base = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "/nonexistent")) / ".cache")
    return Path(base) / "ikeclient" / "revocation"


class RevocationCache:
    """Files by key in one directory; without a directory it is empty and stays so.

    It is used only if nobody but its owner can: this process's user, or `owner`, a user whom root will become.
    """

    def __init__(self, directory: Path | None, owner: int | None = None) -> None:
        self._directory = directory
        self._owner = owner

    def prepare(self, owner: tuple[int, int] | None = None) -> None:
        """Make the directory, for `owner` (uid, gid) if this process becomes another user."""
        if self._directory is None:
            return
        with contextlib.suppress(OSError):
            self._directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._directory.mkdir(mode=0o700, exist_ok=True)
            if owner is not None and os.geteuid() == 0:
                descriptor = open_directory(self._directory)
                try:
                    os.fchown(descriptor, *owner)
                    os.fchmod(descriptor, 0o700)
                finally:
                    os.close(descriptor)

    def get(self, key: str, limit: int) -> bytes | None:
        """What is kept under `key`; None if nothing of at most `limit` bytes is."""
        with self._opened() as directory, contextlib.suppress(OSError):
            if directory is None:
                return None
            with open_regular(_name(key), directory) as file:
                status = os.fstat(file.fileno())
                if status.st_uid == os.geteuid() and status.st_size <= limit:
                    return file.read(limit)
        return None

    def put(self, key: str, content: bytes) -> None:
        """Keep `content`, in the place of what was there; the oldest files make room."""
        with self._opened() as directory, contextlib.suppress(OSError):
            if directory is None or len(content) > MAX_BYTES:
                return
            import secrets  # see `late_modules`

            temporary = f".{secrets.token_hex(8)}"
            try:
                with create_file(temporary, directory) as file:
                    file.write(content)
                os.rename(temporary, _name(key), src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                _remove(directory, temporary)
                raise
            _make_room(directory, _name(key))

    def usage(self) -> tuple[int, int] | None:
        """How many answers are kept, and their bytes; None if the directory is not there or cannot be used."""
        with self._opened() as directory:
            if directory is None:
                return None
            sizes: list[int] = []
            with contextlib.suppress(OSError):
                names = [name for name in os.listdir(directory) if len(name) == _NAME_LENGTH]
                sizes = [os.stat(name, dir_fd=directory, follow_symlinks=False).st_size for name in names]
            return len(sizes), sum(sizes)

    def remove(self, key: str) -> None:
        """Forget what is kept under `key`."""
        with self._opened() as directory:
            if directory is not None:
                _remove(directory, _name(key))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """A descriptor of the directory, None if it cannot be used."""
        descriptor = None
        if self._directory is not None:
            with contextlib.suppress(OSError):
                descriptor = open_directory(self._directory)
        try:
            usable = False
            if descriptor is not None:
                status = os.fstat(descriptor)
                usable = status.st_uid in (os.geteuid(), self._owner) and not status.st_mode & 0o077
            yield descriptor if usable else None
        finally:
            if descriptor is not None:
                os.close(descriptor)


def revocation_cache_for(profile: CompiledProfile) -> RevocationCache:
    """Return the place for what was learnt about revocation, which the user that this process becomes can use."""
    if not profile.ike.revocation.asks:
        return RevocationCache(None)
    cache = RevocationCache(cache_directory())
    cache.prepare(future_user())
    return cache


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _remove(directory: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=directory)


def _make_room(directory: int, newest: str) -> None:
    """Remove the oldest files until what is left is within the limits, and what a crash left."""
    found = []
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            found.append((name == newest, len(name) == _NAME_LENGTH, status.st_mtime_ns, status.st_size, name))
    found.sort(reverse=True)
    total = 0
    for number, (is_newest, _, _, size, name) in enumerate(found):
        total += size
        if not is_newest and (number >= MAX_FILES or total > MAX_BYTES):
            _remove(directory, name)
