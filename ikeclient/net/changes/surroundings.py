"""Where this process lives: boot, PID namespace and network namespace, as names to compare.

A journal outlives its process and may be read from elsewhere: from a container that shares the directory, or from
another network namespace of the same machine. What it tells is true in one network namespace only, and its process ID
means something in one PID namespace only.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
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


def _who_to_compare_with() -> Iterator[str]:
    """The first process; if it may not be looked at, our ancestors, down to the one that changed namespaces."""
    with contextlib.suppress(OSError):
        os.stat("/proc/1/ns/net")
        yield "/proc/1"
        return
    pid = os.getppid()
    while pid > 1:
        yield f"/proc/{pid}"
        try:
            status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        pid = int(status.rpartition(")")[2].split()[1])


def _in_other_networks() -> Iterator[str]:
    ours = os.stat("/proc/thread-self/ns/net")
    for process in _who_to_compare_with():
        with contextlib.suppress(OSError):
            if not os.path.samestat(os.stat(f"{process}/ns/net"), ours):
                yield process


def is_of_another_network() -> bool:
    """Whether the calling thread has another network than the machine. Unknown is no."""
    with contextlib.suppress(OSError):
        return any(True for _ in _in_other_networks())
    return False


def serves_another_network(path: Path) -> bool:
    """Whether `path` is the file of the machine too, while that has another network than the calling thread.

    Then a tunnel in a network namespace of its own has no business with it. A container has its own first process, and
    `ip netns exec` covers the file if there is one below /etc/netns.
    """
    with contextlib.suppress(OSError):
        there = path if path.is_symlink() or path.exists() else path.parent
        for process in _in_other_networks():
            with contextlib.suppress(OSError):
                if os.path.samestat(there.lstat(), os.lstat(f"{process}/root{there.absolute()}")):
                    return True
    return False
