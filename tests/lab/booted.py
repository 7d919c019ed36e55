"""A machine that systemd has booted: real units, journald, D-Bus, polkit and systemd-resolved.

Its file system is this machine's, with a layer above it that takes every change: there Debian's packages are installed
that this machine lacks, once, and the layer is kept beside the virtual environment. Or it is that of another release of
Debian, made by debootstrap and kept there, too (`another_release`). Its network is that of a lab machine.
systemd is process 1 of namespaces of its own, so that nothing it starts outlives it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest
from lab.client import REPOSITORY
from lab.machines import LabError, Machine, host_run, wait_for

from release.tools import kept

T = TypeVar("T")

SITE = Path(sysconfig.get_paths()["purelib"])
LAYER = Path(sys.prefix) / "lab-systemd"
RELEASES = Path(
    "/var/cache/ikeclient-lab"
)  # outside the repository: they stay when the virtual environment is made anew
PACKAGES = (
    "systemd",
    "dbus",
    "polkitd",
    "libpam-systemd",
    "dbus-user-session",
    "systemd-resolved",
    "libnss-resolve",
    "sudo",
    "jq",
    "rsync",
    "ca-certificates",
)
PYTHON = "/usr/bin/python3"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEMD = "/lib/systemd/systemd"
_MAKING_SECONDS = 900
_OVERLAY = 'mount -t overlay -o "lowerdir=$LOWER,upperdir=$1/upper,workdir=$1/work" lab "$1/root"'

_INSTALL = f"""
LOWER=/; mkdir -p "$1/upper" "$1/work" "$1/root"
{_OVERLAY}
cd "$1/root"
printf '#!/bin/sh\\nexit 101\\n' > usr/sbin/policy-rc.d && chmod 755 usr/sbin/policy-rc.d
mount -t proc proc proc; mount -t tmpfs tmpfs run; mount -t tmpfs tmpfs tmp
export DEBIAN_FRONTEND=noninteractive
chroot . apt-get update -qq
chroot . apt-get install -qq -y --no-install-recommends {" ".join(PACKAGES)}
rm -f usr/sbin/policy-rc.d etc/resolv.conf
rm -rf etc/systemd/system/* etc/systemd/user/* var/cache/apt/archives/*.deb
"""

_BOOT = f"""
mkdir -p "$1/work" "$1/root"; R=$1/root
{_OVERLAY}
mount -t proc proc $R/proc; mount -t sysfs sysfs $R/sys; mount -t cgroup2 cg $R/sys/fs/cgroup
# What is the whole kernel's stays as it is: its settings, and the devices that udev would take for its own.
for d in kernel fs vm; do mount --bind $R/proc/sys/$d $R/proc/sys/$d; mount -o remount,bind,ro $R/proc/sys/$d; done
mount --bind $R/proc/sysrq-trigger $R/proc/sysrq-trigger && mount -o remount,bind,ro $R/proc/sysrq-trigger || true
mount -o remount,bind,ro $R/sys
mount -t tmpfs -o mode=755 tmpfs $R/run; mount -t tmpfs tmpfs $R/tmp; mount -t tmpfs -o mode=755 tmpfs $R/dev
for d in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    set -- $d; mknod -m 666 $R/dev/$1 c $2 $3
done
mkdir -p $R/dev/net $R/dev/pts $R/dev/shm; mknod -m 666 $R/dev/net/tun c 10 200
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts $R/dev/pts; ln -s pts/ptmx $R/dev/ptmx
mount -t tmpfs tmpfs $R/dev/shm
ln -s /proc/self/fd $R/dev/fd
for n in 0 1 2; do set -- stdin stdout stderr; shift $n; ln -s /proc/self/fd/$n $R/dev/$1; done; touch $R/dev/console
if [ -n "$SITE" ]; then
    mkdir -p $R/opt/ikeclient/bin $R/opt/ikeclient/src/ikeclient $R/opt/ikeclient/site
    mount --bind "$REPOSITORY/ikeclient" $R/opt/ikeclient/src/ikeclient; mount --bind "$SITE" $R/opt/ikeclient/site
fi
ln -sf /run/systemd/resolve/stub-resolv.conf $R/etc/resolv.conf
hostname booted; cd $R; mkdir -p .old; pivot_root . .old; umount -l /.old; mount --make-rshared /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb {SYSTEMD} --log-target=null \
    --unit=multi-user.target </dev/null >/run/systemd.out 2>&1
"""

_PROGRAM = f"""#!{PYTHON} -I
import sys
sys.path[:0] = ["/opt/ikeclient/src", "/opt/ikeclient/site"]
from ikeclient.cli.app import main
sys.exit(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A file system that systemd can be booted from: `lower`, with `upper` above it.

    With `libraries`, the repository's ikeclient and they are in /opt/ikeclient.
    """

    lower: Path
    upper: Path
    libraries: Path | None = None


def this_system() -> System:
    """This machine's own. Raises LabError in apt's words."""
    install()
    return System(lower=Path("/"), upper=LAYER / "upper", libraries=SITE)


def another_release(name: str, python: str) -> System:
    """Debian `name`, whose Python is `python`, and the libraries for it, made once and kept. Raises LabError."""
    bare = bare_release(name)

    def make(libraries: Path) -> None:
        wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
        machine = os.uname().machine
        platforms = [f"--platform={kind}_{machine}" for kind in ("manylinux_2_34", "manylinux_2_28", "manylinux2014")]
        abis = [f"--abi={abi}" for abi in (f"cp{python.replace('.', '')}", "abi3", "none")]
        options = (*platforms, *abis, "--implementation=cp", f"--python-version={python}", "--only-binary=:all:")
        pip = (sys.executable, "-m", "pip", "install", "-q", f"--target={libraries}")
        host_run(*pip, *options, *wanted, timeout=_MAKING_SECONDS)

    return replace(bare, libraries=kept(bare.upper.with_name("libraries"), make))


def bare_release(name: str) -> System:
    """Debian `name` without ikeclient, made in about three minutes and kept. Raises LabError."""

    def make(place: Path) -> None:
        (place / "upper").mkdir()
        included = "systemd,dbus,python3,iproute2,nftables"  # polkit cannot be configured without a booted system
        words = ("debootstrap", "--variant=minbase", f"--include={included}", name, str(place / "root"), _mirror())
        host_run(*words, timeout=_MAKING_SECONDS)
        (place / "root/etc/resolv.conf").unlink(missing_ok=True)

    place = kept(RELEASES / name, make)
    return System(lower=place / "root", upper=place / "upper")


def _mirror() -> str:
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    text = "".join(path.read_text() for path in files if path.is_file())
    found = re.search(r"^URIs: *(\S+)|^deb (?:\[[^]]*\] )?(\S+)", text, re.MULTILINE)
    return (found[1] or found[2]) if found is not None else "http://deb.debian.org/debian"


def install() -> None:
    """Make the layer with systemd and its friends, unless it is there and younger than this machine's packages.

    Raises LabError in apt's words.
    """
    with open(LAYER.with_suffix(".lock"), "w") as lock:  # tests run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = LAYER / "ready"
        young = stamp.exists() and stamp.stat().st_mtime > Path("/var/lib/dpkg/status").stat().st_mtime
        if young and stamp.read_text() == _INSTALL:
            return
        shutil.rmtree(LAYER, ignore_errors=True)
        LAYER.mkdir()
        command = ["unshare", "-m", "sh", "-ec", _INSTALL, "layer", str(LAYER)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            raise LabError(f"systemd cannot be installed for the lab: {done.stderr[-2000:]}")
        stamp.write_text(_INSTALL)


class BootedMachine:
    """systemd on the network of a lab machine. `files` (text, or a file to copy) are put into it before it boots."""

    def __init__(
        self, machine: Machine, directory: Path, files: Mapping[str, str | Path], system: System | None = None
    ) -> None:
        system = system or this_system()
        self._directory = directory / "booted"
        self._group = self._directory / "cgroup"
        for each in (self._directory, self._group):
            each.mkdir()
        host_run("cp", "-a", str(system.upper), str(self._directory))  # a layer cannot lie inside another
        program = {} if system.libraries is None else {"/opt/ikeclient/bin/ikeclient": _PROGRAM}
        for path, text in {**files, **program}.items():
            place = self._directory / "upper" / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text) if isinstance(text, str) else shutil.copy(text, place)
            if path in program:
                place.chmod(0o755)
        subprocess.run(["mount", "-t", "cgroup2", "cg", str(self._group)], check=True, timeout=30)
        self._own = self._group / f"ikeclient-lab-{os.getpid()}"
        self._own.mkdir(exist_ok=True)
        isolated = "unshare -m -p -f --kill-child -u -i -C --propagation private"
        outer = f'echo $$ > "{self._own}/cgroup.procs"; exec {isolated} "$@"'
        inner = ("bash", "-ec", _BOOT, "boot", str(self._directory))
        places = {"REPOSITORY": str(REPOSITORY), "SITE": str(system.libraries or ""), "LOWER": str(system.lower)}
        nsenter = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{machine.name}"]
        words = [*nsenter, "sh", "-ec", outer, "outer", *inner]
        self._output = (self._directory / "output").open("wb")
        self._process = subprocess.Popen(
            words, env={**os.environ, **places}, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output
        )
        try:
            self._pid = wait_for(self._find, timeout=30, what="systemd to start")
            wait_for(self._is_up, timeout=60, what="systemd to boot", interval=0.2)
        except BaseException as error:
            self.close()
            raise LabError(f"{error}\n{(self._directory / 'output').read_text()}") from error

    def _find(self) -> int | None:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return int(child)
        if self._process.poll() is not None:
            raise LabError("it has ended")
        return None

    def _is_up(self) -> bool:
        return self.run("systemctl", "is-active", "multi-user.target", check=False).returncode == 0

    def command(self, *argv: str, variables: Mapping[str, str]) -> list[str]:
        """`argv` as a command line for the host that runs it in this machine, with no other variables."""
        enter = ["nsenter", "-t", str(self._pid), *["-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w"], "env", "-i"]
        return [*enter, *(f"{name}={value}" for name, value in variables.items()), *argv]

    def run(
        self, *argv: str, check: bool = True, user: str | None = None, timeout: float = 60.0, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, as root or as `user`; `LabError` with its output when it fails and `check` is set."""
        variables = {"PATH": f"/opt/ikeclient/bin:{PATH}", "LC_ALL": "C.UTF-8", "HOME": "/", "NO_COLOR": "1"}
        become = [] if user is None else ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
        words = self.command(*become, *argv, variables=variables)
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}{done.stdout}")
        return done

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", unit, "-P", name).stdout.strip()

    def journal(self, unit: str, *options: str) -> str:
        """What a unit has logged."""
        return self.run("journalctl", "-u", unit, "--no-pager", *options).stdout

    def until(self, probe: Callable[[], T | None], what: str, timeout: float = 30.0) -> T:
        """Wait for something in this machine."""
        return wait_for(probe, timeout=timeout, what=what, interval=0.1)

    def close(self) -> None:
        """End systemd, and with it everything it has started."""
        with suppress(ProcessLookupError):
            self._process.kill()  # whose child is killed with it
        self._process.wait(timeout=30)
        self._output.close()

        def empty() -> bool:
            for group in sorted(self._own.rglob("*"), reverse=True):
                if group.is_dir():
                    with suppress(OSError):
                        group.rmdir()
            with suppress(OSError):
                self._own.rmdir()
            return not self._own.exists()

        wait_for(empty, timeout=20, what="the processes of systemd to be gone", interval=0.1)
        subprocess.run(["umount", str(self._group)], check=False, timeout=30)


def obstacles() -> list[str]:
    """Why no systemd can be booted here; empty when it can."""
    found = []
    if not Path("/etc/debian_version").exists() or shutil.which("apt-get") is None:
        found.append("no Debian")
    if not Path(sys.executable).resolve().is_relative_to("/usr/bin"):
        found.append("the tests' interpreter is not Debian's, which services can run")
    return found


needs_systemd = pytest.mark.skipif(bool(obstacles()), reason=f"no systemd here: {', '.join(obstacles())}")
needs_another_release = pytest.mark.skipif(shutil.which("debootstrap") is None, reason="no debootstrap here")
