"""strongSwan 6 of Debian 13, whose files lie in a directory of their own: no package of it is ever installed.

What older releases lack: OCSP inside IKE (RFC 4806). The directory is made once, which takes minutes and the network,
so only extended tests use it.
"""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import charon
from lab.gateway import Gateway
from lab.machines import LabError, Machine
from lab.pki import Pki

ROOT = Path("/tmp/ikeclient-trixie")
_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = (
    *("strongswan-charon", "strongswan-swanctl", "strongswan-libcharon", "libcharon-extra-plugins"),
    *("libcharon-extauth-plugins", "libstrongswan-extra-plugins", "libstrongswan-standard-plugins", "iproute2"),
)
# charon sees its own files and its directory of ours, under the same name.
_ENTER = """
mkdir -p "$1$2" "$1/dev/net" "$1/proc" "$1/run"
mount --bind "$2" "$1$2"
mount --rbind /dev "$1/dev"
mount -t proc p "$1/proc"
mount -t tmpfs t "$1/run"
shift 2
exec chroot "$@"
"""


def obtain() -> Path:
    """The root directory of a Debian 13, made if it is not there; raises LabError."""
    with Path(f"{ROOT}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (ROOT / ".ready").exists():
            include = f"--include={','.join(_PACKAGES)}"
            _run("debootstrap", "--foreign", "--variant=minbase", include, "trixie", str(ROOT), _MIRROR)
            for package in sorted((ROOT / "var/cache/apt/archives").glob("*.deb")):
                _run("dpkg-deb", "-x", str(package), str(ROOT))
            (ROOT / ".ready").touch()
    return ROOT


def _run(*argv: str) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise LabError(f"{argv[0]}: exit {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")


class TrixieGateway(Gateway):
    """strongSwan 6 as the gateway."""

    def __init__(self, machine: Machine, directory: Path, pki: Pki, listen: Sequence[str]) -> None:
        super().__init__(machine, directory, pki, listen)
        self._root = obtain()

    def _launch(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        words = (f"{name}={value}" for name, value in environment.items())
        inside = (str(self._root), "env", *words, charon.PROGRAM, "--use-syslog", "no")
        return ("unshare", "-m", "sh", "-ec", _ENTER, "sh", str(self._root), str(self.directory), *inside)
