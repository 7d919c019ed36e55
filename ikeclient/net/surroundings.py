"""Where this process lives: boot, PID namespace and network namespace, as names to compare.

A journal outlives its process and may be read from elsewhere: from a container that shares the directory, or from
another network namespace of the same machine. What it tells is true in one network namespace only, and its process ID
means something in one PID namespace only.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from struct import Struct

_SO_NETNS_COOKIE = 71  # socket(7): a number that is never given twice while the machine runs (Linux 5.14)
_COOKIE = Struct("=Q")
_UNKNOWN = "unknown"


def boot() -> str:
    """The kernel's boot ID."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return _UNKNOWN


def network_namespace() -> str:
    """The network namespace of the calling thread."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
            (cookie,) = _COOKIE.unpack(any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, _COOKIE.size))
        return str(cookie)
    except OSError:
        pass
    try:
        return f"inode-{os.stat('/proc/thread-self/ns/net').st_ino}"
    except OSError:
        return _UNKNOWN


def pid_namespace() -> str | None:
    """The PID namespace of this process; None if `/proc` shows the processes of another one.

    The number may be given again when the namespace is gone, and then nothing in it is alive.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return None
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return None


def is_of_another_network() -> bool:
    """Whether the calling thread has another network than the first process. Unknown is no."""
    try:
        return not os.path.samestat(os.stat("/proc/1/ns/net"), os.stat("/proc/thread-self/ns/net"))
    except OSError:
        return False


def serves_another_network(path: Path) -> bool:
    """Whether `path` is the first process's file too, while that process has another network than the calling thread.

    Then the file is the machine's, and a tunnel in a network namespace of its own has no business with it. A container
    has its own first process, and `ip netns exec` covers the file if there is one below /etc/netns.
    """
    if not is_of_another_network():
        return False
    try:
        there = path if path.is_symlink() or path.exists() else path.parent
        return os.path.samestat(there.lstat(), os.lstat(f"/proc/1/root{there.absolute()}"))
    except OSError:
        return False  # whoever may not look at the first process's files may not write them either
