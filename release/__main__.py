"""Make what is handed out, or try what was made.

    scripts/release [OUT]             everything: wheels, source, wheelhouse, list of parts, packages, sums
    scripts/release --wheels [OUT]    all but the packages of distributions and the image
    scripts/release --check [OUT]     try all that is in OUT, each in a clean root; make it again and compare

OUT is `dist` if left out. What was made from one commit is the same bit by bit, see docs/releasing.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from release import check, sbom, sources, wheelhouse, wheels
from release.tools import ROOT, ReleaseError, say

PACKAGES = ROOT / "scripts/packages/build"


def make_wheels(out: Path) -> None:
    """What needs no tool of a distribution."""
    sdist = sources.build(out)
    wheels.build(sdist, out)
    wheelhouse.build(out)
    sbom.build(out)
    sources.write_sums(out)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="scripts/release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--wheels", action="store_true", help="only what needs no tool of a distribution")
    what.add_argument("--check", action="store_true", help="try what is in OUT")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="with --check: these checks only")
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    out = options.out.absolute()
    try:
        if options.check:
            sys.exit(check.run(out, options.only))
        make_wheels(out)
        if not options.wheels and PACKAGES.exists():
            subprocess.run([str(PACKAGES), str(out)], check=True)
            sources.write_sums(out)
        say(f"all is in {out}")
    except (ReleaseError, subprocess.CalledProcessError) as error:
        sys.exit(f"not released: {error}")


if __name__ == "__main__":
    main()
