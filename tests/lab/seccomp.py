"""Run a command under a real seccomp filter: python seccomp.py WHAT COMMAND...

WHAT is one of `FILTERS`: what a kernel, a sandbox or a container engine does not let a program do. The filter stays for
everything that the command starts (seccomp(2)).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Literal, NamedTuple

# System calls that are younger than 2019 have one number on every machine.
_EVERYWHERE = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}
# The others by machine (asm/unistd.h); what a machine does not have is left out.
NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "ioctl": 16,
        "socket": 41,
        "clone": 56,
        "ustat": 136,
        "sysfs": 139,
        "uselib": 134,
        "_sysctl": 156,
        "personality": 135,
        "vhangup": 153,
        "pivot_root": 155,
        "chroot": 161,
        "acct": 163,
        "settimeofday": 164,
        "mount": 165,
        "umount2": 166,
        "swapon": 167,
        "swapoff": 168,
        "reboot": 169,
        "sethostname": 170,
        "setdomainname": 171,
        "iopl": 172,
        "ioperm": 173,
        "create_module": 174,
        "init_module": 175,
        "delete_module": 176,
        "query_module": 178,
        "quotactl": 179,
        "nfsservctl": 180,
        "lookup_dcookie": 212,
        "clock_settime": 227,
        "mbind": 237,
        "set_mempolicy": 238,
        "get_mempolicy": 239,
        "kexec_load": 246,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "unshare": 272,
        "move_pages": 279,
        "perf_event_open": 298,
        "fanotify_init": 300,
        "open_by_handle_at": 304,
        "clock_adjtime": 305,
        "setns": 308,
        "kcmp": 312,
        "finit_module": 313,
        "kexec_file_load": 320,
        "bpf": 321,
        "userfaultfd": 323,
        **_EVERYWHERE,
        "syslog": 103,
    },
    "aarch64": {
        "lookup_dcookie": 18,
        "ioctl": 29,
        "umount2": 39,
        "mount": 40,
        "pivot_root": 41,
        "nfsservctl": 42,
        "chroot": 51,
        "vhangup": 58,
        "quotactl": 60,
        "acct": 89,
        "personality": 92,
        "unshare": 97,
        "kexec_load": 104,
        "init_module": 105,
        "delete_module": 106,
        "clock_settime": 112,
        "syslog": 116,
        "reboot": 142,
        "sethostname": 161,
        "setdomainname": 162,
        "settimeofday": 170,
        "socket": 198,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "clone": 220,
        "swapon": 224,
        "swapoff": 225,
        "mbind": 235,
        "get_mempolicy": 236,
        "set_mempolicy": 237,
        "move_pages": 239,
        "perf_event_open": 241,
        "fanotify_init": 262,
        "open_by_handle_at": 265,
        "clock_adjtime": 266,
        "setns": 268,
        "kcmp": 272,
        "finit_module": 273,
        "bpf": 280,
        "userfaultfd": 282,
        "kexec_file_load": 294,
        **_EVERYWHERE,
    },
}
AF_NETLINK, AF_VSOCK, NETLINK_NETFILTER = 16, 40, 12
NEW_ANYTHING = 0x7E020000  # CLONE_NEW*
TUNSETIFF = 0x400454CA


class Where(NamedTuple):
    """What an argument of a system call is: equal or not equal to a value, or having any of its bits."""

    argument: int
    how: Literal["is", "is not", "has"]
    value: int


class Rule(NamedTuple):
    """A system call that fails with `error`, where all of this is so."""

    call: str
    error: int = errno.EPERM
    where: tuple[Where, ...] = ()


# What the default profile of Docker refuses a container without further capabilities (moby, profiles/seccomp): system
# calls that it does not name, new namespaces, odd personalities and sockets to the hypervisor.
_IMPLICIT = frozenset(NUMBERS["x86_64"]) - {"ioctl", "socket", "clone", "clone3", "personality"}
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
DOCKER = (
    *(Rule(name) for name in sorted(_IMPLICIT)),
    Rule("clone", where=(Where(0, "has", NEW_ANYTHING),)),
    Rule("clone3", errno.ENOSYS),  # so that the C library takes clone, whose flags can be looked at
    Rule("personality", where=tuple(Where(0, "is not", value) for value in _PERSONALITIES)),
    Rule("socket", where=(Where(0, "is", AF_VSOCK),)),
)
FILTERS: dict[str, tuple[Rule, ...]] = {
    "docker": DOCKER,
    "unshare": (Rule("unshare"),),
    "tunsetiff": (Rule("ioctl", where=(Where(1, "is", TUNSETIFF),)),),
    "tunsetiff unknown": (Rule("ioctl", errno.ENOSYS, (Where(1, "is", TUNSETIFF),)),),
    "netfilter": (  # as a kernel without it
        Rule("socket", errno.EPROTONOSUPPORT, (Where(0, "is", AF_NETLINK), Where(2, "is", NETLINK_NETFILTER))),
    ),
}

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JSET|K, BPF_RET|K
_NUMBER, _ARGUMENTS = 0, 16  # in struct seccomp_data; arguments are of 8 bytes, of which the lower 4 are looked at
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def refused(what: str) -> tuple[str, ...]:
    """The beginning of a command that runs under that filter."""
    assert what in FILTERS
    return (sys.executable, __file__, what)


def program(rules: tuple[Rule, ...], numbers: dict[str, int]) -> bytes:
    """The filter in the kernel's code (BPF)."""
    code = b"".join(_rule(rule, numbers[rule.call]) for rule in rules if rule.call in numbers)
    return code + _instruction(_RETURN, _ALLOW)


def _rule(rule: Rule, number: int) -> bytes:
    left = 2 * len(rule.where) + 1  # instructions behind the first comparison
    code = _instruction(_LOAD, _NUMBER) + _instruction(_EQUAL, number, 0, left)
    for where in rule.where:
        left -= 2
        code += _instruction(_LOAD, _ARGUMENTS + 8 * where.argument)
        match where.how:
            case "is":
                code += _instruction(_EQUAL, where.value, 0, left)
            case "is not":
                code += _instruction(_EQUAL, where.value, left, 0)
            case "has":
                code += _instruction(_ANY_BIT, where.value, 0, left)
    return code + _instruction(_RETURN, _ERRNO | rule.error)


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def install(rules: tuple[Rule, ...]) -> None:
    """Have these rules in this process and in what it becomes."""
    compiled = program(rules, NUMBERS[platform.machine()])
    code = ctypes.create_string_buffer(compiled)
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", len(compiled) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    for arguments in ((no_new_privileges, 1, 0, 0, 0), (set_seccomp, mode_filter, filter_, 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "no seccomp filter")


if __name__ == "__main__":
    install(FILTERS[sys.argv[1]])
    os.execvp(sys.argv[2], sys.argv[2:])
