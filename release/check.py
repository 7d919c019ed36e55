"""Try what was made: each artefact in a clean root, by the way in which people install it.

No root has a compiler, and those of the wheelhouse have no network either. What was made from the same sources
elsewhere, without git, has to be the same bit by bit.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from email import message_from_bytes
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

from release import manifests, roots, sources, systems, tools, wheels
from release.roots import Root
from release.systems import System
from release.tools import ReleaseError, say
from release.wheels import PLATFORMS

_COMPILERS = ("cc", "gcc", "clang", "make")
_TESTING = ("pytest", "pytest-timeout", "hypothesis")
_TESTS = "tests/esp tests/sim"
# An emulator takes twenty times as long: the codec, and SAs with their known answers.
_TESTS_EMULATED = "tests/esp/test_esp_offload.py tests/esp/test_esp_offload_twins.py tests/esp/test_esp_sa.py"
_OF_SOURCES = (  # two read the source tree, which is not there
    " --ignore tests/sim/test_sim_walks.py --deselect"
    " tests/esp/test_esp_offload.py::test_the_sources_of_the_compiled_module_are_known_by_their_digest"
)


def _require(condition: object, said: str) -> None:
    if not condition:
        raise ReleaseError(said)


def _one(out: Path, pattern: str) -> Path:
    found = list(out.glob(pattern))
    _require(len(found) == 1, f"{out} has {len(found)} files {pattern}: make them with scripts/release")
    return found[0]


def _wheel(out: Path, part: str) -> Path:
    return _one(out, f"ikeclient-*{part}*.whl")


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
    listed = _one(out, "ikeclient-*.cdx.json")
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


def _runs(root: Root, program: str) -> None:
    """The program runs with its compiled codec."""
    _require(root.run(program, "version").startswith("ikeclient "), f"{program} says no version")
    doctor = root.run("sh", "-c", f"{program} doctor || true")
    _require("compiled codec" in doctor, f"{program} does without its compiled codec:\n{doctor}")


def _works(root: Root, program: str) -> None:
    """The installed program runs, and has what comes with it."""
    _runs(root, program)
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


def _elsewhere(root: Root, out: Path) -> None:
    """From the wheelhouse without network; then the tests of ESP, with its known answers, and of whole connections."""
    root.run(root.system.python, "-m", "venv", "/opt/ikeclient")
    program = "/opt/ikeclient/bin/ikeclient"
    words = ("--no-index", "--find-links", "/release/wheelhouse", "ikeclient[networkmanager]")
    root.run("/opt/ikeclient/bin/pip", "install", "-q", *words, network=False)
    _works(root, program)
    said = json.loads(root.run(program, "version", "--json"))
    _require(said["python"].startswith(root.system.version), f"another Python was tried: {said}")
    _require(root.system.machine in said["system"], f"another machine was tried: {said}")
    root.run("/opt/ikeclient/bin/pip", "install", "-q", *_TESTING)
    sdist = sources.find(out)
    root.run("tar", "-C", "/opt", "-xzf", f"/release/{sdist.name}", network=False)
    tree = f"/opt/{sdist.name.removesuffix('.tar.gz')}"
    root.run("rm", "-r", f"{tree}/ikeclient")  # what was installed is tried, not this
    tests = _TESTS_EMULATED if root.emulated else _TESTS
    pytest = "/opt/ikeclient/bin/pytest -q -p no:cacheprovider -o timeout=1200"
    root.run("sh", "-ec", f"cd {tree}; exec {pytest} {tests}{_OF_SOURCES}")


def _in(system: System, work: Callable[[Root, Path], None]) -> Callable[[Path], None]:
    def tried(out: Path) -> None:
        with roots.clean(system, out) as root:
            _no_compiler(root)
            work(root, out)

    return tried


def _apk(root: Root, out: Path) -> None:
    """Installed and removed by Alpine's apk, which has to be told of the Python that was put there without it."""
    package = _one(out, f"ikeclient_*_{root.system.machine}.apk")
    alone = ("apk", "--no-network", "--quiet")
    root.run(*alone, "add", "--virtual", f"python3={root.system.version}", network=False)
    root.run(*alone, "add", "--allow-untrusted", f"/release/{package.name}", network=False)
    _runs(root, "/usr/bin/ikeclient")
    root.run("grep", "^ikeclient:", "/etc/passwd")
    root.run(*alone, "del", "ikeclient", network=False)
    _require(not root.run("find", "/usr/lib", "/usr/bin", "-name", "*ikeclient*"), "apk leaves files behind")


def _deb(root: Root, out: Path) -> None:
    """Installed and removed by dpkg, without systemd, which the package asks for and its scripts can do without."""
    package = _one(out, "ikeclient_*_arm64.deb")
    root.run("dpkg", "--force-depends", "--install", f"/release/{package.name}", network=False)
    _runs(root, "/usr/bin/ikeclient")
    root.run("dpkg", "--purge", "ikeclient", network=False)
    _require(not root.run("find", "/usr/lib", "/usr/bin", "-name", "*ikeclient*"), "dpkg leaves files behind")


def _rpm(root: Root, out: Path) -> None:
    """Installed and removed by rpm, whose database does not know what Debian has installed."""
    package = _one(out, "ikeclient-*.aarch64.rpm")
    root.run("apt-get", "update", "-qq")
    root.run("apt-get", "install", "-qq", "--no-install-recommends", "rpm")
    root.run("rpm", "--install", "--nodeps", f"/release/{package.name}", network=False)
    _runs(root, "/usr/bin/ikeclient")
    root.run("rpm", "--erase", "--nodeps", "ikeclient", network=False)
    _require(not root.run("find", "/usr/lib", "/usr/bin", "-name", "*ikeclient*"), "rpm leaves files behind")


def image(out: Path) -> None:
    """The image for aarch64: its files, run by an emulator. No engine has a part in it."""
    archive = _one(out, "ikeclient-*-image-arm64.tar.gz")
    with tools.scratch("image") as directory:
        place, files = Path(directory), Path(directory, "root")
        tools.run("tar", "-C", place, "-xzf", archive)
        (manifest,) = json.loads((place / "manifest.json").read_text())
        configuration = json.loads((place / manifest["Config"]).read_text())
        _require(configuration["architecture"] == "arm64", f"it is for {configuration['architecture']}")
        files.mkdir()
        for layer in manifest["Layers"]:
            tools.run("tar", "-C", files, "-xf", place / layer)
        system = System(layers=(lambda: files,), version="3.13", machine="aarch64")
        with roots.clean(system, out) as root:
            _runs(root, *configuration["config"]["Entrypoint"])


def packages(out: Path) -> None:
    """The packages of distributions, by their own trial."""
    tools.run(tools.ROOT / "scripts/packages/check", out, seconds=3600)


_WAYS: dict[str, Callable[[Root, Path], None]] = {
    **{line: _typed(line) for line in typed_lines()},
    "pip install WHEEL": _index,
    "pip install SDIST": _sdist,
}
CHECKS: dict[str, Callable[[Path], None]] = {
    "sums": sums,
    "contents": contents,
    **{f"{suite}: {name}": _in(each, work) for suite, each in systems.RELEASES.items() for name, work in _WAYS.items()},
    **{name: _in(each, _elsewhere) for name, each in systems.OTHERS.items()},
    **{f"{name}: .apk": _in(systems.OTHERS[name], _apk) for name in ("Alpine", "Alpine on aarch64")},
    "Debian on aarch64: .deb": _in(systems.OTHERS["Debian on aarch64"], _deb),
    "Debian on aarch64: .rpm": _in(systems.OTHERS["Debian on aarch64"], _rpm),
    "image for aarch64": image,
    "packages": packages,
    "kubernetes": manifests.check,
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
