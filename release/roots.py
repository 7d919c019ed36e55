"""Clean Debian systems to try things in: made once by debootstrap and kept, each use of one is a layer over it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from release import tools
from release.tools import ReleaseError, run, say

RELEASES = {"bookworm": "3.11", "trixie": "3.13"}  # and their Python
_INCLUDE = "python3-venv,pipx,ca-certificates"
_MIRROR = "http://deb.debian.org/debian"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_ENTER = """
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
mount --rbind /dev "$2/root/dev"
mount -t proc proc "$2/root/proc"
mount -t tmpfs tmpfs "$2/root/tmp"
mkdir -p "$2/root/release" && mount --bind "$3" "$2/root/release" && mount -o remount,bind,ro "$2/root/release"
root=$2/root; shift 3
exec chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 NO_COLOR=1 \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore "$@"
"""
_WITHOUT_NETWORK = ("unshare", "-n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A clean system. `release` is what lies in /release there."""

    lower: Path
    layer: Path
    release: Path

    def run(self, *argv: str, network: bool = True) -> str:
        """Run a program there; its output, or ReleaseError. /tmp is new each time."""
        before = () if network else _WITHOUT_NETWORK
        mounts = ("unshare", "-m", "sh", "-ec", _ENTER, "sh", str(self.lower), str(self.layer), str(self.release))
        return run(*before, *mounts, *argv)


@contextmanager
def clean(suite: str, release: Path) -> Iterator[Root]:
    """A system of its own, gone afterwards."""
    if os.geteuid() != 0:
        raise ReleaseError("clean roots need root: run it as root")
    lower = _made(suite)
    with tools.scratch(suite) as directory:
        layer = Path(directory)
        for name in ("upper", "work", "root"):
            (layer / name).mkdir()
        for name in (_CERTIFICATES, Path("/etc/resolv.conf"), Path("/etc/hosts")):  # as this machine reaches the index
            (layer / f"upper{name}").parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, f"{layer}/upper{name}")
        yield Root(lower=lower, layer=layer, release=release)


def _made(suite: str) -> Path:
    def make(place: Path) -> None:
        say(f"making a root of Debian's {suite}")
        run("debootstrap", "--variant=minbase", f"--include={_INCLUDE}", suite, place / "root", _MIRROR)
        shutil.rmtree(place / "root/var/cache/apt/archives", ignore_errors=True)

    return _kept(f"{suite}-{tools.digest(_INCLUDE)}", make) / "root"


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """The directory of that name in the cache, made if it is not there whole; others wait meanwhile."""
    place = tools.CACHE / "roots" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{place}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "ready").exists():
            shutil.rmtree(place, ignore_errors=True)
            make(place)
            (place / "ready").touch()
    return place


def foreign(suite: str, architecture: str) -> tuple[Path, Path]:
    """The files of another architecture's Debian, never set up, and an emulator for its programs."""

    def make(place: Path) -> None:
        say(f"fetching Debian's {suite} for {architecture}, and an emulator")
        root = place / "root"
        options = ("--foreign", "--variant=minbase", f"--arch={architecture}", "--include=python3,openssl")
        run("debootstrap", *options, suite, root, _MIRROR)
        for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
            run("dpkg-deb", "-x", package, root)
        run("apt-get", "-q", "download", "qemu-user-static", cwd=place)
        (emulator,) = place.glob("qemu-user-static_*.deb")
        run("dpkg-deb", "-x", emulator, place / "emulator")

    place = _kept(f"{suite}-{architecture}", make)
    return place / "root", place / "emulator/usr/bin"
