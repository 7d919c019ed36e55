"""Make the trees that the packages install: ikeclient and what it needs, for every Python of the distributions.

The modules of a library that are compiled for one version of Python have that version in their file names, so that one
directory serves several: all else has to be the same in each, which is checked. Nothing is run, hence trees of other
machines can be made here.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

PYTHONS = ("3.11", "3.12", "3.13")  # also in `launcher`, `maintain` and the dependencies in nfpm.yaml
PLATFORMS = {  # what pip calls the wheels that run there
    "manylinux2014_x86_64": ("manylinux2014_x86_64", "manylinux_2_28_x86_64", "manylinux1_x86_64"),
    "manylinux2014_aarch64": ("manylinux2014_aarch64", "manylinux_2_28_aarch64"),
    "musllinux_1_2_x86_64": ("musllinux_1_2_x86_64", "musllinux_1_1_x86_64"),
    "musllinux_1_2_aarch64": ("musllinux_1_2_aarch64", "musllinux_1_1_aarch64"),
}
_INSTALLERS = ("RECORD", "REQUESTED", "INSTALLER", "WHEEL", "direct_url.json", "sboms")
LEFT_OUT = ("bin", "share", *(f"*.dist-info/{name}" for name in _INSTALLERS))
ROOT = Path(__file__).parents[2]
LOCKS = (ROOT / "release/requirements.txt", ROOT / "release/networkmanager.txt")  # versions and hashes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("platform", choices=PLATFORMS)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--wheelhouse", type=Path, help="a directory that has most of the libraries")
    parser.add_argument("--epoch", type=int, default=0, help="the time of every file")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.tree, ignore_errors=True)
    for python in PYTHONS:
        single = arguments.tree.with_name(f"{arguments.tree.name}-{python}")
        install(arguments.wheel, arguments.platform, python, single, arguments.wheelhouse)
        merge(single, arguments.tree)
    finish(arguments.tree, arguments.epoch)


def install(wheel: Path, platform: str, python: str, place: Path, house: Path | None) -> None:
    """Put the wheel and its libraries for one Python into `place`."""
    shutil.rmtree(place, ignore_errors=True)
    abis = (f"--abi=cp{python.replace('.', '')}", "--abi=abi3", "--abi=none")
    options = [f"--python-version={python}", "--implementation=cp", "--only-binary=:all:", *abis]
    options += [f"--platform={name}" for name in PLATFORMS[platform]]
    if house is not None:
        options += [f"--find-links={house}"]
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile"]
    pip += ["--root-user-action=ignore", "--no-warn-conflicts", f"--target={place}", *options]
    wanted = place.with_suffix(".requirements")
    wanted.write_text("\n".join(requirements("x86_64" if platform.endswith("x86_64") else "aarch64", python)))
    subprocess.run([*pip, "--require-hashes", "--no-deps", "-r", str(wanted)], check=True)
    wanted.unlink()
    shutil.unpack_archive(wheel, place, "zip")
    name, version, *_ = wheel.name.split("-")
    shutil.rmtree(place / f"{name}-{version}.data", ignore_errors=True)


def requirements(machine: str, python: str) -> list[str]:
    """Those that apply there: pip would judge their markers by the Python and the machine that it runs on itself."""
    text = "".join(lock.read_text() for lock in LOCKS)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = "\n".join(lines).replace("\\\n", " ").splitlines()
    target = {"platform_machine": machine, "python_version": python, "python_full_version": f"{python}.0"}
    kept = []
    for line in filter(None, map(str.strip, found)):
        named, hashes = line.partition("--hash")[::2]
        requirement = Requirement(named)
        if requirement.marker is None or requirement.marker.evaluate({**target, "extra": ""}):
            requirement.marker = None
            kept.append(f"{requirement} --hash{hashes}" if hashes else str(requirement))
    return kept


def merge(single: Path, tree: Path) -> None:
    """Move the files of `single` into `tree`; SystemExit if one of the same name has another content."""
    for pattern in LEFT_OUT:
        for path in single.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in sorted(single.rglob("*")):
        if path.is_dir():
            continue
        place = tree / path.relative_to(single)
        if place.exists() and place.read_bytes() != path.read_bytes():
            raise SystemExit(f"{place} differs between {', '.join(PYTHONS)}: they cannot share a tree")
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    shutil.rmtree(single)


def finish(tree: Path, epoch: int) -> None:
    """Give every file its mode and time, and the tree a name of its own by its content."""
    digest = hashlib.sha256()
    (tree / "ID").unlink(missing_ok=True)
    for path in sorted(tree.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
            continue
        path.chmod(0o644)
        digest.update(str(path.relative_to(tree)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    (tree / "ID").write_text(digest.hexdigest()[:16] + "\n")
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (epoch, epoch))


if __name__ == "__main__":
    main()
