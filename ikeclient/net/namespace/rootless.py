"""What an ordinary user needs for a network of its own, and what to say about the one thing that is missing.

The steps are tried in a fixed order, each in a process that is thrown away or becomes the namespace's init. The
kernel tells of a refusal by an error number alone; which of the several switches was behind it is found here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from ikeclient.errors import IkeclientError, NoNamespace, PlatformError
from ikeclient.lazy_dataclass import dataclass

NODE = "/dev/net/tun"
_PROC = Path("/proc")


class Stage(StrEnum):
    """The steps to a network of one's own, in their order."""

    USER = "user"
    NETWORK = "network"
    MOUNTS = "mounts"
    NODE = "node"
    DEVICE = "device"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceRefusal:
    """Where it ended: the kernel answered `code` at `stage`."""

    stage: Stage
    code: int

    def error(self, proc: Path = _PROC) -> IkeclientError:
        """Return the three lines for people: NoNamespace if a right is missing. `proc` exists for tests."""
        reason, hint = _CAUSES[self.stage](self.code, proc)
        what = "cannot open a TUN device" if self.stage is Stage.NODE else "cannot make a network of its own"
        if self.code in _RIGHTS or self.stage is Stage.NODE:
            return NoNamespace(what, reason=reason, hint=hint)
        return PlatformError(what, reason=reason, hint=hint)


_RIGHTS = frozenset((errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.EINVAL, errno.ENOSYS))

_CONTAINER = (
    "docker and podman: --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    " --device /dev/net/tun; Kubernetes: seccompProfile and appArmorProfile of type Unconfined in securityContext"
)
_APPARMOR = (
    "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0,"
    " or an AppArmor profile with `userns,` for this interpreter"
)
_DEVICE = (
    "plain host: modprobe tun; docker and podman: --device /dev/net/tun;"
    " Kubernetes: a device plugin, or /dev/net/tun as a hostPath volume of type CharDevice in a privileged pod"
)
_MODE = (
    "plain host: a udev rule with MODE 0666 for it, or chmod 0666 /dev/net/tun;"
    " docker, podman and Kubernetes: the same on the node, the container sees the node's mode"
)


def _user(code: int, proc: Path) -> tuple[str, str]:
    if _switch(proc, "sys/user/max_user_namespaces") == "0":
        return "user.max_user_namespaces is 0", "sudo sysctl user.max_user_namespaces=10000"
    if code in (errno.ENOSPC, errno.EUSERS):
        return (
            "this user has as many user namespaces as user.max_user_namespaces allows",
            "sudo sysctl user.max_user_namespaces=10000",
        )
    if _switch(proc, "sys/kernel/unprivileged_userns_clone") == "0":
        return "kernel.unprivileged_userns_clone is 0", "sudo sysctl kernel.unprivileged_userns_clone=1"
    if code in (errno.EINVAL, errno.ENOSYS):
        return "this kernel has no user namespaces", "it needs CONFIG_USER_NS; with root rights use `connect`"
    if _filtered(proc):
        return "a seccomp filter forbids user namespaces (the default of docker and Kubernetes)", _CONTAINER
    if _switch(proc, "sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "AppArmor forbids user namespaces to ordinary programs", _APPARMOR
    return f"user namespaces are forbidden here: {os.strerror(code)}", f"{_CONTAINER}; with root rights use `connect`"


def _inner(code: int, proc: Path) -> tuple[str, str]:
    """Name the cause inside a user namespace, where only a security module takes rights away again."""
    if code in (errno.ENOSPC, errno.EUSERS):
        return (
            "user.max_net_namespaces or user.max_mnt_namespaces does not allow another one",
            "sudo sysctl user.max_net_namespaces=10000 user.max_mnt_namespaces=10000",
        )
    if _switch(proc, "sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "AppArmor leaves user namespaces of ordinary programs without rights (Ubuntu 24.04)", _APPARMOR
    if _filtered(proc):
        return f"a seccomp filter or security module refuses it in a user namespace: {os.strerror(code)}", _CONTAINER
    return f"a security module refuses it in a user namespace: {os.strerror(code)}", _CONTAINER


def _node(code: int, _: Path) -> tuple[str, str]:
    match code:
        case errno.ENOENT:
            return f"there is no {NODE}", _DEVICE
        case errno.ENODEV | errno.ENXIO:
            return (
                f"{NODE} is there, but the kernel has no TUN driver behind it",
                "load the kernel module: modprobe tun",
            )
        case errno.EPERM:
            return f"{NODE} is not among the devices this container may use", _DEVICE
    return f"{NODE} may not be opened by user {os.geteuid()}: {os.strerror(code)}", _MODE


def _device(code: int, proc: Path) -> tuple[str, str]:
    if code not in (errno.EPERM, errno.EACCES):
        return f"the kernel makes no TUN interface in it: {os.strerror(code)}", "choose another network.interface"
    who = "a seccomp filter" if _filtered(proc) else "a security module"
    return f"{who} forbids TUNSETIFF, which makes the TUN interface", _CONTAINER


_CAUSES: dict[Stage, Callable[[int, Path], tuple[str, str]]] = {
    Stage.USER: _user,
    Stage.NETWORK: _inner,
    Stage.MOUNTS: _inner,
    Stage.NODE: _node,
    Stage.DEVICE: _device,
}


def _filtered(proc: Path) -> bool:
    status = _read(proc / "self/status")
    return any(line.startswith("Seccomp:") and line.split()[1] == "2" for line in status.splitlines())


def _switch(proc: Path, name: str) -> str:
    return _read(proc / name).strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
