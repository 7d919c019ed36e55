"""Puts the plugin's files where NetworkManager and D-Bus look for them: the one place that knows these paths.

Packages call it with their root and prefix `/usr`. By hand the prefix is `/usr/local`; the descriptions go below /etc
then, where both programs look as well.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from ikeclient.errors import PlatformError

LIBRARY = "libnm-vpn-plugin-ikeclient.so"
_NAME, _POLICY = "nm-ikeclient-service.name", "nm-ikeclient-service.conf"
_COMPILERS = ("cc", "gcc", "clang")


def places(prefix: Path) -> dict[str, Path]:
    """Where each file goes, for programs and libraries below `prefix`."""
    packaged = prefix == Path("/usr")
    return {
        _NAME: Path("/usr/lib/NetworkManager/VPN" if packaged else "/etc/NetworkManager/VPN") / _NAME,
        _POLICY: Path("/usr/share/dbus-1/system.d" if packaged else "/etc/dbus-1/system.d") / _POLICY,
        LIBRARY: prefix / "lib" / "ikeclient" / LIBRARY,
    }


def install(root: Path, prefix: Path, programs: Path) -> list[Path]:
    """Write the files below `root`; `programs` is the directory that the plugin's programs are in at last.

    Returns the files. Without a C compiler the library for `nmcli connection import` is left out, and the line that
    names it. Raises PlatformError.
    """
    data = files("ikeclient.networkmanager") / "data"
    wanted = places(prefix)
    written = []
    try:
        if compile_library(root / wanted[LIBRARY].relative_to("/"), programs):
            written.append(wanted[LIBRARY])
        for name in (_NAME, _POLICY):
            text = (data / name).read_text(encoding="utf-8")
            text = text.replace("@bin@", str(programs)).replace("@lib@", str(wanted[LIBRARY].parent))
            if not written:
                text = text.replace(f"[libnm]\nplugin={wanted[LIBRARY]}\n\n", "")
            target = root / wanted[name].relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            target.chmod(0o644)
        written += [wanted[_NAME], wanted[_POLICY]]
    except OSError as error:
        raise PlatformError(f"cannot write {error.filename}", reason=error.strerror) from None
    return written


def compile_library(target: Path, programs: Path) -> bool:
    """Make the library that `nmcli connection import` loads; false without a C compiler. Raises PlatformError."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        return False
    source = files("ikeclient.networkmanager") / "data" / "libnm-vpn-plugin-ikeclient.c"
    target.parent.mkdir(parents=True, exist_ok=True)
    defined = f'-DPROGRAM="{programs / "ikeclient-networkmanager"}"'
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O2",
        "-s",
        "-fvisibility=hidden",
        defined,
        "-o",
        str(target),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a compiler, on our file
    if done.returncode:
        raise PlatformError(f"{compiler} cannot compile {source}", reason=done.stderr.strip()[:500])
    target.chmod(0o755)
    return True


def install_here(root: str, prefix: str, programs: str | None) -> int:
    """Install, and print where; returns the exit code."""
    own = Path(programs) if programs else Path(sys.argv[0]).resolve().parent
    try:
        written = install(Path(root), Path(prefix), own)
    except PlatformError as error:
        print("\n".join(error.lines()), file=sys.stderr)
        return error.exit_code
    for path in written:
        print(path)
    if not any(path.name == LIBRARY for path in written):
        print("no C compiler: `nmcli connection import` will not know the type ikeclient", file=sys.stderr)
    return 0
