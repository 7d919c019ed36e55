"""The wheels: one for each platform and every Python from 3.11 on, and one without the compiled module for the rest.

The compiled module keeps to Python's stable ABI, so that nothing has to be built for each version. It is cross-compiled
by `zig cc`, which brings the headers of every C library and architecture: the symbols of glibc are those of 2.17. All
wheels are the plain one with the module put in, so that they agree in everything else.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

from release import sources, tools
from release.tools import run, say

MODULE = "ikeclient/esp/codec/_offload"
ABI = "0x030b0000"  # Python 3.11, the first whose stable ABI has the buffer protocol
FLAGS = (
    *("-O3", "-mllvm", "-inline-threshold=1000"),  # left to itself, clang calls what every packet needs several times
    *("-g0", "-s", "-shared", "-fPIC", "-fwrapv", "-DNDEBUG", f"-DPy_LIMITED_API={ABI}"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Where a wheel runs: what `zig cc` and what pip calls it."""

    target: str
    tag: str
    machine: str
    loader: str  # of its C library, below the root directory


PLATFORMS = (
    Platform(
        target="x86_64-linux-gnu.2.17",
        tag="manylinux_2_17_x86_64.manylinux2014_x86_64",
        machine="x86_64",
        loader="lib64/ld-linux-x86-64.so.2",
    ),
    Platform(
        target="aarch64-linux-gnu.2.17",
        tag="manylinux_2_17_aarch64.manylinux2014_aarch64",
        machine="aarch64",
        loader="lib/ld-linux-aarch64.so.1",
    ),
    Platform(
        target="x86_64-linux-musl", tag="musllinux_1_2_x86_64", machine="x86_64", loader="lib/ld-musl-x86_64.so.1"
    ),
    Platform(
        target="aarch64-linux-musl", tag="musllinux_1_2_aarch64", machine="aarch64", loader="lib/ld-musl-aarch64.so.1"
    ),
)


def build(sdist: Path, out: Path, platforms: tuple[Platform, ...] = PLATFORMS) -> list[Path]:
    """Every wheel, from a source distribution."""
    made = []
    with tools.scratch("wheels") as directory:
        place = Path(directory)
        tree = sources.unpack(sdist, place)
        plain = sources.hook("build_wheel", tree, place)
        version = plain.name.split("-")[1]
        contents = read(plain)
        made.append(write(out / f"ikeclient-{version}-py3-none-any.whl", contents, "py3-none-any", pure=True))
        run(tools.python(), "-m", "cython", "-3", f"{MODULE}.pyx", "-o", place / "_offload.c", cwd=tree)
        headers = _headers(place)
        digest = re.search(r'^SOURCES = "([0-9a-f]+)"', (tree / "ikeclient/esp/codec/choice.py").read_text(), re.M)
        assert digest is not None
        for platform in platforms:
            module = place / f"{platform.target}.so"
            words = (*FLAGS, f'-DOFFLOAD_SOURCES="{digest[1]}"', "-I", headers.name)
            run(
                *(tools.python(), "-m", "ziglang", "cc", "-target", platform.target, *words),
                *("_offload.c", "-o", module, "-ldl"),
                cwd=place,
                env={**tools.environment(), "ZIG_GLOBAL_CACHE_DIR": str(tools.CACHE / "zig")},
            )
            tag = f"cp311-abi3-{platform.tag}"
            inside = {**contents, f"{MODULE}.abi3.so": module.read_bytes()}
            made.append(write(out / f"ikeclient-{version}-{tag}.whl", inside, tag, pure=False))
    return made


def read(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel by their names."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def _headers(place: Path) -> Path:
    """Python's headers for any machine of 64 bits: this one's, without Debian's directories for each."""
    own = place / "python"
    include = Path(sysconfig.get_paths()["include"])
    shutil.copytree(include, own)
    multiarch = include.parent / str(sysconfig.get_config_var("MULTIARCH")) / include.name / "pyconfig.h"
    if multiarch.exists():
        shutil.copy(multiarch, own / "pyconfig.h")
    return own


def write(wheel: Path, contents: dict[str, bytes], tag: str, *, pure: bool) -> Path:
    """A wheel whose bytes depend on nothing but its contents and the time of the commit."""
    (record,) = (name for name in contents if name.endswith(".dist-info/RECORD"))
    information = record.removesuffix("RECORD")
    files = {name: data for name, data in contents.items() if name != record}
    interpreter, abi, platforms = tag.split("-")
    tags = "".join(f"Tag: {interpreter}-{abi}-{platform}\n" for platform in platforms.split("."))
    generator = "Generator: ikeclient-release\n"
    root = f"Root-Is-Purelib: {str(pure).lower()}\n"
    files[f"{information}WHEEL"] = f"Wheel-Version: 1.0\n{generator}{root}{tags}\n".encode()
    names = sorted(files, key=lambda name: (".dist-info/" in name, name))
    lines = []
    when = zip_time(tools.commit_time())
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in (*names, record):
            if name == record:
                data = ("".join(lines) + f"{record},,\n").encode()
            else:
                data = files[name]
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                lines.append(f"{name},sha256={digest},{len(data)}\n")
            entry = zipfile.ZipInfo(name, when)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            archive.writestr(entry, data)
    say(f"made {wheel.name}")
    return wheel


def zip_time(seconds: int) -> tuple[int, int, int, int, int, int]:
    """A time as zip archives have it, in UTC."""
    from datetime import UTC, datetime

    then = datetime.fromtimestamp(seconds, UTC)
    return then.year, then.month, then.day, then.hour, then.minute, then.second
