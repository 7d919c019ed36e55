"""Clean roots to try things in: each use of one is a layer over a system that is made once and kept."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from release import systems, tools
from release.systems import System
from release.tools import ReleaseError, run

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_ENTER = """
if [ -n "$4" ]; then  # in a namespace of users, the kernel's list of interpreters is that namespace's own
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    printf '%s' "$4" >/proc/sys/fs/binfmt_misc/register
fi
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work${4:+,userxattr}" overlay "$2/root"
mount --rbind /dev "$2/root/dev"
mount -t proc proc "$2/root/proc"
mount -t tmpfs tmpfs "$2/root/tmp"
mkdir -p "$2/root/release" && mount --bind "$3" "$2/root/release" && mount -o remount,bind,ro "$2/root/release"
root=$2/root; shift 4
exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 NO_COLOR=1 \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore chroot "$root" "$@"
"""
# How a program of another machine is known: by the head of its file, which ends with the machine's number.
_HEAD = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00"
_MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"
_NUMBERS = {"aarch64": r"\xb7\x00"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A clean system. `release` is what lies in /release there."""

    system: System
    lower: str
    layer: Path
    release: Path

    @property
    def emulated(self) -> bool:
        """Whether its programs are for another machine than this one."""
        return self.system.machine != platform.machine()

    def run(self, *argv: str, network: bool = True) -> str:
        """Run a program there; its output, or ReleaseError. /tmp is new each time."""
        spaces = ["-m"] if network else ["-m", "-n"]
        interpreter = ""
        if self.emulated:
            spaces += ["--map-root-user", "--pid", "--fork"]
            interpreter = _interpreter(self.system.machine)
        paths = (self.lower, str(self.layer), str(self.release))
        return run("unshare", *spaces, "sh", "-ec", _ENTER, "sh", *paths, interpreter, *argv)


@contextmanager
def clean(system: System, release: Path) -> Iterator[Root]:
    """A system of its own, gone afterwards."""
    if os.geteuid() != 0:
        raise ReleaseError("clean roots need root: run it as root")
    lower = ":".join(str(layer()) for layer in system.layers)
    with tools.scratch("root") as directory:
        layer = Path(directory)
        for name in ("upper", "work", "root"):
            (layer / name).mkdir()
        for name in (_CERTIFICATES, Path("/etc/resolv.conf"), Path("/etc/hosts")):  # as this machine reaches the index
            (layer / f"upper{name}").parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, f"{layer}/upper{name}")
        yield Root(system=system, lower=lower, layer=layer, release=release)


def _interpreter(machine: str) -> str:
    """What the kernel has to be told of an emulator, which it opens at once (F): no root needs to have it."""
    return f":{machine}:M::{_HEAD}{_NUMBERS[machine]}:{_MASK}:{systems.emulator(machine)}:F"
