"""Who wrote a profile, and reading what it names with that user's rights.

Root can read every file, and a profile decides which gateway a secret goes to. So what is named by a profile that root
did not write is opened by a process that has become the profile's author: a file that the author cannot read cannot
leave this way (CVE-2025-9615). A thread cannot change its groups through the C library without all others changing
theirs, and a thread with another user's ID can be killed by that user, so a child process does the reading.

What root adds to such a profile by an absolute path of its own (`--set`, IKECLIENT_ variables) is root's choice.
"""

from __future__ import annotations

import ctypes
import io
import os
import pwd
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ikeclient.ipc.fork import fork
from ikeclient.ipc.messages import pack, receive
from ikeclient.lazy_dataclass import dataclass

TIMEOUT = 20.0  # seconds to read a file; a file system of the author's may never answer
_PR_SET_DUMPABLE = 4  # prctl(2)
_NOBODY = 65534  # the group of a user that no table of users knows
_CHUNK = 1 << 16

Key = tuple[str, ...]


class NoRights(Exception):
    """The author's rights cannot be taken; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """A user whose rights count instead of root's. `given` are the keys that whoever runs us set, not the profile.

    `of_connection` says that the profile is a connection of NetworkManager's, which has users and no owner.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    name: str = ""
    home: str = "/"
    called_sudo: bool = False
    given: frozenset[Key] = frozenset()
    of_connection: bool = False

    @classmethod
    def of(cls, uid: int, *, called_sudo: bool = False, given: frozenset[Key] = frozenset()) -> Author:
        """The user with that number, with all their groups. One without an entry has no group."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(uid=uid, gid=_NOBODY, called_sudo=called_sudo, given=given)
        return cls(
            uid=uid,
            gid=entry.pw_gid,
            groups=tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)),
            name=entry.pw_name,
            home=entry.pw_dir,
            called_sudo=called_sudo,
            given=given,
        )

    def gave(self, key: Key) -> bool:
        """Whether the profile says nothing about `key`, because whoever runs us set it."""
        return any(key[:length] in self.given for length in range(1, len(key) + 1))

    def of_process(self) -> dict[str, Any]:
        """The arguments of `subprocess.Popen` for a program with the author's rights."""
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}

    def become(self) -> None:
        """Give this process the author's rights and no others, for good. Raises OSError."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)

    def read(self, read: Callable[[], tuple[dict[str, object], bytes]]) -> tuple[dict[str, object], bytes]:
        """What `read` returns in a process with the author's rights: a small JSON object and bytes.

        Raises NoRights, and TimeoutError if there is no answer within `TIMEOUT` seconds.
        """
        reading, writing = os.pipe()
        # The child must not run our handlers, which may write into descriptors that we share.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = fork(lambda: self._answer(read, reading, writing))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writing)
        try:
            answer = _received(reading)
        finally:
            os.close(reading)
            _end(pid)
        try:
            found = receive(answer.read)
        except ValueError:
            found = None
        if found is None:
            raise NoRights(f"the process that took the rights of {self} ended without a word")
        if "rights" in found:
            raise NoRights(f"cannot take the rights of {self}: {found['rights']}")
        return found, answer.read()

    def _answer(self, read: Callable[[], tuple[dict[str, object], bytes]], reading: int, writing: int) -> int:
        """Do what the child does: write a message and the bytes behind it. Returns its exit code."""
        os.close(reading)
        try:
            self.become()
            # A process that changes its user is not dumpable, unless fs.suid_dumpable says otherwise. Our memory
            # holds secrets that the author must not see.
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        except OSError as error:
            answer = pack({"rights": error.strerror})
        else:
            head, data = read()
            answer = pack(head) + data
        view = memoryview(answer)
        while view:
            view = view[os.write(writing, view) :]
        return 0

    def __str__(self) -> str:
        return f"user {self.name} (uid {self.uid})" if self.name else f"uid {self.uid}"


def expand(written: str, author: Author | None) -> Path:
    """A path as written in a profile, with `~` as the author's home directory."""
    if author is not None and (written == "~" or written.startswith("~/")):
        return Path(author.home + written[1:])
    return Path(os.path.expanduser(written))


def _received(reading: int) -> io.BytesIO:
    deadline = time.monotonic() + TIMEOUT
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    answer = bytearray()
    while True:
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise TimeoutError
        if not (piece := os.read(reading, _CHUNK)):
            return io.BytesIO(answer)
        answer += piece


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):  # whoever started us may have children reaped by the kernel
        return
