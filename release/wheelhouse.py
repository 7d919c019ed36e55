"""Every wheel that an installation without the network needs, for all platforms and Pythons.

They are those of the lock files, whose hashes they are held against. `pip install --no-index --find-links wheelhouse
ikeclient` chooses among them, and `ikeclient[networkmanager]` finds there what it needs besides.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from release import tools
from release.lock import Locked, read
from release.tools import run, say
from release.wheels import PLATFORMS, Platform

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_TAGS = {  # of the oldest first; pip is told each one by its name
    "manylinux": ("manylinux1", "manylinux2010", "manylinux2014", "manylinux_2_5", "manylinux_2_12", "manylinux_2_17"),
    "musllinux": ("musllinux_1_1", "musllinux_1_2"),
}


def build(out: Path) -> None:
    """`wheelhouse` in `out`, with our own wheels in it, and the lock files."""
    for lock in (tools.LOCK, tools.PLUGIN):
        shutil.copy(lock, out / lock.name)
    house = out / "wheelhouse"
    house.mkdir()
    for python in PYTHONS:
        for platform in PLATFORMS:
            for wheel in _fetched(python, platform):
                shutil.copy(wheel, house / wheel.name)
    for wheel in out.glob("ikeclient-*.whl"):
        shutil.copy(wheel, house / wheel.name)
    say(f"made wheelhouse, {len(list(house.iterdir()))} wheels")


def wanted(python: str, platform: Platform) -> list[Locked]:
    """What of the lock files is installed there, with NetworkManager's plugin."""
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": platform.machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    return [each for each in (*read(tools.LOCK), *read(tools.PLUGIN)) if each.applies(environment)]


def tags(platform: Platform) -> Iterator[str]:
    """Every platform tag whose wheels run there."""
    for kind in _TAGS["musllinux" if "musl" in platform.target else "manylinux"]:
        yield f"{kind}_{platform.machine}"


def _fetched(python: str, platform: Platform) -> list[Path]:
    """The wheels for one Python on one platform, downloaded once for each state of the lock file."""
    needed = wanted(python, platform)
    text = "".join(each.text() for each in needed)
    place = tools.CACHE / f"wheels-{tools.digest(text)}" / f"{python}-{platform.target}"
    if not (place / "ready").exists():
        say(f"fetching wheels for Python {python}, {platform.target}")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "needed.txt").write_text(text)
        words = (word for tag in tags(platform) for word in ("--platform", tag))
        run(
            *(tools.python(), "-m", "pip", "-q", "download", "--disable-pip-version-check", "--no-deps"),
            *("--require-hashes", "--only-binary", ":all:", "--implementation", "cp", "--python-version", python),
            *words,
            *("-d", place, "-r", place / "needed.txt"),
        )
        (place / "ready").touch()
    return sorted(place.glob("*.whl"))
