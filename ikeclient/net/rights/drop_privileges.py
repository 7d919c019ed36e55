"""Giving up rights for good: what a running tunnel keeps is CAP_NET_ADMIN, and nobody's identity.

Whoever takes over the process that speaks with the network then finds no files of root's, no other capability, no way
to a set-user-ID program and no debugger. Changing the network is what a tunnel is for, so that stays: addresses, routes
and rules at every move, and the mark on every new socket (SO_MARK).

Capabilities and `no_new_privs` belong to single threads. So this is done while there is one, and those that come later
inherit from it (capabilities(7), prctl(2)).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import struct
import time

from ikeclient.errors import PlatformError
from ikeclient.lazy_dataclass import dataclass

CAP_SETPCAP, CAP_NET_ADMIN = 8, 12  # linux/capability.h
USERS = ("ikeclient", "nobody")  # the first that exists is who a tunnel of root's becomes

_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_LAST_POSSIBLE = 63
_LAST_THREAD = 2.0  # seconds for it to be gone
# linux/prctl.h
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 4, 8, 24, 28
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
# linux/securebits.h: no capabilities for UID 0 or by a change of UID, no ambient ones; each of it locked
_SECURE_BITS = 0b11_10_11_11


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a process became: `uid`, and whether root's was given up where it was held."""

    uid: int
    still_root: bool


def held() -> frozenset[int]:
    """The capabilities that this thread may use now (its permitted set). Raises PlatformError."""
    data = ctypes.create_string_buffer(24)
    _call("capget", struct.pack("=II", _VERSION, 0), data)
    _, low, _, _, high, _ = struct.unpack("=6I", data.raw)
    permitted = low | high << 32
    return frozenset(number for number in range(_LAST_POSSIBLE + 1) if permitted >> number & 1)


def drop_privileges() -> Identity:
    """Keep CAP_NET_ADMIN, if it is there, and nothing else; stop being root. There is no way back.

    A container's root may lack the right to become somebody else; it then stays root without a capability, and the
    result says so. Raises PlatformError where anything else of it fails, or where another thread would keep its rights.
    """
    deadline = time.monotonic() + _LAST_THREAD
    while len(os.listdir("/proc/self/task")) != 1:  # one that was joined may still be on its way out of the kernel
        if time.monotonic() > deadline:
            raise PlatformError("cannot give up rights", reason="another thread of this process would keep them")
        time.sleep(0.001)
    keep = held() & {CAP_NET_ADMIN}
    _prctl(_PR_SET_KEEPCAPS, 1, tolerate=True)
    if CAP_SETPCAP in held():
        for capability in range(_LAST_POSSIBLE + 1):
            _prctl(_PR_CAPBSET_DROP, capability, tolerate=True)  # the numbers above the last one are refused
        _prctl(_PR_SET_SECUREBITS, _SECURE_BITS)
    identity = _become_nobody()
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, tolerate=True)  # older kernels have no such set
    mask = sum(1 << capability for capability in keep)
    _call("capset", struct.pack("=II", _VERSION, 0), struct.pack("=6I", mask, mask, 0, 0, 0, 0))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)  # again, because a change of user sets it anew
    return identity


def _become_nobody() -> Identity:
    if 0 not in os.getresuid():
        return Identity(uid=os.geteuid(), still_root=False)
    try:
        uid, gid = _user()
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except (OSError, KeyError):  # no CAP_SETUID, or a user namespace that has nobody else in it
        return Identity(uid=os.geteuid(), still_root=True)
    return Identity(uid=uid, still_root=False)


def future_user() -> tuple[int, int] | None:
    """The user and group that `drop_privileges` makes of root; None if it does not or if there is none."""
    try:
        return _user() if 0 in os.getresuid() else None
    except KeyError:
        return None


def _user() -> tuple[int, int]:
    for name in USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid and entry.pw_gid:
            return entry.pw_uid, entry.pw_gid
    raise KeyError(USERS)


def _prctl(option: int, argument: int, *, tolerate: bool = False) -> None:
    try:
        _call("prctl", option, argument, 0, 0, 0)
    except PlatformError:
        if not tolerate:
            raise


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_ulong(argument) if isinstance(argument, int) else argument for argument in arguments]
    if getattr(libc, name)(*words) != 0:
        raise PlatformError("cannot give up rights", reason=f"{name}: {os.strerror(ctypes.get_errno())}")
