"""Run a program to which a seccomp filter refuses one system call with EPERM, as containers do.

    python refuse.py unshare|tunsetiff PROGRAM ARGUMENTS...

`unshare` refuses new user namespaces, `tunsetiff` the ioctl that makes a TUN interface (seccomp(2)).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

NUMBERS = {"x86_64": {"unshare": 272, "ioctl": 16}, "aarch64": {"unshare": 97, "ioctl": 29}}[platform.machine()]
CALLS = {  # name, offset of the argument in struct seccomp_data, its value
    "unshare": ("unshare", 16, 0x10000000),  # CLONE_NEWUSER
    "tunsetiff": ("ioctl", 24, 0x400454CA),
}
LOAD, EQUAL, ANSWER = 0x20, 0x15, 0x06  # of BPF
ALLOW, REFUSE = 0x7FFF0000, 0x00050001  # the latter with errno 1
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2  # of prctl(2)


def forbid(what: str) -> None:
    """Install the filter in this process and what it becomes."""
    name, offset, value = CALLS[what]
    program = [
        (LOAD, 0, 0, 0),
        (EQUAL, 0, 3, NUMBERS[name]),
        (LOAD, 0, 0, offset),
        (EQUAL, 0, 1, value),
        (ANSWER, 0, 0, REFUSE),
        (ANSWER, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    filters = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SECCOMP, FILTER, filters, 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    forbid(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
