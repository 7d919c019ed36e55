"""`version`: what is installed, for people and for bug reports."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from ikeclient import __version__
from ikeclient.cli.view.terminal import emit

SCHEMA = "ikeclient.version/1"
_DEPENDENCIES = ("cryptography", "netifaces-plus", "pydantic", "pyroute2", "python-pytun", "rich", "typer")


def version(as_json: Annotated[bool, typer.Option("--json", help="With Python and all dependencies.")] = False) -> None:
    """Show the version."""
    emit(json.dumps(details()) if as_json else f"ikeclient {__version__}")


def details() -> dict[str, object]:
    """The document of `version --json`; a dependency that is missing is null."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    found: dict[str, str | None] = {}
    for name in _DEPENDENCIES:
        try:
            found[name] = installed(name)
        except PackageNotFoundError:
            found[name] = None
    return {
        "schema": SCHEMA,
        "version": __version__,
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "dependencies": found,
    }
