"""The rights a tunnel needs, what of them is there, and giving up what could betray secrets."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ikeclient.errors import PlatformError

TUN = Path("/dev/net/tun")
CAP_NET_ADMIN = 12  # capabilities(7)
_PR_SET_DUMPABLE = 4  # prctl(2)
_CLONE_NEWUSER = 0x10000000


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing this machine can or cannot do; `hint` says what to try when it cannot."""

    name: str
    ok: bool
    text: str
    hint: str | None = None


def forbid_core_dumps() -> None:
    """No core file, no debugger of the same user: keys stay in this process. Raises PlatformError.

    Files under /proc/self belong to root afterwards, so an unprivileged process sets up its user namespace first.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        raise PlatformError("cannot forbid core dumps", reason=str(error)) from error
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise PlatformError("cannot forbid core dumps", reason=os.strerror(ctypes.get_errno()))


def has_net_admin() -> bool:
    """Whether this process may change interfaces, routes and rules of its network namespace."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    line = next((line for line in status.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(line.split()[1], 16) >> CAP_NET_ADMIN & 1)


def describe(dns_backend: str, tun: Path = TUN) -> list[Fact]:
    """What this machine lets a tunnel do. `dns_backend` is `dns.Dns.backend()`."""
    return [_tun(tun), _net_admin(), _user_namespaces(), Fact("DNS", True, f"names are resolved through {dns_backend}")]


def _tun(tun: Path) -> Fact:
    if not tun.exists():
        hint = "load the kernel module: modprobe tun; in a container: --device /dev/net/tun"
        return Fact("TUN device", False, f"there is no {tun}", hint)
    try:
        os.close(os.open(tun, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Fact("TUN device", False, f"{tun} cannot be opened: {error.strerror}", "run as root")
    return Fact("TUN device", True, f"{tun} can be opened")


def _net_admin() -> Fact:
    if has_net_admin():
        return Fact("CAP_NET_ADMIN", True, "interfaces, routes and rules can be changed")
    hint = "run as root; in a container: --cap-add NET_ADMIN"
    return Fact("CAP_NET_ADMIN", False, "interfaces, routes and rules cannot be changed", hint)


def _user_namespaces() -> Fact:
    # Several switches of several distributions forbid them; trying it in another process asks them all.
    program = f"import ctypes; raise SystemExit(ctypes.CDLL(None).unshare({_CLONE_NEWUSER}) != 0)"
    try:
        command = [sys.executable, "-I", "-S", "-c", program]
        possible = subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        possible = False
    if possible:
        return Fact("user namespaces", True, "an ordinary user can have networks of their own")
    hint = "see sysctl user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns"
    return Fact("user namespaces", False, "an ordinary user cannot have networks of their own here", hint)
