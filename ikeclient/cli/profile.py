"""`profile`: list, show, check and start profiles. Only `export --include-secrets` reads a secret."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ikeclient.cli.complete import profile_names
from ikeclient.cli.help import Command, Group
from ikeclient.cli.options import Overrides
from ikeclient.cli.store import write_private
from ikeclient.cli.transfer import export_profile, import_profile
from ikeclient.cli.view.terminal import (
    ask_line,
    asker,
    emit,
    is_terminal,
    printable,
    say,
    styled,
    symbol,
    warn,
    width,
    wrapped,
)
from ikeclient.errors import IkeclientError, ProfileError, UsageError

SCHEMA = "ikeclient.profiles/1"
GATEWAY = "vpn.example.com"
_METHODS = (
    "psk, certificate, eap-mschapv2, eap-tls, eap-ttls, eap-peap, eap-gtc, eap-md5, eap-sim, eap-aka, eap-aka-prime "
    "or eap."
)
_ROUTES = "split or full."

app = typer.Typer(help="List, show, check, start, import and export profiles.", cls=Group, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _without_command(context: typer.Context) -> None:
    """List, show, check, start, import and export profiles. Without a command: list."""
    if context.invoked_subcommand is None:
        list_all()


@app.command("list", cls=Command)
def list_all(as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False) -> None:
    """List the profiles that have a name."""
    found = [_described(name, path) for name, path in _entries()]
    if as_json:
        emit(json.dumps({"schema": SCHEMA, "profiles": found}))
        return
    if not found:
        say("there is no profile; `ikeclient profile new NAME` makes one")
        return
    rows = [
        tuple(
            printable(text) for text in (each["name"], each["method"] or "invalid", each["gateway"] or "", each["path"])
        )
        for each in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    columns = width(sys.stdout)
    if is_terminal(sys.stdout) and sum(widths) + 6 + max(len(row[3]) for row in rows) > columns:
        _list_below_each_other(rows, columns)
        return
    for row in rows:
        cells = [f"{text:<{room}}  " for text, room in zip(row, widths, strict=False)]
        style = "bad" if row[1] == "invalid" else ""
        segments = [(cells[0], "strong"), (cells[1], style), (cells[2], ""), (row[3], "dim")]
        emit(styled(segments, sys.stdout))


def _list_below_each_other(rows: Sequence[tuple[str, ...]], columns: int) -> None:
    """Show each profile in lines of its own, on a terminal that has no room for a table."""
    for name, method, gateway, path in rows:
        emit(styled([(name, "strong")], sys.stdout))
        for line in wrapped(f"{method}  {gateway}".rstrip(), columns - 2, cut=True):
            emit(styled([(f"  {line}", "bad" if method == "invalid" else "")], sys.stdout))
        emit(styled([(f"  {path}", "dim")], sys.stdout))  # whole, to be copied: the terminal breaks it


@app.command(cls=Command)
def show(
    profile: Annotated[
        str | None,
        typer.Argument(
            metavar="PROFILE",
            help="A profile's name, or a path to one.",
            show_default="IKECLIENT_PROFILE, or what the environment says",
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON instead of TOML.")] = False,
) -> None:
    """Show a profile with every default filled in. Where secrets come from is shown, what they are is not read."""
    from ikeclient.profile.load.load import load_profile
    from ikeclient.profile.model.toml_text import toml_lines
    from ikeclient.profile.present import redacted

    loaded = load_profile(profile, overrides or [])
    for warning in loaded.warnings:
        warn(warning)
    plain = redacted(loaded.profile)
    if as_json:
        emit(json.dumps(plain))
        return
    emit(f"# {printable(loaded.path)}")
    emit("\n".join(toml_lines(plain)))


@app.command(cls=Command)
def validate(
    profiles: Annotated[list[str], typer.Argument(metavar="PROFILE...", help="Names or paths.")],
    overrides: Overrides = None,
) -> None:
    """Check profiles as `connect` does before its first packet. Exits with 9 when there is a problem.

    Secrets that would be asked for, and those of commands, keyrings and variables, are not read.
    """
    broken: list[str] = []
    for reference in profiles:
        try:
            _validate(reference, overrides or [])
        except ProfileError as error:
            if len(profiles) == 1 and not hasattr(error, "problems"):
                raise
            broken.append(reference)
            for line in _problems(error):
                emit(printable(line))
    if broken:
        count = f"{len(broken)} of {len(profiles)} profiles are" if len(profiles) > 1 else "the profile is"
        raise ProfileError(f"{count} not valid")


@app.command(cls=Command)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new profile's name, a path, or - for stdout.")],
    method: Annotated[
        str | None, typer.Option("--method", metavar="METHOD", help=_METHODS, show_default="eap-mschapv2")
    ] = None,
    routes: Annotated[
        str | None, typer.Option("--routes", metavar="ROUTES", help=_ROUTES, show_default="split")
    ] = None,
    gateway: Annotated[
        str | None,
        typer.Option("--gateway", metavar="HOST", help="The gateway's host name or address.", show_default=GATEWAY),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option("--identity", metavar="NAME", help="How the gateway knows us.", show_default="alice@example.com"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a profile that exists.")] = False,
) -> None:
    """Write a commented profile to start from. On a terminal, what is not given is asked for."""
    from ikeclient.profile.load.load import parse_profile
    from ikeclient.profile.templates import CARD_IDENTITIES, IDENTITY, template

    path = None if name == "-" else _new_path(name)
    if path is not None and not force and os.path.lexists(path):
        raise UsageError(f"{printable(path)} is there already", hint="--force replaces it")
    asking = name != "-" and asker() is not None

    def choose(given: str | None, question: str, default: str) -> str:
        return given if given is not None else ask_line(question, default) if asking else default

    address = choose(gateway, "Gateway (host name or address)", GATEWAY)
    way = choose(method, f"Method ({_METHODS.rstrip('.')})", "eap-mschapv2")
    who = "Your permanent identity (digit, IMSI and realm)" if way in CARD_IDENTITIES else "How the gateway knows you"
    own = choose(identity, who, CARD_IDENTITIES.get(way, IDENTITY))
    chosen = choose(routes, f"Routes ({_ROUTES.rstrip('.')})", "split")
    text = template(way, chosen, name=path.stem if path else "work", address=address, identity=own)
    if path is None:
        emit(text.rstrip("\n"))
        return
    parse_profile(text, name=path.stem)  # a gateway that cannot be one is told now
    write_private(path, text.encode(), force)
    say(f"wrote {path}")


def _new_path(name: str) -> Path:
    """Return where a new profile goes; refuses what cannot be found by a name, or as a path."""
    from ikeclient.profile.load.lookup import find_profile, is_path, user_directory

    if is_path(name) and not name.endswith(".toml"):
        raise UsageError(
            f"'{printable(name)}' is neither a name nor the path of a profile",
            hint=f"a name has no slash, and a path ends in .toml: `ikeclient profile new {Path(name).name or 'work'}`",
        )
    path = find_profile(name if is_path(name) else f"./{name}.toml").path  # refuses what cannot be a name
    return path if is_path(name) else user_directory() / path.name


Existing = Annotated[
    str,
    typer.Argument(metavar="PROFILE", help="A profile's name, or a path to one.", autocompletion=profile_names),
]


@app.command(cls=Command)
def path(profile: Existing) -> None:
    """Print where a profile is."""
    emit(printable(_existing(profile)))


@app.command(cls=Command)
def edit(profile: Existing) -> None:
    """Open a profile in the editor (VISUAL or EDITOR), and check it afterwards. Exits with 9 if it is not valid."""
    import shlex
    import subprocess

    place = _existing(profile)
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    try:
        status = subprocess.run([*editor, str(place)], check=False).returncode  # noqa: S603 - the caller's own editor
    except OSError as error:
        hint = "set EDITOR to one that is installed"
        raise UsageError(f"cannot run {printable(editor[0])}: {error.strerror}", hint=hint) from None
    if status:
        raise UsageError(f"{printable(editor[0])} failed", reason=f"its exit status is {status}")
    from ikeclient.profile.load.load import load_profile

    load_profile(str(place), environ=_no_keys())
    say(f"{place} is valid")


@app.command(cls=Command)
def remove(profile: Existing) -> None:
    """Remove a profile. Secrets and certificates that it names stay."""
    place = _existing(profile)
    try:
        place.unlink()
    except OSError as error:
        raise UsageError(f"cannot remove {printable(place)}", reason=error.strerror) from error
    say(f"removed {place}")
    for beside in sorted(each for each in place.parent.glob(f"{place.stem}.*") if each != place):
        say(f"{beside} stays")


def _existing(profile: str) -> Path:
    from ikeclient.profile.load.lookup import find_profile, not_found

    found = find_profile(profile).path
    if not os.path.lexists(found):
        raise not_found(profile)
    return found


def _entries() -> list[tuple[str, Path]]:
    from ikeclient.profile.load.lookup import list_profiles

    return [(entry.name, entry.path) for entry in list_profiles()]


def _described(name: str, path: Path) -> dict[str, object]:
    from ikeclient.profile.load.load import load_profile

    try:
        profile = load_profile(str(path), environ=_no_keys()).profile
    except IkeclientError as error:
        return {"name": name, "path": str(path), "method": None, "gateway": None, "error": error.message}
    gateway = ", ".join(profile.gateway.address)
    return {"name": name, "path": str(path), "method": profile.auth.method, "gateway": gateway, "error": None}


def _no_keys() -> dict[str, str]:
    """The environment without variables that set keys: a list says what is in the files."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IKECLIENT_")}


def _validate(reference: str, overrides: Sequence[str]) -> None:
    from ikeclient.profile.load.check import check_profile
    from ikeclient.profile.load.load import load_profile

    loaded = load_profile(reference, overrides)
    for warning in loaded.warnings:
        warn(warning)
    check = check_profile(loaded)
    for warning in check.warnings:
        warn(warning)
    check.require()
    mark = symbol("\u2713", "+", sys.stdout)
    emit(styled([(f"{mark} ", "good"), (printable(loaded.path), ""), (" is valid", "dim")], sys.stdout))


def _problems(error: ProfileError) -> Iterator[str]:
    """Every problem of a profile; the error itself shows only the first."""
    problems = getattr(error, "problems", ())
    if not problems:
        yield from error.lines()
    for problem in problems:
        yield str(problem)
        if problem.hint:
            yield f"  {problem.hint}"


app.command("import", cls=Command)(import_profile)
app.command("export", cls=Command)(export_profile)
