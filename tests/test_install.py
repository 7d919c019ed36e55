"""Source distribution and wheels: with a compiler the codec is inside, without one everything works all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from release.sources import tracked

ROOT = Path(__file__).resolve().parent.parent
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
    wanted = ("setuptools>=77", "packaging>=24.2", "Cython>=3")  # setuptools does not name it, and needs it
    run(sys.executable, "-m", "pip", "-q", "install", "--target", str(directory), *wanted, cwd=directory)
    return directory


@pytest.fixture(scope="module")
def source(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution, made from a clean copy of the tree."""
    directory = tmp_path_factory.mktemp("source")
    copy = directory / "tree"
    for path in tracked():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy / path)
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


def test_the_source_distribution_has_every_file_of_the_repository(source: Path) -> None:
    missing = [str(path) for path in tracked() if not (source / path).is_file()]
    assert not missing, f"see MANIFEST.in: {missing[:10]}"
    assert len(tracked()) > 1000


def test_the_source_distribution_has_what_the_compiled_module_is_made_of(source: Path) -> None:
    assert {path.name for path in (source / "ikeclient/esp/codec").iterdir()} >= {"_offload.pyx", "_coalesce.pxi"}


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler here")
def test_a_wheel_built_with_a_compiler_carries_the_compiled_codec(tools: Path, source: Path, tmp_path: Path) -> None:
    wheel = call("build_wheel", tools, source, tmp_path / "dist")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("ikeclient/esp/codec/_offload.") and name.endswith(".so") for name in names)
    assert not any(name.endswith((".pyx", ".pxi", ".c")) for name in names if "/codec/" in name)
    assert "compiled codec" in codec(installed(wheel, tmp_path / "site"))


@pytest.fixture(scope="module")
def wheel(tools: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(call("build_wheel", tools, source, tmp_path_factory.mktemp("wheel")))


def test_both_carry_the_licence_profiles_and_what_systemd_needs(wheel: zipfile.ZipFile, source: Path) -> None:
    shipped = sorted(path.relative_to(ROOT) for path in (*ROOT.glob("docs/systemd/*"), *ROOT.glob("profiles/*.toml")))
    assert len(shipped) > 8
    names = wheel.namelist()
    for path in shipped:
        assert (source / path).read_bytes() == (ROOT / path).read_bytes()
        (name,) = (name for name in names if name.endswith(f".data/data/share/ikeclient/{path}"))
        assert wheel.read(name) == (ROOT / path).read_bytes()
    for path in (
        *("bash-completion/completions/ikeclient", "zsh/site-functions/_ikeclient"),
        "fish/vendor_completions.d/ikeclient.fish",
    ):
        (name,) = (name for name in names if name.endswith(f".data/data/share/{path}"))
        assert wheel.read(name) == (ROOT / "docs/completion" / Path(path).name).read_bytes()
    for path in ROOT.glob("ikeclient/schemas/*.json"):
        assert wheel.read(str(path.relative_to(ROOT))) == path.read_bytes()
    licence = (ROOT / "LICENSE").read_bytes()
    assert (source / "LICENSE").read_bytes() == licence
    assert [wheel.read(name) for name in names if name.endswith(".dist-info/licenses/LICENSE")] == [licence]


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler here")
def test_the_compiled_module_has_no_symbols_but_those_it_needs(wheel: zipfile.ZipFile) -> None:
    (module,) = (each for each in wheel.infolist() if each.filename.endswith(".so"))
    assert b".debug_info" not in wheel.read(module)
    assert b".symtab" not in wheel.read(module)
    assert module.file_size < 700_000


def test_only_x86_64_waits_for_python_pytun(wheel: zipfile.ZipFile) -> None:
    """It has no wheel elsewhere, and an installation must not need a compiler."""
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    lines = [line for line in wheel.read(metadata).decode().splitlines() if "python-pytun" in line]
    assert all("platform_machine" in line or "extra" in line for line in lines)
    assert any('platform_machine == "x86_64"' in line for line in lines)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root to become somebody else")
def test_a_tree_that_may_not_be_written_to_is_built(tools: Path, source: Path) -> None:
    """As in a container that mounts it read-only: by a user who can only read it."""
    place = Path(tempfile.mkdtemp(prefix="ikeclient-readonly-"))
    try:
        place.chmod(0o755)
        ignored = shutil.ignore_patterns("build", "*.so", "*.c", "*.egg-info")
        shutil.copytree(source, place / "tree", ignore=ignored)
        shutil.copytree(tools, place / "tools")
        for name in ("tree", "tools"):
            (place / name).chmod(0o755)
        (place / "dist").mkdir()
        os.chown(place / "dist", 65534, 65534)
        program = (
            "import sys; from setuptools import build_meta; where = sys.argv[1]\n"
            "print(build_meta.prepare_metadata_for_build_wheel(where))\n"
            "print(build_meta.build_wheel(where))\n"
        )
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3")
        words = (*nobody, "-c", program, str(place / "dist"))
        run(*words, cwd=place / "tree", PYTHONPATH=str(place / "tools"), HOME="/nonexistent")
        (made,) = (place / "dist").glob("*.whl")
        assert any(name.endswith("cli/app.py") for name in zipfile.ZipFile(made).namelist())
        assert not list(place.rglob("tree/**/*.so"))
        assert not (place / "tree/build").exists()
    finally:
        shutil.rmtree(place)


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
