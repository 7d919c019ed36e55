"""`secret`: passwords and keys in files of mode 0600, or in the desktop's keyring; never on a command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from ikeclient.cli.help import Command, Group
from ikeclient.cli.store import write_private
from ikeclient.cli.view.terminal import asker, emit, printable, read_secret, say
from ikeclient.errors import UsageError

SCHEMA = "ikeclient.secrets/1"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")

app = typer.Typer(help="Keep secrets that profiles refer to.", cls=Group, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What a profile calls it.")]
Keyring = Annotated[
    str | None,
    typer.Option("--keyring", metavar="ACCOUNT", help="In the desktop's keyring, for this user or identity."),
]


@app.callback(invoke_without_command=True)
def _without_command(context: typer.Context) -> None:
    """Keep secrets that profiles refer to. Without a command: list."""
    if context.invoked_subcommand is None:
        list_all()


@app.command("set", cls=Command)
def set_secret(
    name: Name,
    keyring: Keyring = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read it from the first line of standard input.")
    ] = False,
) -> None:
    """Store a secret; an older one of that name is replaced. It is asked for, or read from standard input."""
    path = _path(name)
    if not password_stdin and asker() is None:
        raise UsageError("no secret given", reason="there is no terminal to ask", hint="use --password-stdin")
    secret = read_secret()
    if keyring is not None:
        from ikeclient.profile.secrets.secrets import keyring_set

        keyring_set(name, keyring, secret)
        say(f'stored; a profile finds it with: password = {{ keyring = "{name}" }}')
        return
    write_private(path, secret.encode("utf-8", "surrogateescape"), force=True)
    say(f'stored; a profile finds it with: password = {{ file = "../secrets/{name}" }}')


@app.command("list", cls=Command)
def list_all(as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False) -> None:
    """List the names of the secrets in files. What they are is not read."""
    try:
        found = sorted(path for path in _directory().iterdir() if _NAME.fullmatch(path.name) and path.is_file())
    except FileNotFoundError:
        found = []
    except OSError as error:
        raise UsageError(f"cannot look into {printable(_directory())}", reason=error.strerror) from error
    if as_json:
        entries = [{"name": path.name, "path": str(path)} for path in found]
        emit(json.dumps({"schema": SCHEMA, "secrets": entries}))
        return
    for path in found:
        emit(path.name)
    if not found:
        say("there is no secret; `ikeclient secret set NAME` stores one")


@app.command(cls=Command)
def remove(name: Name, keyring: Keyring = None) -> None:
    """Remove a secret."""
    path = _path(name)
    if keyring is not None:
        from ikeclient.profile.secrets.secrets import keyring_remove

        keyring_remove(name, keyring)
        return
    try:
        path.unlink()
    except FileNotFoundError:
        raise UsageError(f"there is no secret '{name}'", hint="`ikeclient secret list` shows those there are") from None
    except OSError as error:
        raise UsageError(f"cannot remove {printable(path)}", reason=error.strerror) from error


def _directory() -> Path:
    from ikeclient.profile.load.lookup import user_directory

    return user_directory().parent / "secrets"


def _path(name: str) -> Path:
    if not _NAME.fullmatch(name):
        # The text is not quoted: it may be the secret itself.
        hint = "use up to 64 letters, digits and . _ @ + -, and give the secret when it is asked for"
        raise UsageError("that cannot be the name of a secret", hint=hint)
    return _directory() / name
