"""The source distribution, and the sums of all that was made."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
from pathlib import Path

from release import tools
from release.tools import ROOT, ReleaseError, run, say

SUMS = "SHA256SUMS"
_HOOK = (
    "import sys; sys.modules['Cython'] = None\n"  # without it setup.py asks for no compiler
    "from setuptools import build_meta; print(build_meta.{hook}(sys.argv[1]))"
)
_MADE = {
    ".venv",
    "dist",
    "build",
    "fuzz-crashes",
    "ikeclient.egg-info",
    "PKG-INFO",
    "setup.cfg",
}  # at the top of a tree


def hook(name: str, tree: Path, out: Path) -> Path:
    """One hook of the build backend (PEP 517) on a tree; what it made."""
    printed = run(tools.python(), "-c", _HOOK.format(hook=name), out, cwd=tree, env=tools.environment())
    return out / printed.splitlines()[-1]


def tracked() -> list[Path]:
    """The files of this tree that belong to it, as paths below its root."""
    if (ROOT / ".git").exists():
        listed = run("git", "-C", ROOT, "ls-files", "-z").split("\0")
        return [Path(name) for name in listed if name and (ROOT / name).exists()]
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [path for path in found if path.parts[0] not in _MADE and "__pycache__" not in path.parts]


def build(out: Path) -> Path:
    """The source distribution in `out`; `out` is emptied of an earlier release."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():
        if not old.name.startswith("ikeclient") and old.name not in (SUMS, "wheelhouse", "requirements.txt"):
            raise ReleaseError(f"{out} has {old.name}, which is no part of a release: name an empty directory")
    shutil.rmtree(out)
    out.mkdir()
    with tools.scratch("sources") as directory:
        tree = Path(directory) / "tree"
        for path in tracked():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, tree / path)
        made = hook("build_sdist", tree, Path(directory))
        target = out / made.name
        target.write_bytes(canonical(made, tools.commit_time()))
    say(f"made {target.name}")
    return target


def canonical(archive: Path, when: int) -> bytes:
    """The same files in order, of nobody, and of one time."""
    packed = io.BytesIO()
    with (
        tarfile.open(archive) as source,
        gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=when) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as target,
    ):
        for member in sorted(source.getmembers(), key=lambda each: each.name):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = when
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            target.addfile(member, source.extractfile(member) if member.isfile() else None)
    return packed.getvalue()


def find(out: Path) -> Path:
    """The source distribution in a release; images of containers have names like its own."""
    found = [path for path in out.glob("ikeclient-*.tar.gz") if path.name.count("-") == 1]
    if len(found) != 1:
        raise ReleaseError(f"{out} has {len(found)} source distributions: make one with scripts/release")
    return found[0]


def unpack(sdist: Path, directory: Path) -> Path:
    """The tree that a source distribution unpacks to."""
    with tarfile.open(sdist) as archive:
        archive.extractall(directory)  # our own
    return directory / sdist.name.removesuffix(".tar.gz")


def write_sums(out: Path) -> None:
    """SHA256SUMS of every file, for `sha256sum -c`."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != SUMS)
    lines = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out)}\n" for path in files)
    (out / SUMS).write_text("".join(lines))
