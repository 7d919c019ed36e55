"""Try what was made: each artefact in a clean root, by the way in which people install it.

No root has a compiler, and those of the wheelhouse have no network either. What was made from the same sources
elsewhere, without git, has to be the same bit by bit.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from email import message_from_bytes
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

from release import roots, sources, tools, wheelhouse, wheels
from release.roots import Root
from release.tools import ReleaseError, say
from release.wheels import PLATFORMS

_COMPILERS = ("cc", "gcc", "clang", "make")
# The compiled codec says the same as its plain twin, of a packet that has to be cut.
_TWINS = """
from ikeclient.esp.codec import _offload, choice, plain
assert choice.ACTIVE == "compiled", choice.describe()
for length in (28, 40, 60, 1400):
    frame = bytes(10) + b"\\x45\\0" + length.to_bytes(2, "big") + bytes(4) + b"\\x40\\x11" + bytes(length - 10)
    assert _offload.examine(frame, len(frame)) == plain.examine(frame, len(frame)), length
print("twins agree")
"""


def _require(condition: object, said: str) -> None:
    if not condition:
        raise ReleaseError(said)


def _wheel(out: Path, part: str) -> Path:
    found = list(out.glob(f"ikeclient-*{part}*.whl"))
    _require(len(found) == 1, f"{out} has {len(found)} wheels for {part}: make them with scripts/release")
    return found[0]


def sums(out: Path) -> None:
    """SHA256SUMS has every file, and each is as it says."""
    told = dict(line.split("  ", 1)[::-1] for line in (out / sources.SUMS).read_text().splitlines())
    there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name != sources.SUMS}
    _require(told.keys() == there, f"SHA256SUMS and the files differ: {sorted(told.keys() ^ there)[:5]}")
    for name, digest in told.items():
        _require(hashlib.sha256((out / name).read_bytes()).hexdigest() == digest, f"{name} is not as SHA256SUMS says")


def again(out: Path) -> None:
    """What is made from the source distribution, elsewhere and without git, is the same bit by bit."""
    sdist = sources.find(out)
    with tools.scratch("again") as directory:
        place = Path(directory)
        tree = sources.unpack(sdist, place)
        made = place / "another place"
        words = (sys.executable, "-m", "release", "--wheels", made)
        environment = {name: value for name, value in tools.environment().items() if name != "SOURCE_DATE_EPOCH"}
        tools.run(*words, cwd=tree, env=environment)
        names = [path for path in made.iterdir() if path.is_file()]
        _require(len(names) == len(PLATFORMS) + 6, f"something else was made: {[path.name for path in names]}")
        for path in names:
            if path.name != sources.SUMS:
                same = path.read_bytes() == (out / path.name).read_bytes()
                _require(same, f"{path.name} is another one when it is made again")


def contents(out: Path) -> None:
    """What is in each file, held against the papers that define it."""
    contents_of_wheels(out)
    (listed,) = out.glob("ikeclient-*.cdx.json")
    tools.run(tools.python(), "-m", "release.sbom", "--validate", listed, cwd=tools.ROOT)


def contents_of_wheels(out: Path) -> None:
    """Names and tags, and what each module needs of the system."""
    for platform in PLATFORMS:
        wheel = _wheel(out, platform.tag)
        _, _, _, tags = parse_wheel_filename(wheel.name)
        _require(tags == {Tag("cp311", "abi3", each) for each in platform.tag.split(".")}, f"{wheel.name}: its tags")
        inside = wheels.read(wheel)
        (stated,) = (data for name, data in inside.items() if name.endswith(".dist-info/WHEEL"))
        said = {str(Tag(*each.split("-"))) for each in message_from_bytes(stated).get_all("Tag", [])}
        _require(said == {str(each) for each in tags}, f"{wheel.name}: WHEEL has other tags than its name")
        tools.run(tools.python(), "-m", "abi3audit", "--strict", wheel)
        if "manylinux" in platform.tag:
            versions = re.findall(rb"GLIBC_2\.(\d+)", inside[f"{wheels.MODULE}.abi3.so"])
            _require(versions and max(map(int, versions)) <= 17, f"{wheel.name} needs a newer glibc than 2.17")
    _require(list(out.glob("ikeclient-*-py3-none-any.whl")), "no wheel for other machines")


def _works(root: Root, program: str) -> None:
    """The installed program runs with its compiled codec, and has what comes with it."""
    _require(root.run(program, "version").startswith("ikeclient "), f"{program} says no version")
    doctor = root.run("sh", "-c", f"{program} doctor || true")
    _require("compiled codec" in doctor, f"{program} does without its compiled codec:\n{doctor}")
    prefix = root.run("sh", "-c", f'dirname "$(dirname "$(realpath {program})")"').strip()
    for name in ("man/man1/ikeclient.1", "bash-completion/completions/ikeclient", "ikeclient/docs/systemd/README.md"):
        root.run("test", "-s", f"{prefix}/share/{name}")
    for name in ("systemd/ikeclient.sysusers.conf", "systemd-user/ikeclient-notify.service"):
        root.run("test", "-s", f"{prefix}/share/ikeclient/docs/{name}")


def _no_compiler(root: Root) -> None:
    there = root.run("sh", "-c", f"for each in {' '.join(_COMPILERS)}; do command -v $each || true; done")
    _require(not there.strip(), f"the root has a compiler: {there}")


def _venv(root: Root, *words: str) -> None:
    root.run("python3", "-m", "venv", "/opt/ikeclient")
    root.run("/opt/ikeclient/bin/pip", "install", "-q", *words)
    _works(root, "/opt/ikeclient/bin/ikeclient")


def _here(out: Path) -> str:
    return f"/release/{_wheel(out, 'manylinux_2_17_x86_64').name}"


def _index(root: Root, out: Path) -> None:
    _venv(root, _here(out))


def _typed(line: str) -> Callable[[Root, Path], None]:
    """A line of docs/releasing.md, as it is typed where the files of the release are."""

    def typed(root: Root, _out: Path) -> None:
        root.run("python3", "-m", "venv", "/opt/ikeclient")
        if line.startswith("uv "):
            root.run("python3", "-m", "venv", "/opt/uv")
            root.run("/opt/uv/bin/pip", "install", "-q", "uv")
        path = "PATH=/opt/ikeclient/bin:/opt/uv/bin:$PATH"
        root.run("sh", "-ec", f"cd /release; {path}; {line}", network="--no-index" not in line)
        places = ("/root/.local/bin/ikeclient", "/opt/ikeclient/bin/ikeclient")
        found = root.run("sh", "-c", f"ls {' '.join(places)} 2>/dev/null || true").split()
        _require(len(found) == 1, f"{line}: installed {found}")
        _works(root, found[0])

    return typed


def typed_lines() -> list[str]:
    """The ways to install what is in a release, as people are told them."""
    page = (tools.ROOT / "docs/releasing.md").read_text()
    (block,) = re.findall(r"^```sh release\n(.*?)^```$", page, re.M | re.S)
    return [line.partition("#")[0].strip() for line in block.splitlines()]


def _sdist(root: Root, out: Path) -> None:
    sdist = sources.find(out)
    root.run("python3", "-m", "venv", "/opt/ikeclient")
    root.run("/opt/ikeclient/bin/pip", "install", "-q", f"/release/{sdist.name}")
    doctor = root.run("sh", "-c", "/opt/ikeclient/bin/ikeclient doctor || true")
    _require("plain Python codec" in doctor, f"a codec was compiled without a compiler:\n{doctor}")


def _in(suite: str, work: Callable[[Root, Path], None]) -> Callable[[Path], None]:
    def tried(out: Path) -> None:
        with roots.clean(suite, out) as root:
            _no_compiler(root)
            work(root, out)

    return tried


def aarch64(out: Path) -> None:
    """The wheel for arm64, and all that it needs from the wheelhouse, run by an emulator on a foreign Debian."""
    (platform,) = (each for each in PLATFORMS if each.target.startswith("aarch64-linux-gnu"))
    root, emulators = roots.foreign("bookworm", "arm64")
    with tools.scratch("arm64") as directory:
        site = Path(directory)
        names = {each.name for each in wheelhouse.wanted("3.11", platform)}
        for wheel in _chosen(out / "wheelhouse", "3.11", platform):
            names.discard(str(parse_wheel_filename(wheel.name)[0]))
            shutil.unpack_archive(wheel, site, "zip")
        _require(not names, f"the wheelhouse lacks {sorted(names)} for {platform.tag}")
        start = (emulators / "qemu-aarch64-static", "-L", root, "-E", f"PYTHONPATH={site}", root / "usr/bin/python3.11")
        environment = {"PATH": "/usr/bin:/bin", "PYTHONHOME": str(root / "usr"), "HOME": str(site)}
        said = tools.run(*start, "-c", _TWINS, env=environment, cwd=site)
        _require("twins agree" in said, said)
        said = tools.run(*start, "-m", "ikeclient", "version", "--json", env=environment, cwd=site)
        _require("aarch64" in said, said)


def packages(out: Path) -> None:
    """The packages of distributions, by their own trial."""
    tools.run(tools.ROOT / "scripts/packages/check", out, seconds=3600)


def _chosen(house: Path, python: str, platform: wheels.Platform) -> list[Path]:
    """What pip takes from a wheelhouse there."""
    minor = int(python.partition(".")[2])
    abis = {f"cp{python.replace('.', '')}", "abi3", "none"}
    fits = set(wheelhouse.tags(platform)) | {"any"} | set(platform.tag.split("."))
    chosen: dict[str, Path] = {}
    for wheel in sorted(house.iterdir()):
        name, _, _, tags = parse_wheel_filename(wheel.name)
        for tag in tags:
            age = re.fullmatch(r"(?:cp|py)3(\d*)", tag.interpreter)
            old = age is not None and (not age[1] or (int(age[1]) <= minor if tag.abi == "abi3" else True))
            if old and tag.abi in abis and tag.platform in fits and (tag.platform != "any" or str(name) not in chosen):
                chosen[str(name)] = wheel
    return list(chosen.values())


_WAYS: dict[str, Callable[[Root, Path], None]] = {
    **{line: _typed(line) for line in typed_lines()},
    "pip install WHEEL": _index,
    "pip install SDIST": _sdist,
}
CHECKS: dict[str, Callable[[Path], None]] = {
    "sums": sums,
    "contents": contents,
    **{f"{suite}: {name}": _in(suite, work) for suite in roots.RELEASES for name, work in _WAYS.items()},
    "aarch64": aarch64,
    "packages": packages,
    "again": again,
}


def run(out: Path, only: Sequence[str]) -> int:
    """Every check, or those with such a name; an exit code."""
    unknown = [name for name in only if not any(name in each for each in CHECKS)]
    if unknown:
        raise ReleaseError(f"there is no check {unknown[0]!r}; there are: {', '.join(CHECKS)}")
    failed = []
    for name, check in CHECKS.items():
        if only and not any(each in name for each in only):
            continue
        start = time.monotonic()
        try:
            check(out)
        except ReleaseError as error:
            failed.append(name)
            say(f"✗ {name}: {error}")
        else:
            say(f"✓ {name} ({time.monotonic() - start:.0f} s)")
    say(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0
