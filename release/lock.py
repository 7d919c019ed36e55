"""The lock files, with every file's hash: what is shipped, what packages hold besides, and what builds them.

`requirements.txt`, `networkmanager.txt` (also the extra of that name) and `tools.txt`.

    python -m release.lock [--upgrade]    write them anew (scripts/lock)

One file is for every Python and every platform: a requirement that is not for all has a marker.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement

from release import tools
from release.tools import LOCK, PLUGIN, ROOT, TOOLS, run, say

_HEADER = "# Made by scripts/lock from {source}; what pip installs with --require-hashes.\n"
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """One requirement of a lock file."""

    name: str
    version: str
    marker: Marker | None
    hashes: tuple[str, ...]

    def applies(self, environment: Mapping[str, str]) -> bool:
        """Whether it is installed in such an environment."""
        return self.marker is None or self.marker.evaluate({**environment, "extra": ""})

    def text(self) -> str:
        """The requirement without its marker."""
        return " ".join((f"{self.name}=={self.version}", *(f"--hash={each}" for each in self.hashes))) + "\n"


def read(path: Path) -> list[Locked]:
    """The requirements of a lock file."""
    return list(parsed(path.read_text()))


def parsed(text: str) -> Iterator[Locked]:
    """The requirements in the text of a lock file."""
    lines = "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        requirement = Requirement(line.partition("--hash")[0].strip())
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        hashes = tuple(_HASH.findall(line))
        yield Locked(name=requirement.name, version=pin.version, marker=requirement.marker, hashes=hashes)


def write(*options: str) -> None:
    """The files anew."""
    uv = tools.resolver()
    locked = {"pyproject.toml": LOCK, "release/tools.in": TOOLS, "release/networkmanager.in": PLUGIN}
    for source, target in locked.items():
        run(
            *(uv, "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header", "--python-version"),
            *("3.11", "--only-binary", ":all:", *options, "--output-file", target, source),
            cwd=ROOT,
        )
        target.write_text(_HEADER.format(source=source) + target.read_text())
        say(f"wrote {target.relative_to(ROOT)}: {len(read(target))} packages")


if __name__ == "__main__":
    write(*sys.argv[1:])
