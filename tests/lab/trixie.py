"""strongSwan 6 of Debian 13, whose files lie in a directory of their own: no package of it is ever installed.

What older releases lack: OCSP inside IKE (RFC 4806). The directory is made once, which takes minutes and the network,
so only extended tests use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import charon
from lab.gateway import Gateway
from lab.machines import Machine, host_run
from lab.pki import Pki

from release.tools import kept

ROOT = Path("/tmp/ikeclient-trixie")
_MIRROR = "http://deb.debian.org/debian"
_MAKING_SECONDS = 1800
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
    return kept(ROOT, _make)


def _make(root: Path) -> None:
    include = f"--include={','.join(_PACKAGES)}"
    words = ("debootstrap", "--foreign", "--variant=minbase", include, "trixie", str(root), _MIRROR)
    host_run(*words, timeout=_MAKING_SECONDS)
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        host_run("dpkg-deb", "-x", str(package), str(root))


class TrixieGateway(Gateway):
    """strongSwan 6 as the gateway."""

    def __init__(self, machine: Machine, directory: Path, pki: Pki, listen: Sequence[str]) -> None:
        super().__init__(machine, directory, pki, listen)
        self._root = obtain()

    def _launch(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        words = (f"{name}={value}" for name, value in environment.items())
        inside = (str(self._root), "env", *words, charon.PROGRAM, "--use-syslog", "no")
        return ("unshare", "-m", "sh", "-ec", _ENTER, "sh", str(self._root), str(self.directory), *inside)
