"""Derive what the packages hold besides the tree: units, NetworkManager's plugin, manual page, copyright, changelog."""

from __future__ import annotations

import gzip
import os
import re
import sys
from email.parser import HeaderParser
from email.utils import formatdate
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # for what a release is made with
from release import tools  # noqa: E402
from release.wheels import PLATFORMS  # noqa: E402

LIBRARY = "libnm-vpn-plugin-ikeclient.so"
OVERRIDES = """\
# The libraries are upstream's wheels, file by file as published: compiled for several Pythons, side by side.
ikeclient: embedded-library
ikeclient: unstripped-binary-or-object [usr/lib/ikeclient/package/*]
ikeclient: unusual-interpreter python [usr/lib/ikeclient/package/pyroute2/*]
# It is loaded into programs that have what it needs.
ikeclient: shared-library-lacks-prerequisites [usr/lib/ikeclient/libnm-vpn-plugin-ikeclient.so]
# NetworkManager and desktops run them, not people.
ikeclient: no-manual-page [usr/bin/ikeclient-auth-dialog]
ikeclient: no-manual-page [usr/bin/ikeclient-networkmanager]
# Secrets of tunnels that run as services; systemd reads them as root.
ikeclient: non-standard-dir-perm 0700 != 0755 [etc/ikeclient/secrets/]
"""
COPYRIGHT = re.compile(r"^\W*(Copyright\b.*\d{4}.*)$", re.IGNORECASE | re.MULTILINE)


def main(tree: Path, stage: Path, version: str, epoch: int, platform: str) -> None:
    stage.mkdir(parents=True, exist_ok=True)
    plugin(stage, platform)
    for name in ("ikeclient@.service", "ikeclient-block@.service", "ikeclient-sleep.service"):
        (stage / name).write_text(unit((ROOT / "docs/systemd" / name).read_text()))
    (stage / "user").mkdir(exist_ok=True)
    for path in (ROOT / "docs/systemd-user").glob("*.service"):
        (stage / "user" / path.name).write_text(unit(path.read_text()))
    (stage / "ikeclient.1.gz").write_bytes(packed((ROOT / "docs/man/ikeclient.1").read_text()))
    (stage / "changelog.gz").write_bytes(packed(changelog(version, epoch)))
    (stage / "CHANGELOG.md.gz").write_bytes(packed((ROOT / "CHANGELOG.md").read_text()))
    (stage / "copyright").write_text(copyright_of(tree))
    (stage / "overrides").write_text(OVERRIDES)
    examples = stage / "examples"
    (examples / "profiles").mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "profiles").glob("*.toml"):
        (examples / "profiles" / path.name).write_text(path.read_text())
    for path in (ROOT / "docs/examples").glob("*.py"):
        (examples / path.name).write_text(path.read_text())
    (examples / "notify-reload.conf").write_text((ROOT / "docs/systemd/notify-reload.conf").read_text())
    for path in [stage, *stage.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch))


def plugin(stage: Path, platform: str) -> None:
    """The files of NetworkManager's plugin; its one library is cross-compiled by what compiles the wheels."""
    programs, library = Path("/usr/bin"), Path("/usr/lib/ikeclient") / LIBRARY
    data = ROOT / "ikeclient/networkmanager/data"
    for name in ("nm-ikeclient-service.name", "nm-ikeclient-service.conf"):
        text = (data / name).read_text()
        (stage / name).write_text(text.replace("@bin@", str(programs)).replace("@lib@", str(library.parent)))
    [target] = [each.target for each in PLATFORMS if platform in each.tag]
    words = ("-shared", "-fPIC", "-O2", "-g0", "-s", "-fvisibility=hidden")
    defined = f'-DPROGRAM="{programs / "ikeclient-networkmanager"}"'
    tools.run(
        *(tools.python(), "-m", "ziglang", "cc", "-target", target, *words, defined, "-o", stage / LIBRARY),
        f"{LIBRARY[:-3]}.c",
        cwd=data,
        env={**tools.environment(), "ZIG_GLOBAL_CACHE_DIR": str(tools.CACHE / "zig")},
    )


def unit(text: str) -> str:
    """A unit for the program in /usr/bin, and without the words on how to install it."""
    lines = text.replace("/opt/ikeclient/bin/ikeclient", "/usr/bin/ikeclient").splitlines(keepends=True)
    lines = [line.replace("RequiresMountsFor=/opt /etc", "RequiresMountsFor=/usr /etc") for line in lines]
    made = "".join(lines)
    if "/opt" in made:
        raise SystemExit(f"a unit still names /opt:\n{made}")
    return made


def changelog(version: str, epoch: int) -> str:
    """What dpkg's tools want to read."""
    text = "  * CHANGELOG.md.gz beside this file tells what changed."
    trailer = f" -- The ikeclient developers <ikeclient@localhost.invalid>  {formatdate(epoch)}"
    return f"ikeclient ({version}) unstable; urgency=medium\n\n{text}\n\n{trailer}\n"


def copyright_of(tree: Path) -> str:
    """The licences of all that the tree holds, from the metadata of each and the files beside it."""
    text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: ikeclient\n"
    text += "Comment: ikeclient, and the libraries it is shipped with in /usr/lib/ikeclient. The whole text of each\n"
    text += " library's licence lies in its directory NAME.dist-info there.\n"
    for metadata in sorted(tree.glob("*.dist-info/METADATA")):
        about = HeaderParser().parsestr(metadata.read_text())
        kinds = [each.rpartition(" :: ")[2] for each in about.get_all("Classifier", []) if each.startswith("License")]
        licence = about["License-Expression"] or about["License"] or ", ".join(kinds)
        if not licence:
            raise SystemExit(f"{metadata} names no licence")
        text += f"\nFiles: /usr/lib/ikeclient/package: {about['Name']} {about['Version']}\n"
        files = sorted(path for path in metadata.parent.rglob("*") if re.search("(?i)licen|copying", str(path.name)))
        found = [notice for path in files if path.is_file() for notice in COPYRIGHT.findall(path.read_text())]
        holders = found or [f"{about['Author'] or about['Author-email'] or 'the developers of ' + about['Name']}"]
        text += "Copyright: " + "\n ".join(dict.fromkeys(each.strip() for each in holders)) + "\n"
        text += f"License: {licence.splitlines()[0]}\n"
    return text + "\nThe Apache License 2.0 lies in /usr/share/common-licenses/Apache-2.0 on Debian.\n"


def packed(text: str) -> bytes:
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])
