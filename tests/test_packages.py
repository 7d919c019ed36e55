"""What `scripts/packages` derives and what its pieces have to agree on. tests/lab/test_lab_packages.py installs it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ROOT / "scripts" / "packages"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"packages_{name}", PACKAGES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


trees, stage = load("trees"), load("stage")


def test_every_piece_is_for_the_same_pythons() -> None:
    pythons = list(trees.PYTHONS)
    launcher = re.search(r"PYTHONS = \((.*)\)\n", (PACKAGES / "launcher").read_text())
    assert launcher is not None
    assert re.findall(r"\((\d), (\d+)\)", launcher[1]) == [tuple(each.split(".")) for each in pythons]
    assert f"for python in {' '.join(f'python{each}' for each in pythons)}; do" in (PACKAGES / "maintain").read_text()
    described = (PACKAGES / "nfpm.yaml").read_text()
    assert f"interest_noawait: [{', '.join(f'/usr/bin/python{each}' for each in pythons)}]" in described
    after = f"3.{int(pythons[-1].split('.')[1]) + 1}"
    assert f"python3 (>= {pythons[0]}), python3 (<< {after})" in described
    assert f"python3>={pythons[0]}, python3<{after}" in described
    assert set(re.findall(r"python\(abi\) = ([\d.]+)", described)) == set(pythons)


def test_modules_of_several_pythons_share_a_tree_and_anything_else_may_not_differ(tmp_path: Path) -> None:
    for python in ("311", "313"):
        for name, text in (("lib/one.py", "same"), (f"lib/one.cpython-{python}.so", python), ("bin/tool", python)):
            path = tmp_path / python / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        trees.merge(tmp_path / python, tmp_path / "tree")
    files = sorted(str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*.*"))
    assert files == ["lib/one.cpython-311.so", "lib/one.cpython-313.so", "lib/one.py"]
    other = tmp_path / "312" / "lib" / "one.py"
    other.parent.mkdir(parents=True)
    other.write_text("another")
    with pytest.raises(SystemExit, match=r"one\.py differs"):
        trees.merge(tmp_path / "312", tmp_path / "tree")


def test_a_tree_is_named_by_its_content_and_not_by_its_time(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("one")
    names = []
    for epoch, text in ((1, "one"), (2, "one"), (2, "two")):
        (tmp_path / "module.py").write_text(text)
        trees.finish(tmp_path, epoch)
        assert {path.stat().st_mtime for path in (tmp_path, *tmp_path.iterdir())} == {epoch}
        names.append((tmp_path / "ID").read_text())
    assert names[0] == names[1] != names[2]


def test_libraries_are_chosen_for_the_machine_that_the_package_is_for() -> None:
    """python-pytun has no wheel for aarch64, whatever this machine is."""
    assert all("--hash=sha256:" in each for each in trees.requirements("x86_64", "3.13"))
    assert any(each.startswith("python-pytun") for each in trees.requirements("x86_64", "3.11"))
    assert not any(each.startswith("python-pytun") for each in trees.requirements("aarch64", "3.11"))


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("docs/systemd*/*.service")), ids=lambda path: path.parent.name + path.name
)
def test_the_units_run_the_program_of_the_package_and_are_packed(path: Path) -> None:
    place = "user" if path.parent.name == "systemd-user" else "system"
    assert f"dst: /usr/lib/systemd/{place}/{path.name}" in (PACKAGES / "nfpm.yaml").read_text()
    made = stage.unit(path.read_text())
    assert re.search(r"^ExecStart=-?/usr/bin/ikeclient ", made, re.MULTILINE)
    assert "/opt" not in made


def test_everything_that_is_packed_is_there() -> None:
    for source in re.findall(r"src: (?:\")?([^,\"$]+)", (PACKAGES / "nfpm.yaml").read_text()):
        assert (ROOT / source).exists(), source
    for script in re.findall(r": (scripts/packages/scripts/\S+)", (PACKAGES / "nfpm.yaml").read_text()):
        assert (ROOT / script).exists(), script
