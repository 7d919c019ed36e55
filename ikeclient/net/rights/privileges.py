"""The rights a tunnel needs, what of them is there, and giving up what could betray secrets."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

from ikeclient.errors import PlatformError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.rights.grants import Missing, grant, node_fault

TUN = Path("/dev/net/tun")
CAP_NET_ADMIN = 12  # capabilities(7)
_PR_SET_DUMPABLE = 4  # prctl(2)
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


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
    node, admin, namespaces = _tun(tun), _net_admin(), _user_namespaces()
    dns = Fact("DNS", True, f"names are resolved through {dns_backend}")
    return [node, admin, *_own_devices(), namespaces, dns, _level(node, admin, namespaces)]


def _tun(tun: Path) -> Fact:
    fault = node_fault(tun)
    if fault is None:
        return Fact("TUN device", True, f"{tun} can be opened")
    missing, reason = fault
    return Fact("TUN device", False, reason, grant(missing) if missing else "ask whoever runs this machine")


def _net_admin() -> Fact:
    if has_net_admin():
        return Fact("CAP_NET_ADMIN", True, "interfaces, routes and rules can be changed")
    text = "interfaces, routes and rules cannot be changed"
    return Fact("CAP_NET_ADMIN", False, text, grant(Missing.NET_ADMIN))


def _own_devices(interfaces: Path = Path("/sys/class/net")) -> list[Fact]:
    """Return the fact about TUN devices that were made for this user; none if there are none."""
    groups = {os.getegid(), *os.getgroups()}
    try:
        names = [each.name for each in sorted(interfaces.iterdir()) if _is_for(each, groups)]
    except OSError:
        return []
    text = f"{', '.join(names)}: made for this user, `connect` works on it by its name in network.interface"
    return [Fact("own device", True, text)] if names else []


def _is_for(interface: Path, groups: set[int]) -> bool:
    """Return whether a TUN device has an owner or a group (-1: none), and each that it has fits this process."""
    try:
        owner, group = (int((interface / name).read_text(encoding="ascii")) for name in ("owner", "group"))
    except (OSError, ValueError):  # no TUN device
        return False
    fits = (owner == -1 or owner == os.geteuid()) and (group == -1 or group in groups)
    return fits and (owner, group) != (-1, -1)


def _user_namespaces() -> Fact:
    # Several switches of several distributions forbid them; trying it in another process asks them all.
    program = f"import ctypes; raise SystemExit(ctypes.CDLL(None).unshare({_CLONE_NEWUSER | _CLONE_NEWNET}) != 0)"
    try:
        command = [sys.executable, "-I", "-S", "-c", program]
        possible = subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        possible = False
    if possible:
        return Fact("user namespaces", True, "an ordinary user can have networks of their own")
    text = "an ordinary user cannot have networks of their own here"
    return Fact("user namespaces", False, text, grant(Missing.USER_NAMESPACES))


def _level(node: Fact, admin: Fact, namespaces: Fact) -> Fact:
    """Which of the three ways of working this machine allows, in plain words."""
    if node.ok and admin.ok:
        rights = "everything: `connect` can route this whole machine through a tunnel"
        return Fact("allowed here", True, f"{rights}, and keeps CAP_NET_ADMIN alone while it runs")
    made = "`connect` also works on a TUN device that an administrator made for this user"
    if node.ok and namespaces.ok:
        return Fact("allowed here", True, f"tunnels for single programs, without root: `exec` and `proxy`; {made}")
    if node.ok:
        return Fact(
            "allowed here", False, f"next to nothing: neither CAP_NET_ADMIN nor user namespaces; {made}", admin.hint
        )
    return Fact("allowed here", False, "nothing yet: every way to run a tunnel needs the TUN device", node.hint)
