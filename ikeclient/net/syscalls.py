"""System calls that Python 3.11 has no function for. Each raises OSError as the kernel says."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from struct import pack

NEW_MOUNTS, NEW_USER, NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000  # clone(2)
READ_ONLY, REMOUNT, BIND, RECURSIVE, SLAVE = 1, 32, 4096, 16384, 1 << 19  # mount(2)
NO_SUID, NO_DEVICES, NO_EXECUTION = 2, 4, 8
_DETACH = 2  # umount2(2)
_OPEN_TREE, _MOVE_MOUNT = 428, 429  # the same numbers on every architecture; glibc has them since 2.36
_HERE, _CLONE_TREE, _FROM_DESCRIPTOR = -100, 1, 4  # AT_FDCWD, OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH
_DEATH_SIGNAL, _DROP_BOUNDING, _AMBIENT, _CLEAR_ALL = 1, 24, 47, 4  # prctl(2)
_SET_FLAGS, _UP = 0x8914, 0x1  # netdevice(7)
_HARMLESS = (10, 13)  # CAP_NET_BIND_SERVICE, CAP_NET_RAW: a `ping` that has it as a file would not even start without
_CAPABILITY_VERSION = 0x20080522
_TIMER_ABSOLUTE, _TIMER_CANCEL_ON_SET = 1, 2  # timerfd_create(2)
_LATEST = (1 << (8 * ctypes.sizeof(ctypes.c_long) - 1)) - 1
_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")


def unshare(flags: int) -> None:
    """Give this process new namespaces of the kinds in `flags`."""
    _call("unshare", ctypes.c_int(flags))


def join(descriptor: int, kind: int) -> None:
    """Move this process into the namespace behind a descriptor; `kind` guards against another kind."""
    _call("setns", ctypes.c_int(descriptor), ctypes.c_int(kind))


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    kind_or_null = None if kind is None else kind.encode()
    _call("mount", os.fsencode(source), os.fsencode(target), kind_or_null, ctypes.c_ulong(flags), options.encode())


def unmount(target: str) -> None:
    """Take a mount out of the tree; open files in it stay usable."""
    _call("umount2", os.fsencode(target), ctypes.c_int(_DETACH))


def copy_mount(path: str) -> int:
    """A descriptor of a copy of the mount at `path` that is nowhere yet (open_tree(2), Linux 5.2)."""
    flags = _CLONE_TREE | os.O_CLOEXEC
    return _call("syscall", ctypes.c_long(_OPEN_TREE), ctypes.c_int(_HERE), os.fsencode(path), ctypes.c_uint(flags))


def place_mount(descriptor: int, target: str) -> None:
    """Put a mount that is nowhere at `target` (move_mount(2))."""
    here, flags = ctypes.c_int(_HERE), ctypes.c_uint(_FROM_DESCRIPTOR)
    _call("syscall", ctypes.c_long(_MOVE_MOUNT), ctypes.c_int(descriptor), b"", here, os.fsencode(target), flags)


def set_up(interface: str) -> None:
    """Switch an interface on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SET_FLAGS, pack("16sh14x", interface.encode("ascii"), _UP))


def can_mark(mark: int) -> bool:
    """Whether the kernel lets this process mark its datagrams (CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        except OSError:
            return False
    return True


def die_with_parent(signal: int, parent: int) -> None:
    """Get `signal` when the parent ends; at once when it, `parent`, has ended already."""
    _prctl(_DEATH_SIGNAL, signal)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal)


def drop_capabilities() -> None:
    """Give up every capability, for good: being user 0 brings none back, nor do a file's but the harmless ones."""
    last = int(_LAST_CAPABILITY.read_text(encoding="ascii"))
    for capability in range(last + 1):
        if capability not in _HARMLESS:
            _prctl(_DROP_BOUNDING, capability)
    with contextlib.suppress(OSError):  # a kernel without ambient capabilities has none to clear
        _prctl(_AMBIENT, _CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


def clock_steps() -> int:
    """A descriptor that becomes readable when the clock on the wall is set, which the end of a sleep does as well."""
    return _call("timerfd_create", ctypes.c_int(time.CLOCK_REALTIME), ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))


def await_clock_step(descriptor: int) -> None:
    """Make the descriptor of `clock_steps` unreadable until the next step."""
    with contextlib.suppress(OSError):  # that reads ECANCELED after a step
        os.read(descriptor, 8)
    never = (ctypes.c_long * 4)(0, 0, _LATEST, 0)
    flags = ctypes.c_int(_TIMER_ABSOLUTE | _TIMER_CANCEL_ON_SET)
    try:
        _call("timerfd_settime", ctypes.c_int(descriptor), flags, never, None)
    except OSError as error:
        if error.errno != errno.ECANCELED:  # armed all the same
            raise


def file_events() -> int:
    """A descriptor that tells of what happens to files; see inotify(7)."""
    return _call("inotify_init1", ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))


def watch_file(descriptor: int, path: str, mask: int) -> int:
    """inotify_add_watch(2)."""
    return _call("inotify_add_watch", ctypes.c_int(descriptor), os.fsencode(path), ctypes.c_uint32(mask))


def _prctl(option: int, argument: int) -> None:
    zero = ctypes.c_ulong(0)
    _call("prctl", ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero)


def _call(name: str, *arguments: object) -> int:
    result = int(getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
