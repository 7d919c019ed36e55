"""Run a command under a real seccomp filter: python seccomp.py {tunsetiff|unshare|netfilter} ERRNO COMMAND...

The filter refuses the ioctl TUNSETIFF, or the system call unshare, with that error number, as the profiles of container
engines do (seccomp(2)), or sockets of netlink's protocol for firewalls, as a kernel without it. It stays for everything
the command starts.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

# System call numbers by machine (asm/unistd.h).
IOCTL = {"x86_64": 16, "aarch64": 29}
UNSHARE = {"x86_64": 272, "aarch64": 97}
SOCKET = {"x86_64": 41, "aarch64": 198}
AF_NETLINK, NETLINK_NETFILTER = 16, 12
TUNSETIFF = 0x400454CA
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_NUMBER, _FIRST_ARGUMENT, _SECOND_ARGUMENT, _THIRD_ARGUMENT = (
    0,
    16,
    24,
    32,
)  # in struct seccomp_data
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def program(what: str, number: int) -> bytes:
    machine = platform.machine()
    refuse, allow = instruction(_RETURN, _ERRNO | number), instruction(_RETURN, _ALLOW)
    load = instruction(_LOAD, _NUMBER)
    if what == "unshare":
        return load + instruction(_EQUAL, UNSHARE[machine], 0, 1) + refuse + allow
    if what == "netfilter":
        family = instruction(_LOAD, _FIRST_ARGUMENT) + instruction(_EQUAL, AF_NETLINK, 0, 3)
        protocol = instruction(_LOAD, _THIRD_ARGUMENT) + instruction(_EQUAL, NETLINK_NETFILTER, 0, 1)
        return load + instruction(_EQUAL, SOCKET[machine], 0, 5) + family + protocol + refuse + allow
    asked = instruction(_LOAD, _SECOND_ARGUMENT) + instruction(_EQUAL, TUNSETIFF, 0, 1)
    return load + instruction(_EQUAL, IOCTL[machine], 0, 3) + asked + refuse + allow


def main() -> None:
    what, number, *command = sys.argv[1:]
    code = ctypes.create_string_buffer(program(what, int(number)))
    count = (len(code) - 1) // 8
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", count, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    libc.prctl(no_new_privileges, 1, 0, 0, 0)
    if libc.prctl(set_seccomp, mode_filter, filter_, 0, 0):
        raise OSError(ctypes.get_errno(), "no seccomp filter")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
