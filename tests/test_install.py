"""Source distribution and wheels: with a compiler the codec is inside, without one everything works all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("README.md", "LICENSE", "MANIFEST.in", "pyproject.toml", "setup.py")
pytestmark = [pytest.mark.xdist_group("install"), pytest.mark.timeout(300)]


def run(*argv: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def call(hook: str, tools: Path, source: Path, out: Path, **environment: str) -> Path:
    """One hook of the build backend (PEP 517); what it made."""
    out.mkdir(exist_ok=True)
    program = f"import sys; from setuptools import build_meta; print(build_meta.{hook}(sys.argv[1]))"
    printed = run(sys.executable, "-c", program, str(out), cwd=source, PYTHONPATH=str(tools), **environment)
    return out / printed.splitlines()[-1]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What builds a wheel, as pip would fetch it, but once for all tests."""
    directory = tmp_path_factory.mktemp("tools")
    wanted = ("setuptools>=77", "Cython>=3")
    run(sys.executable, "-m", "pip", "-q", "install", "--target", str(directory), *wanted, cwd=directory)
    return directory


@pytest.fixture(scope="module")
def source(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution, made from a clean copy of the tree."""
    directory = tmp_path_factory.mktemp("source")
    copy = directory / "tree"
    copy.mkdir()
    shutil.copytree(ROOT / "ikeclient", copy / "ikeclient", ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    for name in NEEDED:
        shutil.copy(ROOT / name, copy / name)
    with tarfile.open(call("build_sdist", tools, copy, directory / "dist")) as archive:
        archive.extractall(directory)
    (unpacked,) = (path for path in directory.iterdir() if path.name.startswith("ikeclient-"))
    return unpacked


def installed(wheel: Path, where: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(where)
    return where


def codec(where: Path) -> str:
    """What `doctor` of the installed package says about its codec."""
    found = run(sys.executable, "-m", "ikeclient", "doctor", cwd=where, PYTHONPATH=str(where), NO_COLOR="1")
    origin = run(sys.executable, "-c", "import ikeclient; print(ikeclient.__file__)", cwd=where, PYTHONPATH=str(where))
    assert origin.startswith(str(where)), "another ikeclient was looked at"
    return next(line for line in found.splitlines() if line[2:].startswith("codec"))


def test_the_source_distribution_has_what_the_compiled_module_is_made_of(source: Path) -> None:
    assert {path.name for path in (source / "ikeclient/esp/codec").iterdir()} >= {"_offload.pyx", "_coalesce.pxi"}


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler here")
def test_a_wheel_built_with_a_compiler_carries_the_compiled_codec(tools: Path, source: Path, tmp_path: Path) -> None:
    wheel = call("build_wheel", tools, source, tmp_path / "dist")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("ikeclient/esp/codec/_offload.") and name.endswith(".so") for name in names)
    assert not any(name.endswith((".pyx", ".pxi", ".c")) for name in names)
    assert "compiled codec" in codec(installed(wheel, tmp_path / "site"))


def test_without_a_compiler_it_installs_works_and_says_so(tools: Path, source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tree"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build", "*.so", "*.c"))
    wheel = call("build_wheel", tools, copy, tmp_path / "dist", CC="/bin/false", CXX="/bin/false")
    assert not any(name.endswith(".so") for name in zipfile.ZipFile(wheel).namelist())
    site = installed(wheel, tmp_path / "site")
    assert "plain Python codec" in codec(site)
    program = (
        "from ikeclient.esp.codec import choice as offload, plain as offload_plain\n"
        "assert offload.coalesce is offload_plain.coalesce\n"
        "import ikeclient.process.run\n"
        "print(offload.examine(bytes(10) + b'\\x45' + bytes(27), 38))\n"
    )
    assert run(sys.executable, "-c", program, cwd=site, PYTHONPATH=str(site)) == "(1, 28, 28, 0, False)\n"
