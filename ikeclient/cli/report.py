"""`report`: one file with what a report of a fault needs, and no secret."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ikeclient.cli import doctor
from ikeclient.cli.complete import profile_names
from ikeclient.cli.status import collect
from ikeclient.cli.store import write_file
from ikeclient.cli.version import details
from ikeclient.cli.view.terminal import emit, printable, say
from ikeclient.control import client
from ikeclient.control.events import timestamp
from ikeclient.errors import IkeclientError
from ikeclient.nofollow import open_regular

_WIDTH = 100  # columns of what is wrapped
_LONGEST = 256 * 1024  # bytes of the end of a log


def report(
    profile: Annotated[
        str | None,
        typer.Argument(
            metavar="PROFILE",
            help="The profile that it is about.",
            show_default="those of the tunnels that run or have left a log",
            autocompletion=profile_names,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="A new file.", show_default="ikeclient-report-TIME.txt"),
    ] = None,
) -> None:
    """Write a file for a report of a fault: versions, this machine, tunnels, profile without secrets, last log.

    It names hosts, addresses and users: read it before you send it.
    """
    path = Path(os.path.expanduser(output or f"ikeclient-report-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.txt"))
    text = "\n".join(f"== {title} ==\n\n{body.rstrip()}\n" for title, body in _sections(profile))
    data = text.encode("utf-8", "backslashreplace")
    write_file(path, data, force=False, mode=0o600, instead="--output names another")
    emit(printable(path.absolute()))
    say("it holds names and addresses, but no secret; read it before you send it")


def _sections(profile: str | None) -> Iterator[tuple[str, str]]:
    about = details()
    yield f"ikeclient {about['version']}, {timestamp()}", json.dumps(about, indent=1)
    yield "this machine", "\n".join(line for finding in doctor.findings() for line in doctor.plain(finding, _WIDTH))
    variables = sorted(name for name in os.environ if name.startswith("IKECLIENT_"))
    yield "variables that are set", " ".join(map(printable, variables)) or "none"
    yield "tunnels", _guarded(lambda: json.dumps([each.to_json() for each in collect(None)], indent=1))
    directory = client.runtime_directory()
    logs = _logs(directory)
    for name in [profile] if profile else sorted({path.stem for path in logs} | set(client.list_tunnels())):
        if name != "crash":
            yield f"profile {printable(name)}", _guarded(lambda name=name: _profile(name))  # type: ignore[misc]
    wanted = None if profile is None else Path(profile).stem
    for path in logs:
        if wanted is None or path.stem in (wanted, "crash"):
            yield f"log {printable(path)}", _tail(path)


def _logs(directory: Path) -> list[Path]:
    try:
        return sorted(directory.glob("*.log"))
    except OSError:
        return []


def _profile(name: str) -> str:
    from ikeclient.profile.load.load import load_profile
    from ikeclient.profile.model.toml_text import toml_lines
    from ikeclient.profile.present import redacted

    loaded = load_profile(name)
    warnings = [f"# warning: {printable(text)}" for text in loaded.warnings]
    return "\n".join([f"# {printable(loaded.path)}", *warnings, *toml_lines(redacted(loaded.profile))])


def _tail(path: Path) -> str:
    """Return the end of a log, harmless line by line."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LONGEST))
            return "\n".join(printable(line) for line in file.read().decode("utf-8", "replace").splitlines())
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _guarded(get: Callable[[], str]) -> str:
    """Return what `get` gives, or why it gives nothing: a report is made of what there is."""
    try:
        return get()
    except IkeclientError as error:
        return "\n".join(map(printable, error.lines()))
