"""How each right that a tunnel may lack is given: on a plain host, by docker and podman, and by Kubernetes.

Where we can tell in which of these we run, only that one is named, so that an error stays short.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Literal

Place = Literal["host", "docker", "podman", "kubernetes"]

_MARKS: dict[Place, str] = {"docker": "/.dockerenv", "podman": "/run/.containerenv"}
_NAMES: dict[Place, str] = {
    "host": "on a host",
    "docker": "docker",
    "podman": "podman",
    "kubernetes": "Kubernetes",
}


class Missing(StrEnum):
    """What keeps a tunnel from having its device."""

    NODE = "node"  # no /dev/net/tun
    DRIVER = "driver"  # a node, but no driver in the kernel
    MODE = "mode"  # the file's permissions
    DEVICE = "device"  # a container's list of allowed devices
    NET_ADMIN = "net-admin"
    FILTER = "filter"  # a seccomp filter or a security module
    USER_NAMESPACES = "user-namespaces"


_DEVICE = "--device /dev/net/tun"
_OPEN = "give the container user 0, or the node mode 0666 on the host"

_GRANTS: dict[Missing, dict[Place, str]] = {
    Missing.NODE: {
        "host": "modprobe tun",
        "docker": _DEVICE,
        "podman": _DEVICE,
        "kubernetes": "a hostPath volume /dev/net/tun of type CharDevice",
    },
    Missing.DRIVER: dict.fromkeys(_NAMES, "modprobe tun, on the host itself"),
    Missing.MODE: {
        "host": "run as root, or chmod 0666 /dev/net/tun, as most distributions have it",
        "docker": _OPEN,
        "podman": _OPEN,
        "kubernetes": _OPEN,
    },
    Missing.DEVICE: {
        "host": "allow it in the service's DeviceAllow=/dev/net/tun rw",
        "docker": f"{_DEVICE} (a volume is not enough)",
        "podman": f"{_DEVICE} (a volume is not enough)",
        "kubernetes": "a device plugin for /dev/net/tun, or privileged: true",
    },
    Missing.NET_ADMIN: {
        "host": "run as root, or have a device made for you: ip tuntap add ike0 mode tun user NAME",
        "docker": "--cap-add NET_ADMIN",
        "podman": "--cap-add NET_ADMIN",
        "kubernetes": 'securityContext: { capabilities: { add: ["NET_ADMIN"] } }',
    },
    Missing.FILTER: {
        "host": "see SystemCallFilter= of the service, and the kernel log for AppArmor and SELinux",
        "docker": "--security-opt seccomp=FILE with a profile that allows it",
        "podman": "--security-opt seccomp=FILE with a profile that allows it",
        "kubernetes": "securityContext: { seccompProfile: { type: RuntimeDefault } }",
    },
    Missing.USER_NAMESPACES: {
        "host": "see sysctl user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns",
        "docker": "--security-opt seccomp=FILE with a profile that allows unshare",
        "podman": "--security-opt seccomp=FILE with a profile that allows unshare",
        "kubernetes": "a seccompProfile of type Localhost that allows unshare",
    },
}


def node_fault(node: str | Path) -> tuple[Missing | None, str] | None:
    """What keeps us from opening the device node, and the reason in words; None when nothing does."""
    try:
        os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        match error.errno:
            case errno.ENOENT | errno.ENOTDIR:
                return Missing.NODE, f"there is no {node}"
            case errno.ENODEV | errno.ENXIO:
                return Missing.DRIVER, f"{node} is there, but the kernel has no TUN driver behind it"
            case errno.EACCES:
                return Missing.MODE, f"{node} may not be opened by user {os.geteuid()}"
            case errno.EPERM:
                return Missing.DEVICE, f"{node} is there, but not among the devices allowed here"
        return None, f"{node} cannot be opened: {error.strerror}"
    return None


def place(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Place | None:
    """Where we run, as far as it can be told; None on a host and in containers of other kinds."""
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    return next((name for name, mark in _MARKS.items() if (root / mark.lstrip("/")).exists()), None)


def grant(missing: Missing, where: Place | None = None) -> str:
    """One line that says how to give what is missing, for `where` or for the place we run in, else for all of them."""
    where = where or place()
    ways = _GRANTS[missing]
    if where is not None:
        return ways[where]
    people: dict[str, list[str]] = {}
    for name, way in ways.items():
        people.setdefault(way, []).append(_NAMES[name])
    if len(people) == 1:
        return next(iter(people))
    return "; ".join(f"{', '.join(names)}: {way}" for way, names in people.items())
