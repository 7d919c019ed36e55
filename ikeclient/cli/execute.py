"""`exec`: a command whose only network is the tunnel, without root."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ikeclient.cli.complete import profile_names
from ikeclient.cli.context import settings
from ikeclient.cli.help import Command
from ikeclient.cli.options import ChosenLogFormat, Overrides, PasswordStdin, Timeout, Verbose
from ikeclient.cli.view.progress import Progress, display_of, use_format
from ikeclient.cli.view.terminal import asker, is_terminal, printable, read_secret, tell
from ikeclient.errors import NoNamespace

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells say it


Profile = Annotated[
    str,
    typer.Argument(
        metavar="[PROFILE]",
        help="A profile, or a tunnel that `exec` started; without one as with `connect`.",
        autocompletion=profile_names,
    ),
]


ViaProxy = Annotated[
    bool,
    typer.Option(
        "--via-proxy", help="Set proxy variables instead, without a namespace; who ignores them goes past the tunnel."
    ),
]


class ExecCommand(Command):
    """`exec`, whose PROFILE may be left out before the `--`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        if "--" in args:
            place = args.index("--")
            given, _, _ = self.make_parser(ctx).parse_args(args[:place])
            if not isinstance(given.get("profile"), str):
                args = [*args[:place], "", *args[place:]]
        return super().parse_args(ctx, args)


def execute(
    profile: Profile,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The command and its arguments.")],
    timeout: Timeout = 30.0,
    overrides: Overrides = None,
    password_stdin: PasswordStdin = False,
    via_proxy: ViaProxy = False,
    log_format: ChosenLogFormat = None,
    verbose: Verbose = 0,
) -> None:
    """Run a command whose only network is the tunnel. Needs no root.

    The tunnel is started for the command, or joined where `exec` has started it already, and ends with its last
    command. The exit status is the command's.
    """
    settings.say_more(verbose)
    problem = unusable(command[0])
    if problem:
        raise typer.Exit(problem)
    progress = Progress(use_format(log_format), settings.verbosity)
    quiet = not settings.verbosity and not settings.json_errors and not is_terminal(sys.stderr)

    def show(event: Mapping[str, object]) -> None:
        if not quiet:
            progress(event)

    from ikeclient.process.join_or_start import run
    from ikeclient.process.tunnel_request import TunnelRequest

    request = TunnelRequest(
        profile=profile or None,
        overrides=tuple(overrides or ()),
        timeout=timeout,
        ask=asker(),
        stdin=read_secret if password_stdin else None,
    )
    try:
        with progress.running():
            if via_proxy:
                from ikeclient.cli.exec_via_proxy import execute_via_proxy

                status = execute_via_proxy(request, command, progress, show)
            else:
                status = run(request, lambda: become(command), display_of(progress, show))
    except NoNamespace as error:
        error.try_also("`ikeclient proxy` and `exec --via-proxy` work without one")
        raise
    raise typer.Exit(status)


def unusable(program: str) -> int:
    """Return the exit status for a `program` that cannot be run, having said why; 0 if it seems that it can."""
    places = [program] if "/" in program else [os.path.join(part or ".", program) for part in os.get_exec_path()]
    there = [place for place in places if os.path.exists(place)]
    if any(os.path.isfile(place) and os.access(place, os.X_OK) for place in there):
        return 0
    tell(f"ikeclient: {printable(program)}: {'not executable' if there else 'command not found'}")
    return NOT_EXECUTABLE if there else NOT_FOUND


def become(command: list[str]) -> int:
    """Be the command from now on. Returns only when that fails: the exit status."""
    from ikeclient.process.stand_in import restore_signals

    restore_signals()
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except FileNotFoundError:
        tell(f"ikeclient: {printable(command[0])}: not found")
        return NOT_FOUND
    except OSError as error:
        tell(f"ikeclient: {printable(command[0])}: {error.strerror}")
        return NOT_EXECUTABLE
