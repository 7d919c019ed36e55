"""The way into a namespace of our own, for the process that will be a command in it."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Sequence

from ikeclient.errors import PlatformError, PrivilegeError
from ikeclient.net import syscalls as linux

NAMESPACES = {"user": linux.NEW_USER, "net": linux.NEW_NETWORK, "mnt": linux.NEW_MOUNTS}  # to be entered in this order


_GET_OWNER = 0xB704  # NS_GET_OWNER_UID of ioctl_nsfs(2)


def is_inside(namespaces: Sequence[int]) -> bool:
    """Return whether this process is in the namespaces with these inode numbers already."""
    try:
        return [os.stat(f"/proc/self/ns/{name}").st_ino for name in NAMESPACES] == list(namespaces)
    except OSError:
        return False


class NamespaceHandle:
    """Descriptors of a user, a network and a mount namespace that belong together, in `spaces`; none once closed."""

    def __init__(self, spaces: tuple[int, ...]) -> None:
        self.spaces = spaces

    @classmethod
    def of_process(cls, pid: int, expected: Sequence[int]) -> NamespaceHandle:
        """Open the namespaces of a process, if they have the `expected` inode numbers. Raises PlatformError."""
        spaces: list[int] = []
        try:
            for name, inode in zip(NAMESPACES, expected, strict=True):
                spaces.append(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
                if os.fstat(spaces[-1]).st_ino != inode:  # the process ended, and another has its number
                    raise PlatformError("the tunnel's namespace is gone")
        except (OSError, PlatformError) as error:
            for each in spaces:
                os.close(each)
            if isinstance(error, OSError):
                raise PlatformError("cannot enter the tunnel's namespace", reason=error.strerror) from error
            raise
        return cls(tuple(spaces))

    @property
    def inodes(self) -> list[int]:
        """Return what tells these namespaces from all others while they exist."""
        return [os.fstat(each).st_ino for each in self.spaces]

    def enter(self) -> None:
        """Move this process in, without any capability, in the directory it is in. It must have one thread.

        Raises PlatformError; the process is then good for nothing but to end. Raises PrivilegeError for root and the
        namespace of another user, who decides what files are there, also those that this process still loads.
        """
        try:
            owner = int.from_bytes(fcntl.ioctl(self.spaces[0], _GET_OWNER, bytes(4)), sys.byteorder)
            if os.geteuid() == 0 and owner != 0:
                raise PrivilegeError(
                    "root does not enter the namespace of another user's tunnel",
                    reason=f"it belongs to uid {owner}",
                    hint="run the command as that user",
                )
            here = os.getcwd()
            for space, kind in zip(self.spaces, NAMESPACES.values(), strict=True):
                linux.join(space, kind)
            linux.drop_capabilities()
            os.chdir(here)  # the mount namespace has moved it to its root
        except OSError as error:
            raise PlatformError("cannot enter the tunnel's namespace", reason=error.strerror) from error
        self.close()

    def close(self) -> None:
        """Close the descriptors."""
        spaces, self.spaces = self.spaces, ()
        for each in spaces:
            os.close(each)
