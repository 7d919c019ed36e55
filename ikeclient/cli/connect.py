"""`connect`: a tunnel in this process, or with --detach in a child of it.

The process that becomes the tunnel has secrets read, before the event loop, and forks its helper before it loads what a
tunnel consists of.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
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
from ikeclient.errors import AuthenticationFailed, IkeclientError, UsageError
from ikeclient.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from ikeclient.process.detach import Prepared
    from ikeclient.process.helper.process import HelperProcess
    from ikeclient.process.profile_source import ProfileSource
    from ikeclient.profile.compiled import CompiledProfile
    from ikeclient.tunnel.commands import Ask
    from ikeclient.tunnel.options import ConnectOptions

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
    wanted = _Wanted(
        profile=profile,
        overrides=tuple(overrides or ()),
        password_stdin=password_stdin,
        timeout=timeout,
        keylog=keylog,
        metrics=told_at,
        retry_first=retry_first,
    )
    with progress.running():
        if dry_run:
            _plan(wanted, progress)
        elif detach:
            _run_detached(wanted, progress)
        else:
            _run(wanted, progress)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What the command line says of the tunnel."""

    profile: str | None
    overrides: tuple[str, ...]
    password_stdin: bool
    timeout: float
    keylog: Path | None
    metrics: tuple[str, int] | None
    retry_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """What a tunnel is run with."""

    profile: CompiledProfile
    options: ConnectOptions
    helper: HelperProcess


def compile_with_secrets(
    source: ProfileSource,
    password_stdin: bool,
    tell: Listener,
    *,
    check_running: bool,
    attended: bool,
    load: Callable[[], None],
) -> CompiledProfile:
    """Compile the profile with all its secrets; what is wrong is found before a password is asked for.

    `load` loads meanwhile what uses it, and `tell` gets the warnings.
    """
    from ikeclient.net.rights.privileges import forbid_core_dumps

    forbid_core_dumps()

    def read() -> CompiledProfile:
        return source.read(
            asker(),
            stdin=read_secret if password_stdin else None,
            before_secrets=_refuse_second if check_running else None,
            attended=attended,
        )

    compiled = source.read_apart(load, read)
    for warning in compiled.warnings:
        tell(happened("notice", compiled.name, text=warning))
    return compiled


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
    tell: Listener,
    source: ProfileSource,
    *,
    ask: Ask | None = None,
    metrics: tuple[str, int] | None = None,
    retry_first: bool = False,
) -> ConnectOptions:
    """Return how this run of the tunnel differs from others; where its keys go is said."""
    from ikeclient.tunnel.options import ConnectOptions

    if keylog is not None:
        text = f"the keys of this connection go to {keylog.absolute()}: whoever reads them can read the traffic"
        tell(happened("warning", compiled.name, text=text))
    return ConnectOptions(
        name=compiled.name,
        timeout=timeout,
        keylog=None if keylog is None else keylog.absolute(),
        runtime_directory=client.runtime_directory(),
        verbosity=settings.verbosity,
        reread=source.read,
        ask=ask,
        metrics=metrics,
        retry_first=retry_first,
    )


def _prepared(wanted: _Wanted, source: ProfileSource, tell: Listener, ask: Ask | None = None) -> _Ready:
    """Have the profile read, and load what a tunnel consists of meanwhile, its helper before everything else."""
    helpers: list[HelperProcess] = []

    def load() -> None:
        from ikeclient.process.helper.process import HelperProcess

        helpers.append(HelperProcess(source.read, source))
        _load()

    try:
        attended = ask is not None
        compiled = compile_with_secrets(
            source, wanted.password_stdin, tell, check_running=True, attended=attended, load=load
        )
        if not helpers:  # something was too short for two things at once: alone it works, or can be told
            load()
        options = connect_options(
            compiled,
            wanted.timeout,
            wanted.keylog,
            tell,
            source,
            ask=ask,
            metrics=wanted.metrics,
            retry_first=wanted.retry_first,
        )
    except BaseException:
        for helper in helpers:
            helper.end()
        raise
    return _Ready(profile=compiled, options=options, helper=helpers[0])


def _run(wanted: _Wanted, progress: Progress) -> None:
    from ikeclient.process.profile_source import ProfileSource

    there = asker() is not None  # a person, for as long as the login takes
    source = ProfileSource(wanted.profile, wanted.overrides)
    ready = _prepared(wanted, source, progress, progress.ask if there else None)
    from ikeclient.process.bug_report import outline
    from ikeclient.process.log_file import log_to, open_log
    from ikeclient.process.run import run

    lines = open_log(ready.options.runtime_directory, ready.options.name)

    def show(event: dict[str, object]) -> None:
        lines.line(event_line(event))
        progress(event)
        if event.get("event") == "connected" and progress.live:
            tell(styled([("Ctrl-C disconnects", "dim")], sys.stderr))

    log_to(progress.log, settings.verbosity, kept=lines.log)
    try:
        with ready.helper:
            run(ready.profile, ready.options, show, ready.helper, None if settings.debug else outline)
    except IkeclientError as error:
        lines.log("error: " + " / ".join(map(printable, error.lines())))
        raise


def _run_detached(wanted: _Wanted, progress: Progress) -> None:
    from ikeclient.net.rights.privileges import forbid_core_dumps
    from ikeclient.profile.secrets.secrets import erase_variable

    told: list[Prepared] = []

    def prepared(ready: Prepared) -> None:
        told.append(ready)
        if ready.passphrases:
            forbid_core_dumps()
        if not ready.typed:  # else they may be read once more
            for name in ready.erased:
                erase_variable(os.fsdecode(name))

    try:
        _start_detached(wanted, progress, prepared)
    except IkeclientError as error:  # the other process's, of which the exit code tells the kind
        refused = error.exit_code == AuthenticationFailed.exit_code
        if not refused or asker() is None or wanted.password_stdin or not any(ready.typed for ready in told):
            raise
        progress.failed()
        tell_failure(error)  # what was typed may have been mistyped: once more, never twice
        _start_detached(wanted, progress, prepared, told[0].passphrases)


def _start_detached(
    wanted: _Wanted,
    progress: Progress,
    prepared: Callable[[Prepared], None],
    passphrases: Mapping[str, bytes] | None = None,
) -> None:
    """Have a child of this process read the profile, and become the tunnel; `passphrases` are known to be right."""
    from ikeclient.process.detach import Prepared, prepare_and_run_detached

    found: list[_Ready] = []

    def prepare(tell: Listener) -> Prepared:
        from ikeclient.process.profile_source import ProfileSource

        source = ProfileSource(wanted.profile, wanted.overrides, passphrases)
        try:
            found.append(_prepared(wanted, source, tell))
        except (IkeclientError, KeyboardInterrupt):
            raise
        except Exception as error:
            from ikeclient.cli.failure import unexpected

            raise unexpected(error) from None
        options = found[0].options
        return Prepared(
            log=options.runtime_directory / f"{options.name}.log",
            typed=source.typed,
            passphrases=source.passphrases if source.typed else {},  # else there is no second try
            erased=source.remembered().erased,
        )

    def work(listener: Listener) -> None:
        from ikeclient.process.run import run

        [ready] = found
        with ready.helper:
            run(ready.profile, ready.options, listener, ready.helper)

    prepare_and_run_detached(prepare, work, progress, event_line, settings.verbosity, prepared=prepared)


def _plan(wanted: _Wanted, progress: Progress) -> None:
    from ikeclient.process.profile_source import ProfileSource

    source = ProfileSource(wanted.profile, wanted.overrides)
    compiled = compile_with_secrets(
        source, wanted.password_stdin, progress, check_running=False, attended=False, load=_load
    )
    options = connect_options(compiled, wanted.timeout, wanted.keylog, progress, source, metrics=wanted.metrics)
    from ikeclient.process.log_file import log_to
    from ikeclient.process.run import plan

    log_to(progress.log, settings.verbosity)
    for line in plan(compiled, options, progress):
        emit(line)


def _load() -> None:
    """Load what a tunnel consists of, which takes less long than to read a profile."""
    from ikeclient.process.lean_asyncio import import_asyncio

    import_asyncio()
    import ikeclient.process.run  # noqa: F401
    from ikeclient.net.machine.requests import message_classes

    message_classes()
