"""`profile import` and `profile export`: profiles from other clients and for them, through files and pipes."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ikeclient.cli.options import Overrides
from ikeclient.cli.store import write_file, write_private
from ikeclient.cli.view.terminal import Priority, asker, emit, printable, say, warn
from ikeclient.errors import IkeclientError, ProfileError, ProfileNotFound, UsageError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.formats import MAX_ARCHIVE, ExportFormat, ImportFormat, import_limit

if TYPE_CHECKING:
    from ikeclient.profile.importers.draft import Draft
    from ikeclient.profile.importers.read import Extras
    from ikeclient.profile.load.check import Check

IMPORT_SCHEMA = "ikeclient.import/1"


class ImportKind(StrEnum):
    """What can be imported."""

    AUTO = "auto"
    MOBILECONFIG = "mobileconfig"
    SSWAN = "sswan"
    SWANCTL = "swanctl"
    IPSEC = "ipsec"
    NETWORKMANAGER = "networkmanager"
    POWERSHELL = "powershell"
    PROFILEXML = "profilexml"
    PHONEBOOK = "phonebook"
    AZURE = "azure"
    MIKROTIK = "mikrotik"
    IKED = "iked"
    PKCS12 = "pkcs12"


@dataclass(slots=True, kw_only=True)
class _Outcome:
    """What an import did, for people or as JSON."""

    name: str
    target: str
    written: list[str] = field(default_factory=list)
    risks: Sequence[str] = ()
    warnings: list[str] = field(default_factory=list)

    def document(self, check: Check) -> dict[str, object]:
        """The JSON document."""
        error = check.error
        return {
            "schema": IMPORT_SCHEMA,
            "name": self.name,
            "ready": check.ready,
            "missing": list(check.missing),
            "error": error.lines() if error is not None else None,
            "written": self.written,
            "warnings": [
                *({"rank": "security", "text": text} for text in self.risks),
                *({"rank": "other", "text": text} for text in self.warnings),
            ],
        }


def import_profile(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, a directory, a zip, or - for standard input.")],
    name: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME", help="The profile's name, a path, or - for stdout.", show_default="its own"
        ),
    ] = None,
    kind: Annotated[ImportKind, typer.Option("--format", help="What the file is.")] = ImportKind.AUTO,
    connection: Annotated[
        str | None, typer.Option("--connection", metavar="NAME", help="Which one, where there are several.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="Who we are.")] = None,
    authorities: Annotated[
        list[str] | None, typer.Option("--ca", metavar="FILE", help="The gateway's authority; repeatable.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option("--p12", metavar="FILE", help="Our certificate and its key as PKCS#12.")
    ] = None,
    secrets: Annotated[
        str | None, typer.Option("--secrets", metavar="FILE", help="An ipsec.secrets file.", show_default=False)
    ] = None,
    gateway: Annotated[str | None, typer.Option("--gateway", metavar="HOST", help="The gateway's address.")] = None,
    check_only: Annotated[bool, typer.Option("--check", help="Write nothing; say what would be missing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The outcome as one JSON document.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Import a profile of another client. What cannot be carried over is said; secrets go to files of mode 0600.

    Ends with "ready: ikeclient connect NAME", or with "still missing: KEY, ..." and exit code 9.
    """
    from ikeclient.profile.importers.read import Extras

    if as_json and name == "-":
        raise UsageError("say --json or --as -, not both: each writes to standard output")
    extras = Extras(
        user=user,
        gateway=gateway,
        authorities=tuple(_read(each) for each in authorities or ()),
        bundle=None if bundle is None else _read(bundle),
        secrets=None if secrets is None else _read(secrets),
        ask=asker(),
    )
    try:
        outcome, check = _import(file, name, kind, connection, extras, check_only=check_only, force=force)
    except IkeclientError as error:
        if as_json:
            emit(json.dumps({"schema": IMPORT_SCHEMA, "ready": False, "error": error.lines()}))
        raise
    for text in outcome.risks:
        say(text, "bad", label="security: ", priority=Priority.WARNING)
    for text in (*outcome.warnings, *check.absent):
        warn(text)
    for path in outcome.written:
        say(f"wrote {path}")
    if as_json:
        emit(json.dumps(outcome.document(check)))
    _finish(check, outcome.target)


def _import(
    file: str,
    name: str | None,
    kind: ImportKind,
    connection: str | None,
    extras: Extras,
    *,
    check_only: bool,
    force: bool,
) -> tuple[_Outcome, Check]:
    """Read, write unless told otherwise, and check what was written."""
    from ikeclient.profile.importers.stage import staged
    from ikeclient.profile.load.check import check_profile
    from ikeclient.profile.load.environment import without_settings
    from ikeclient.profile.load.load import load_profile, parse_profile
    from ikeclient.profile.load.lookup import is_path
    from ikeclient.profile.model.problems import InvalidProfile

    source = None if file == "-" else Path(os.path.expanduser(file))
    shown = "standard input" if source is None else printable(source)
    data = None if source is not None and os.path.isdir(source) else _read(file)
    try:
        draft = _draft(data, source, kind, connection, extras)
        path = _target(draft.slug if name in (None, "-") else name or "")
        checked = parse_profile(draft.toml(path.stem), "the imported profile")
    except InvalidProfile as error:  # its lines are those of a profile that has not been written
        problem = error.problems[0]
        raise ProfileError(f"{shown}: key '{problem.key}' {problem.text}", hint=problem.hint) from None
    except ProfileError as error:
        raise ProfileError(f"{shown}: {error.message}", reason=error.reason, hint=error.hint) from None
    outcome = _Outcome(
        name=path.stem,
        target=_for_connect(file, extras) if check_only else str(path) if is_path(name or "") else path.stem,
        risks=draft.risks,
        warnings=[*draft.warnings, *checked.warnings],
    )
    plain = without_settings(os.environ)
    if name == "-" and not check_only:
        text, left_out = draft.toml_alone()
        outcome.warnings += left_out
        outcome.target = ""
        draft.leave_out()
        emit(text.rstrip("\n"))
    elif not check_only:
        outcome.written = _store(draft, path, draft.toml(path.stem), force)
        return outcome, check_profile(load_profile(str(path), environ=plain))
    with staged(draft, path.stem, environ=plain) as loaded:
        return outcome, check_profile(loaded)


def _for_connect(file: str, extras: Extras) -> str:
    """What `connect` would be given; empty if the file is not enough."""
    added = (extras.user, extras.gateway, extras.bundle, extras.secrets, *extras.authorities)
    return "" if any(each is not None for each in added) else file


def _draft(data: bytes | None, source: Path | None, kind: ImportKind, connection: str | None, extras: Extras) -> Draft:
    """Read what a file holds, or without `data` the directory `source`."""
    from ikeclient.profile.importers.read import read_directory, read_foreign

    chosen = None if kind is ImportKind.AUTO else ImportFormat(kind.value)
    if data is None:
        assert source is not None
        return read_directory(source, chosen, connection=connection, extras=extras)
    return read_foreign(data, chosen, connection=connection, source=source, extras=extras)


def _finish(check: Check, target: str) -> None:
    """Say how it stands; raises ProfileError, or ends with exit code 9, unless the profile is ready."""
    for text in check.warnings:
        warn(text)
    if check.error is not None:
        raise check.error
    if check.missing:
        say(", ".join(check.missing), "busy", label="still missing: ", priority=Priority.ERROR)
        raise typer.Exit(ProfileError.exit_code)
    command = f"ikeclient connect {shlex.quote(printable(target))}" if target not in ("", "-") else "nothing is missing"
    say(command, "good", label="ready: ")


def _read(file: str) -> bytes:
    from ikeclient.profile.load.files import FileFault, read_regular

    if file == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise UsageError("standard input is closed")
        return sys.stdin.buffer.read(MAX_ARCHIVE + 1)
    try:
        path = Path(os.path.expanduser(file))
        return read_regular(path, import_limit(path)).data
    except FileFault as fault:
        kind = ProfileNotFound if fault.missing else ProfileError
        raise kind(f"{printable(file)}: {fault.reason}", hint=fault.hint) from None


def _target(name: str) -> Path:
    """Where the profile goes: a path, or a name in the caller's own directory."""
    from ikeclient.profile.load.lookup import find_profile, is_path, user_directory

    path = find_profile(name if is_path(name) else f"./{name}.toml").path  # refuses what cannot be a name
    return path if is_path(name) else user_directory() / path.name


def _store(draft: Draft, path: Path, text: str, force: bool) -> list[str]:
    """The profile and what lies beside it, secrets first; nothing is written where something would be overwritten."""
    beside = [(path.with_name(f"{path.stem}.{item.suffix}"), item.data) for item in draft.attachments]
    if not force:
        for each in (path, *(other for other, _ in beside)):
            if os.path.lexists(each):
                raise UsageError(f"{printable(each)} is there already", hint="--force replaces it, --as names another")
    for other, data in (*beside, (path, text.encode())):
        write_private(other, data, force)
    return [str(other) for other, _ in (*beside, (path, b""))]


def export_profile(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A profile's name, or a path to one.")],
    kind: Annotated[ExportFormat, typer.Option("--format", help="What to write.")] = ExportFormat.TOML,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="A new file of mode 0600.", show_default="stdout")
    ] = "-",
    include_secrets: Annotated[
        bool, typer.Option("--include-secrets", help="Put passwords and private keys into it.")
    ] = False,
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Export a profile. Secrets stay out unless --include-secrets is said; what is lost on the way is said."""
    from ikeclient.profile.exporters.parts import Parts
    from ikeclient.profile.exporters.write import write_foreign
    from ikeclient.profile.load.load import load_profile

    parts = Parts(loaded=load_profile(profile, overrides or []), include_secrets=include_secrets, ask=asker())
    data = write_foreign(parts, kind)
    for warning in (*parts.loaded.warnings, *parts.warnings):
        warn(warning)
    if output == "-":
        emit(data.decode().rstrip("\n"))
        return
    path = Path(os.path.expanduser(output))
    write_file(path, data, force=force, mode=0o600)
    say(f"wrote {path}")
