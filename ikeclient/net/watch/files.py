"""Tells that a file may have been replaced, rewritten, made or removed, whatever way leads there (inotify(7)).

A path passes directories and links, each of which may change. So every directory on the way is watched for the names
that the path needs, and the file itself for its content. What events say besides is not read: a look tells the truth.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from struct import Struct

from ikeclient.net import syscalls

_EVENT = Struct("=iIII")  # inotify_event: watch, mask, cookie, length of the name
_NAMES = 0x40 | 0x80 | 0x100 | 0x200  # IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE
_CONTENT = 0x2 | 0x8  # IN_MODIFY, IN_CLOSE_WRITE
_OVERFLOW = 0x4000
_MASK_ADD = 0x20000000
_LARGEST = 1 << 16


class FileBell:
    """Becomes readable when something happened to one of `paths`; call `watch` after each look.

    Of those that are in `inside` as well, and are directories, every name in them counts that is not hidden.
    Construction raises OSError.
    """

    def __init__(self, paths: Iterable[str], inside: Iterable[str] = ()) -> None:
        self._paths = tuple(paths)
        self._inside = frozenset(inside)
        self._names: set[bytes] = set()
        self._whole: set[int] = set()  # the watches of those directories
        self._descriptor = syscalls.file_events()
        self.watch()

    def fileno(self) -> int:
        """Return the descriptor for poll(2)."""
        return self._descriptor

    def watch(self, paths: Iterable[str] | None = None) -> None:
        """Watch the way to each file as it is now, as far as it exists and may be read; `paths` are others from now on.

        What happens to former ones may go on to ring.
        """
        if paths is not None:
            self._paths = tuple(paths)
        for path in self._paths:
            for way in dict.fromkeys((path, os.path.realpath(path))):
                if path in self._inside and os.path.isdir(way):
                    self._whole.update(self._add(way, _NAMES))
                elif not os.path.isdir(way):
                    self._add(way, _CONTENT)
                for below in (Path(way), *Path(way).parents[:-1]):
                    self._names.add(os.fsencode(below.name))
                    self._add(str(below.parent), _NAMES)

    def rung(self) -> bool:
        """Empty the descriptor, and tell whether any of it may be about the files."""
        found = False
        while True:
            try:
                data = os.read(self._descriptor, _LARGEST)
            except BlockingIOError:
                return found
            while data:
                watch, mask, _, length = _EVENT.unpack_from(data)
                name = data[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
                inside = watch in self._whole and not name.startswith(b".")
                found = found or inside or bool(mask & (_CONTENT | _OVERFLOW)) or name in self._names
                data = data[_EVENT.size + length :]

    def close(self) -> None:
        """Watch no more."""
        os.close(self._descriptor)

    def _add(self, path: str, mask: int) -> set[int]:
        """Return the watch, or nothing if there can be none."""
        with contextlib.suppress(OSError):
            return {syscalls.watch_file(self._descriptor, path, mask | _MASK_ADD)}
        return set()
