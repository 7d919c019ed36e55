"""What may be read beside an imported file: one directory that the user named, or one archive, within bounds.

Names come from strangers. Nothing is opened that lies outside once every symbolic link is resolved, and an archive is
never unpacked to disk. Root can read every file: from a file of somebody else's it follows names only to files that are
that user's, or everybody's to read, since what is imported goes to a gateway which that user chose.
"""

from __future__ import annotations

import fnmatch
import io
import lzma
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ikeclient.errors import ProfileError
from ikeclient.nofollow import open_regular

MAX_FILES = 500  # names that are looked at
MAX_FILE = 4 << 20  # bytes of one file
MAX_TOTAL = 64 << 20
MAX_DEPTH = 4
MAX_READS = 200
_UNREADABLE = (  # what `zipfile` raises for archives that are none
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError),
    *(ValueError, LookupError, NotImplementedError, RuntimeError),
)

_ROOTS = tuple(Path(name) for name in ("/etc/swanctl", "/etc/strongswan/swanctl", "/etc/strongswan", "/etc"))


class Neighbours:
    """A directory, or nothing at all: then every file is missing.

    `owner` is the user whose names are followed; None if that is nobody else than we are.
    """

    def __init__(self, root: Path | None, owner: int | None = None) -> None:
        self.root = root
        self.owner = owner
        self._budget = MAX_TOTAL
        self._reads = MAX_READS

    @classmethod
    def beside(cls, source: Path, owner_of_all: int | None = None) -> Neighbours:
        """The directory that the file `source` is in, or that `source` is; root's files are `owner_of_all`'s."""
        try:
            owner = source.stat().st_uid if os.geteuid() == 0 else 0
        except OSError:
            owner = 0
        return cls(source if source.is_dir() else source.parent, owner or owner_of_all)

    @property
    def attached(self) -> bool:
        """Whether files found here have to be copied beside the profile, because they have no lasting path."""
        return False

    def path(self, name: str) -> str:
        """How a profile names the file."""
        return str((self.root or Path("/")) / name)

    def copy_of(self, name: str) -> str | None:
        """The path of the file that stands for an absolute `name` in a copy of /etc; None if there is none."""
        return None if self.root is None or self._inside(name) is None else str(self.root / self._relative(name))

    def read(self, name: str) -> bytes | None:
        """The content of a file inside, None for anything else. Raises ProfileError if too much is asked for."""
        found = self._inside(name)
        if found is None:
            return None
        self._spend()
        data = _read_below(found, self.root, self.owner)
        if data is None:
            return None
        self._budget -= len(data)
        return data

    def matching(self, pattern: str) -> list[str]:
        """The names of files inside that match a pattern with wildcards in its last part only, sorted."""
        directory, _, last = self._relative(pattern).rpartition("/")
        found = self._inside(directory or ".")
        if found is None or not last:
            return []
        try:
            names = sorted(entry.name for entry in found.iterdir() if entry.is_file())[:MAX_FILES]
        except OSError:
            return []
        matching = [f"{directory}/{name}" if directory else name for name in fnmatch.filter(names, last)]
        return [name for name in matching if self._inside(name) is not None]

    def everything(self) -> list[str]:
        """The names of all files inside, nearest first. Raises ProfileError if there are too many."""
        if self.root is None:
            return []
        names: list[str] = []
        waiting = [(self.root, "", 0)]
        while waiting:
            directory, prefix, depth = waiting.pop(0)
            try:
                entries = sorted(directory.iterdir(), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                if entry.is_symlink():
                    continue
                if entry.is_dir() and depth < MAX_DEPTH:
                    waiting.append((entry, f"{prefix}{entry.name}/", depth + 1))
                elif entry.is_file():
                    names.append(prefix + entry.name)
                if len(names) + len(waiting) > MAX_FILES:
                    raise ProfileError(f"there are more than {MAX_FILES} files in it", hint="name the one to import")
        return names

    def _spend(self) -> None:
        self._reads -= 1
        if self._reads < 0 or self._budget < 0:
            raise ProfileError(f"it leads to more than {MAX_READS} files or {MAX_TOTAL >> 20} MiB")

    def _relative(self, name: str) -> str:
        if self.root is None or "\0" in name:
            return ""
        path = Path(name)
        if path.is_absolute():
            for root in (self.root, self.root.resolve(), *_ROOTS):  # a copy of /etc may lie anywhere
                if path.is_relative_to(root):
                    return str(path.relative_to(root))
            return ""
        return str(path)

    def _inside(self, name: str) -> Path | None:
        relative = self._relative(name)
        if self.root is None or not relative:
            return None
        try:
            found = (self.root / relative).resolve(strict=True)
            return found if found.is_relative_to(self.root.resolve()) else None
        except (OSError, ValueError, RuntimeError):
            return None


class Archive(Neighbours):
    """The files of a zip archive, held in memory."""

    def __init__(self, data: bytes, prefix: str = "", files: dict[str, bytes] | None = None) -> None:
        """Raises ProfileError for what is no archive or too much."""
        super().__init__(None)
        self._prefix = prefix
        self._files = _unzip(data) if files is None else files

    @property
    def attached(self) -> bool:
        """Files of an archive have no path."""
        return True

    def below(self, directory: str) -> Archive:
        """The same archive with names that start at `directory`."""
        return Archive(b"", f"{directory}/" if directory not in ("", ".") else "", self._files)

    def path(self, name: str) -> str:
        """How a profile would name the file; it has to be attached."""
        return PurePosixPath(name).name

    def read(self, name: str) -> bytes | None:
        """The content of a file inside, None for anything else."""
        return self._files.get(_tidy(self._prefix + _without_root(name)))

    def matching(self, pattern: str) -> list[str]:
        """The names of files inside that match a pattern, sorted."""
        wanted = _tidy(self._prefix + _without_root(pattern))
        depth = wanted.count("/")
        return [
            name.removeprefix(self._prefix)
            for name in sorted(self._files)
            if name.count("/") == depth and fnmatch.fnmatchcase(name, wanted)
        ]

    def everything(self) -> list[str]:
        """The names of all files inside, nearest first."""
        return sorted(self._files, key=lambda name: (name.count("/"), name))


def _read_below(path: Path, root: Path | None, owner: int | None) -> bytes | None:
    """The content of a regular file, which is still below `root` once it is open, and not kept from `owner`."""
    try:
        with open_regular(path) as file:
            where = Path(os.readlink(f"/proc/self/fd/{file.fileno()}"))
            status = os.fstat(file.fileno())
            if root is None or not where.is_relative_to(root.resolve()):
                return None
            if owner is not None and status.st_uid != owner and not status.st_mode & stat.S_IROTH:
                return None
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError):
        return None
    return data if len(data) <= MAX_FILE else None


def _without_root(name: str) -> str:
    path = PurePosixPath(name)
    return next((str(path.relative_to(root)) for root in _ROOTS if path.is_relative_to(root)), name)


def _tidy(name: str) -> str:
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return ""
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _unzip(data: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    budget = MAX_TOTAL
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MAX_FILES:
                raise ProfileError(f"there are more than {MAX_FILES} files in the archive")
            for entry in entries:
                name = entry.filename.replace("\\", "/")
                if name.startswith("/") or ":" in name or ".." in name.split("/") or entry.flag_bits & 1:
                    continue  # leads out of the archive, or is encrypted
                with archive.open(entry) as file:
                    content = file.read(min(MAX_FILE, budget) + 1)
                if len(content) > MAX_FILE:
                    continue  # an installer, not a profile
                budget -= len(content)
                if budget < 0:
                    raise ProfileError(f"the archive unpacks to more than {MAX_TOTAL >> 20} MiB")
                files[_tidy(name)] = content
    except _UNREADABLE:
        raise ProfileError("this archive is damaged or of an unsupported kind") from None
    return files
