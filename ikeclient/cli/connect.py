"""`connect`: a tunnel in this process, or with --detach in a child of it.

Secrets are read in this process, before the event loop and before a fork, and go from here straight to the tunnel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ikeclient.cli.complete import profile_names
from ikeclient.cli.context import settings
from ikeclient.cli.options import (
    ChosenLogFormat,
    Metrics,
    Overrides,
    PasswordStdin,
    RetryFirst,
    Timeout,
    Verbose,
    metrics_address,
)
from ikeclient.cli.view.progress import Progress, tell_failure, use_format
from ikeclient.cli.view.render import event_line
from ikeclient.cli.view.terminal import asker, emit, printable, read_secret, styled, tell
from ikeclient.control import client
from ikeclient.control.events import happened
from ikeclient.errors import AuthenticationFailed, IkeclientError, Interrupted, UsageError

if TYPE_CHECKING:
    from ikeclient.process.profile_source import ProfileSource
    from ikeclient.process.run import ConnectOptions
    from ikeclient.profile.compiled import CompiledProfile

Listener = Callable[[dict[str, object]], None]


Reference = Annotated[
    str | None,
    typer.Argument(
        metavar="PROFILE",
        help="A profile's name, a path to one, or any file that can be imported.",
        show_default="IKECLIENT_PROFILE, or what the environment says",
        autocompletion=profile_names,
    ),
]


def connect(
    profile: Reference = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when the tunnel is up; it keeps running.")
    ] = False,
    timeout: Timeout = 30.0,
    retry_first: RetryFirst = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Negotiate, then print every change as a command; change nothing.")
    ] = False,
    overrides: Overrides = None,
    password_stdin: PasswordStdin = False,
    keylog: Annotated[
        Path | None,
        typer.Option("--insecure-keylog", metavar="DIR", help="Write Wireshark keys to DIR.", show_default=False),
    ] = None,
    metrics: Metrics = None,
    log_format: ChosenLogFormat = None,
    verbose: Verbose = 0,
) -> None:
    """Connect to a VPN gateway. Ctrl-C disconnects."""
    if dry_run and retry_first:
        raise UsageError("say --dry-run or --retry-first, not both")
    if detach and dry_run:
        raise UsageError("say --detach or --dry-run, not both")
    told_at = metrics_address(metrics)
    settings.say_more(verbose)
    progress = Progress(use_format(log_format), settings.verbosity)
    from ikeclient.process.profile_source import ProfileSource

    source = ProfileSource(profile, overrides or [])
    there = asker() is not None and not detach and not dry_run  # a person, for as long as the login takes
    compiled = compile_with_secrets(source, password_stdin, progress, check_running=not dry_run, attended=there)
    options = connect_options(compiled, timeout, keylog, progress, source, attended=there)
    options = replace(options, metrics=told_at, retry_first=retry_first)
    try:
        if dry_run:
            _plan(compiled, options, progress)
        elif detach:
            try:
                _run_detached(compiled, options, progress)
            except IkeclientError as error:  # the other process's, of which the exit code tells the kind
                refused = error.exit_code == AuthenticationFailed.exit_code
                if not refused or asker() is None or password_stdin or not source.forget_typed():
                    raise
                progress.failed()
                tell_failure(error)  # what was typed may have been mistyped: once more, never twice
                again = compile_with_secrets(source, False, progress, check_running=True, attended=False)
                _run_detached(again, options, progress)
        else:
            _run(compiled, options, progress)
    except Interrupted as error:
        progress.failed()
        if progress.ended:  # Ctrl-C is how a tunnel in the foreground is meant to end
            raise typer.Exit(error.exit_code) from None
        raise
    except BaseException:
        progress.failed()
        raise


def up(
    profile: Reference = None,
    timeout: Timeout = 30.0,
    retry_first: RetryFirst = False,
    overrides: Overrides = None,
    password_stdin: PasswordStdin = False,
    metrics: Metrics = None,
    log_format: ChosenLogFormat = None,
    verbose: Verbose = 0,
) -> None:
    """Connect, and return when the tunnel is up: `connect --detach`."""
    connect(
        profile,
        detach=True,
        timeout=timeout,
        retry_first=retry_first,
        overrides=overrides,
        password_stdin=password_stdin,
        metrics=metrics,
        log_format=log_format,
        verbose=verbose,
    )


def compile_with_secrets(
    source: ProfileSource, password_stdin: bool, progress: Progress, *, check_running: bool, attended: bool
) -> CompiledProfile:
    """Compile the profile with all its secrets; what is wrong is found before a password is asked for."""
    from ikeclient.net.rights.privileges import forbid_core_dumps

    forbid_core_dumps()

    def read() -> CompiledProfile:
        return source.read(
            asker(),
            stdin=read_secret if password_stdin else None,
            before_secrets=_refuse_second if check_running else None,
            attended=attended,
        )

    compiled = source.read_apart(_load, read)
    for warning in compiled.warnings:
        progress(happened("notice", compiled.name, text=warning))
    return compiled


def _load() -> None:
    """Load what a tunnel consists of."""
    import ikeclient.process.run  # noqa: F401


def _refuse_second(name: str) -> None:
    found = client.find(name)
    if found is None:
        return
    directory, pid = found
    elsewhere = directory != client.runtime_directory()
    raise UsageError(
        f"tunnel '{name}' is already running" + (f" (pid {pid})" if pid else ""),
        reason=f"its control socket is in {directory}" if elsewhere else None,
        hint=f"`ikeclient status {name}` shows it, `ikeclient disconnect {name}` ends it",
    )


def connect_options(
    compiled: CompiledProfile,
    timeout: float,
    keylog: Path | None,
    progress: Progress,
    source: ProfileSource,
    *,
    attended: bool,
) -> ConnectOptions:
    """Return how this run of the tunnel differs from others; where its keys go is said."""
    from ikeclient.process.run import ConnectOptions

    if keylog is not None:
        text = f"the keys of this connection go to {keylog.absolute()}: whoever reads them can read the traffic"
        progress(happened("warning", compiled.name, text=text))
    return ConnectOptions(
        name=compiled.name,
        timeout=timeout,
        keylog=None if keylog is None else keylog.absolute(),
        runtime_directory=client.runtime_directory(),
        verbosity=settings.verbosity,
        reread=source.read,
        ask=progress.ask if attended else None,
    )


def _run(compiled: CompiledProfile, options: ConnectOptions, progress: Progress) -> None:
    from ikeclient.process.bug_report import outline
    from ikeclient.process.log_file import log_to, open_log
    from ikeclient.process.run import run

    lines = open_log(options.runtime_directory, options.name)

    def show(event: dict[str, object]) -> None:
        lines.line(event_line(event))
        progress(event)
        if event.get("event") == "connected" and progress.live:
            tell(styled([("Ctrl-C disconnects", "dim")], sys.stderr))

    log_to(progress.log, settings.verbosity, kept=lines.log)
    try:
        run(compiled, options, show, None if settings.debug else outline)
    except IkeclientError as error:
        lines.log("error: " + " / ".join(map(printable, error.lines())))
        raise


def _run_detached(compiled: CompiledProfile, options: ConnectOptions, progress: Progress) -> None:
    from ikeclient.process.detach import run_detached
    from ikeclient.process.run import run

    log = options.runtime_directory / f"{options.name}.log"
    run_detached(lambda listener: run(compiled, options, listener), progress, event_line, log, settings.verbosity)


def _plan(compiled: CompiledProfile, options: ConnectOptions, progress: Progress) -> None:
    from ikeclient.process.log_file import log_to
    from ikeclient.process.run import plan

    log_to(progress.log, settings.verbosity)
    for line in plan(compiled, options, progress):
        emit(line)
