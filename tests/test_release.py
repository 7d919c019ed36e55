"""What is handed out: lock files, wheels, list of parts, sums. `scripts/release --check` tries them in clean roots."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release import check, lock, manifests, sbom, sources, systems, tools, wheelhouse, wheels
from release.lock import Locked

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
SHIPPED = (*PROJECT["dependencies"], *EXTRAS["networkmanager"], *EXTRAS["desktop"])
LOCKED = {canonicalize_name(each.name): each for each in (*lock.read(tools.LOCK), *lock.read(tools.PLUGIN))}
EVERYWHERE = [(python, platform) for python in wheelhouse.PYTHONS for platform in wheels.PLATFORMS]


def test_the_lock_file_covers_every_dependency_and_has_hashes() -> None:
    for text in SHIPPED:
        requirement = Requirement(text)
        locked = LOCKED.get(canonicalize_name(requirement.name))
        assert locked is not None, f"{text}: run scripts/lock"
        assert requirement.specifier.contains(locked.version), f"{text}: run scripts/lock"
    for each in LOCKED.values():
        assert each.hashes, each.name


@pytest.mark.parametrize(("python", "platform"), EVERYWHERE, ids=str)
def test_what_is_locked_is_complete_on_every_platform(python: str, platform: wheels.Platform) -> None:
    """Each dependency of each package, as far as the packages are installed here to be asked."""
    wanted = {canonicalize_name(each.name): each for each in wheelhouse.wanted(python, platform)}
    marked = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": platform.machine}
    asked = 0
    for name in ("ikeclient", *wanted):
        try:
            needed = SHIPPED if name == "ikeclient" else requires(name) or []
        except PackageNotFoundError:
            continue
        asked += 1
        for requirement in map(Requirement, needed):
            if requirement.marker is None or requirement.marker.evaluate({**marked, "extra": ""}):
                assert canonicalize_name(requirement.name) in wanted, f"{name} needs {requirement}: run scripts/lock"
    assert asked > 10


def test_no_machine_needs_a_compiler_for_what_has_no_wheel_there() -> None:
    """python-pytun has none for arm64, netifaces-plus none for musl and Python 3.14."""
    for python, platform in EVERYWHERE:
        names = {each.name for each in wheelhouse.wanted(python, platform)}
        assert ("python-pytun" in names) is (platform.machine == "x86_64")
        assert ("netifaces-plus" in names) is (python != "3.14")


def test_tools_are_pinned_with_hashes() -> None:
    pinned = {each.name for each in lock.read(tools.TOOLS) if each.hashes}
    lines = (line for line in (ROOT / "release/tools.in").read_text().splitlines() if not line.startswith("#"))
    assert {canonicalize_name(Requirement(line).name) for line in lines} <= pinned


def test_what_the_trial_takes_from_the_index_is_pinned_with_hashes() -> None:
    pinned = {each.name for each in lock.read(ROOT / "release/systems.txt") if each.hashes}
    used = set(re.findall(r'fetch\("([^"]+)"', Path(systems.__file__).read_text())) | set(manifests.KUBECTL.values())
    assert used == pinned


def test_every_python_and_kind_of_platform_is_tried_somewhere() -> None:
    tried = {**systems.RELEASES, **systems.OTHERS}.values()
    assert {each.version for each in tried} == set(wheelhouse.PYTHONS)
    assert {each.machine for each in tried} == {platform.machine for platform in wheels.PLATFORMS}


def test_a_source_distribution_is_of_nobody_and_of_one_time(tmp_path: Path) -> None:
    for name, when in (("b", 5), ("a", 6)):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (when, when))
    packed = []
    for number, order in enumerate(("ba", "ab")):
        with tarfile.open(tmp_path / f"{number}.tar.gz", "w:gz") as archive:
            for name in order:
                archive.add(tmp_path / name, f"ikeclient-1/{name}")
        packed.append(sources.canonical(tmp_path / f"{number}.tar.gz", 1_700_000_001))
    assert packed[0] == packed[1]
    with tarfile.open(fileobj=io.BytesIO(packed[0])) as archive:
        found = [(each.name, each.uid, each.uname, each.mtime) for each in archive]
    assert found == [(f"ikeclient-1/{name}", 0, "", 1_700_000_001) for name in "ab"]


def test_a_wheel_is_the_plain_one_with_the_module_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000001")
    plain = {
        "ikeclient/__init__.py": b"",
        "ikeclient-1.dist-info/METADATA": b"Name: ikeclient\nVersion: 1\n",
        "ikeclient-1.dist-info/WHEEL": b"of setuptools",
        "ikeclient-1.dist-info/RECORD": b"old",
    }
    inside = {**plain, f"{wheels.MODULE}.abi3.so": b"module"}
    tag = f"cp311-abi3-{wheels.PLATFORMS[0].tag}"
    made = [wheels.write(tmp_path / f"{n}.whl", inside, tag, pure=False) for n in range(2)]
    assert made[0].read_bytes() == made[1].read_bytes()
    with zipfile.ZipFile(made[0]) as archive:
        stated = archive.read("ikeclient-1.dist-info/WHEEL").decode().splitlines()
        record = archive.read("ikeclient-1.dist-info/RECORD").decode().splitlines()
        assert {entry.date_time for entry in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}
        assert len(record) == len(archive.namelist()) == 5
    assert "Root-Is-Purelib: false" in stated
    assert [line for line in stated if line.startswith("Tag: ")] == [
        "Tag: cp311-abi3-manylinux_2_17_x86_64",
        "Tag: cp311-abi3-manylinux2014_x86_64",
    ]
    assert record[-1] == "ikeclient-1.dist-info/RECORD,,"


def test_the_list_of_parts_says_what_the_wheels_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000001")
    required = ("rich>=13", 'dbus-fast>=2; extra == "networkmanager"', 'keyring; extra == "keyring"')
    own = "License-Expression: Apache-2.0\n" + "".join(f"Requires-Dist: {each}\n" for each in required)
    for name, more in (("ikeclient", own), ("rich", ""), ("dbus-fast", "")):
        text = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\nSummary: one\n{more}"
        file = name.replace("-", "_")
        parts = {f"{file}-1.dist-info/METADATA": text.encode(), f"{file}-1.dist-info/RECORD": b""}
        wheels.write(tmp_path / f"{file}-1-py3-none-any.whl", parts, "py3-none-any", pure=True)
    document = sbom.document(sbom.parts(tmp_path))
    assert json.loads(json.dumps(document)) == sbom.document(sbom.parts(tmp_path))
    own = document["metadata"]["component"]
    assert (own["purl"], own["licenses"]) == ("pkg:pypi/ikeclient@1", [{"expression": "Apache-2.0"}])
    digest = hashlib.sha256((tmp_path / "rich-1-py3-none-any.whl").read_bytes()).hexdigest()
    (rich,) = (each for each in document["components"] if each["name"] == "rich")
    assert rich["externalReferences"][0]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    graph = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    assert {"pkg:pypi/rich@1", "pkg:pypi/dbus-fast@1"} < set(graph["pkg:pypi/ikeclient@1"])
    scopes = {each["name"]: each.get("scope") for each in document["components"]}
    assert (scopes["rich"], scopes["dbus-fast"]) == (None, "optional")


def test_sums_that_are_wrong_or_miss_a_file_are_found(tmp_path: Path) -> None:
    (tmp_path / "wheelhouse").mkdir()
    (tmp_path / "wheelhouse/a.whl").write_bytes(b"a")
    sources.write_sums(tmp_path)
    check.sums(tmp_path)
    done = subprocess.run(("sha256sum", "-c", sources.SUMS), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "wheelhouse/a.whl: OK\n"
    (tmp_path / "wheelhouse/a.whl").write_bytes(b"b")
    with pytest.raises(tools.ReleaseError, match=r"a\.whl"):
        check.sums(tmp_path)
    (tmp_path / "more").touch()
    with pytest.raises(tools.ReleaseError, match="more"):
        check.sums(tmp_path)


def test_the_source_distribution_is_told_from_images(tmp_path: Path) -> None:
    (tmp_path / "ikeclient-0.1.0-image-amd64.tar.gz").touch()
    with pytest.raises(tools.ReleaseError, match="0 source distributions"):
        sources.find(tmp_path)
    (tmp_path / "ikeclient-0.1.0.tar.gz").touch()
    assert sources.find(tmp_path).name == "ikeclient-0.1.0.tar.gz"


def test_people_are_told_all_ways_to_install_a_release() -> None:
    lines = check.typed_lines()
    for way in ("pipx install", "uv tool install", "--no-index", "--require-hashes"):
        assert any(way in line for line in lines), way


def test_a_marker_decides_where_a_package_is_wanted() -> None:
    (only,) = lock.parsed(
        "# comment\npython-pytun==2.4.2 ; platform_machine == 'x86_64' \\\n"
        f"    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{'1' * 64}\n    # via ikeclient\n"
    )
    assert isinstance(only, Locked)
    assert (only.name, only.version, len(only.hashes)) == ("python-pytun", "2.4.2", 2)
    assert only.applies({"platform_machine": "x86_64"})
    assert not only.applies({"platform_machine": "aarch64"})


@pytest.mark.extended
@pytest.mark.timeout(900)
def test_wheels_for_every_platform_are_made_with_the_pinned_tools(tmp_path: Path) -> None:
    """It needs the package index at first."""
    made = wheels.build(sources.build(tmp_path / "out"), tmp_path)
    assert len(made) == 1 + len(wheels.PLATFORMS)
    check.contents_of_wheels(tmp_path)
