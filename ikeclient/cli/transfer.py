"""`profile import` and `profile export`: profiles from other clients and for them, through files and pipes."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ikeclient.cli.options import Overrides
from ikeclient.cli.store import write_private
from ikeclient.cli.terminal import asker, emit, printable, tell, warn
from ikeclient.errors import ProfileError, ProfileNotFound, UsageError

if TYPE_CHECKING:
    from ikeclient.profile.importers.draft import Draft


class ImportKind(StrEnum):
    """What can be imported."""

    AUTO = "auto"
    MOBILECONFIG = "mobileconfig"
    SSWAN = "sswan"
    SWANCTL = "swanctl"
    IPSEC = "ipsec"


class ExportKind(StrEnum):
    """What can be exported."""

    TOML = "toml"
    MOBILECONFIG = "mobileconfig"
    SSWAN = "sswan"
    SWANCTL = "swanctl"


def import_profile(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file, or - for standard input.")],
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
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Import a profile of another client. What cannot be carried over is said; secrets go to files of mode 0600."""
    from ikeclient.profile.importers.read import Kind, read_foreign
    from ikeclient.profile.load import parse_profile

    data = _read(file)
    source = None if file == "-" else Path(file).expanduser()
    chosen = None if kind is ImportKind.AUTO else Kind(kind.value)
    shown = "standard input" if source is None else printable(source)
    try:
        draft = read_foreign(data, chosen, connection=connection, source=source)
        if name == "-":
            text, left_out = draft.toml_alone()
            checked = parse_profile(text, "the imported profile")
        else:
            path = _target(name or draft.slug)
            text, left_out = draft.toml(path.stem), []
            checked = parse_profile(text, "the imported profile")
    except ProfileError as error:
        raise ProfileError(f"{shown}: {error.message}", reason=error.reason, hint=error.hint) from None
    for warning in (*draft.warnings, *checked.warnings, *left_out):
        warn(warning)
    if name == "-":
        emit(text.rstrip("\n"))
    else:
        _store(draft, path, text, force)


def _read(file: str) -> bytes:
    from ikeclient.profile.files import FileFault, read_regular
    from ikeclient.profile.importers.draft import MAX_LENGTH

    if file == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise UsageError("standard input is closed")
        return sys.stdin.buffer.read(MAX_LENGTH + 1)
    try:
        return read_regular(Path(file).expanduser(), MAX_LENGTH).data
    except FileFault as fault:
        kind = ProfileNotFound if fault.missing else ProfileError
        raise kind(f"{printable(file)}: {fault.reason}", hint=fault.hint) from None


def _target(name: str) -> Path:
    """Where the profile goes: a path, or a name in the caller's own directory."""
    from ikeclient.profile.lookup import find_profile, is_path, user_directory

    path = find_profile(name if is_path(name) else f"./{name}.toml").path  # refuses what cannot be a name
    return path if is_path(name) else user_directory() / path.name


def _store(draft: Draft, path: Path, text: str, force: bool) -> None:
    """The profile and what lies beside it, secrets first; nothing is written where something would be overwritten."""
    beside = [(path.with_name(f"{path.stem}.{item.suffix}"), item.data) for item in draft.attachments]
    if not force:
        for each in (path, *(other for other, _ in beside)):
            if os.path.lexists(each):
                raise UsageError(f"{printable(each)} is there already", hint="--force replaces it, --as names another")
    for other, data in beside:
        write_private(other, data, force)
        tell(f"wrote {printable(other)}")
    write_private(path, text.encode(), force)
    tell(f"wrote {printable(path)}")


def export_profile(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A profile's name, or a path to one.")],
    kind: Annotated[ExportKind, typer.Option("--format", help="What to write.")] = ExportKind.TOML,
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
    from ikeclient.profile.exporters.write import Format, write_foreign
    from ikeclient.profile.load import load_profile

    parts = Parts(loaded=load_profile(profile, overrides or []), include_secrets=include_secrets, ask=asker())
    data = write_foreign(parts, Format(kind.value))
    for warning in (*parts.loaded.warnings, *parts.warnings):
        warn(warning)
    if output == "-":
        emit(data.decode().rstrip("\n"))
        return
    path = Path(output).expanduser()
    write_private(path, data, force)
    tell(f"wrote {printable(path)}")
