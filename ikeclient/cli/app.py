"""The command `ikeclient`: its commands, its global options and its one error handler.

This module and what it imports at load time decide how fast every command starts. Whatever is slow (cryptography,
netlink, profiles, asyncio, rich) is imported by the function that needs it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, TextIO

import typer
from typer.main import get_command

from ikeclient.cli import (
    block,
    completion,
    connect,
    doctor,
    events,
    execute,
    inside,
    metrics,
    notify,
    probe,
    profile,
    proxy,
    repair,
    report,
    secret,
    sleep,
    status,
    top,
    tunnels,
    version,
    watch,
)
from ikeclient.cli.context import LogFormat, settings
from ikeclient.cli.help import Command, Group
from ikeclient.cli.options import ChosenLogFormat, Verbose
from ikeclient.cli.view.progress import VARIABLE, tell_failure, use_format
from ikeclient.errors import READER_GONE, IkeclientError, Interrupted, UsageError, output_failed, shortage

# What typer raises for a command line it does not understand; it does not export the class itself.
_NotUnderstood: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="ikeclient",
    help="VPN access over IKEv2, entirely in userspace.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich would triple the time of --help
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_COMMANDS: tuple[tuple[str, Callable[..., None], str], ...] = (
    ("connect", connect.connect, "Connect to a VPN gateway."),
    ("up", connect.up, "The same as connect --detach."),
    ("exec", execute.execute, "Run a command whose only network is the tunnel."),
    ("proxy", proxy.proxy, "Offer the tunnel as a local SOCKS5 and HTTP proxy."),
    ("watch", watch.watch, "Connect and disconnect by network."),
    ("disconnect", tunnels.disconnect, "End a tunnel."),
    ("down", tunnels.disconnect, "The same as disconnect."),
    ("reconnect", tunnels.reconnect, "Make a tunnel connect anew."),
    ("suspend", sleep.suspend, "Say goodbye to gateways before the machine sleeps."),
    ("resume", sleep.resume, "Connect what was suspended again."),
    ("wait", tunnels.wait, "Wait until a tunnel is up, or gone."),
    ("repair", repair.repair, "Undo what tunnels left that died."),
    ("block", block.block, "Close the machine as a kill switch does."),
    ("unblock", block.unblock, "Open what a kill switch keeps closed."),
    ("status", status.status, "Show running tunnels (the default)."),
    ("top", top.top, "Show all tunnels as they go on: rates, round-trip time, drops."),
    ("events", events.events, "Show what happens to a tunnel."),
    ("notify", notify.notify, "Show on a desktop what happens to tunnels."),
    ("ping", inside.ping, "Ping a host through a tunnel."),
    ("resolve", inside.resolve, "Look names up with a tunnel's servers."),
    ("metrics", metrics.metrics, "Print what tunnels count, for Prometheus."),
)
for _name, _function, _about in _COMMANDS:
    app.command(_name, cls=execute.ExecCommand if _name == "exec" else Command, short_help=_about)(_function)
app.add_typer(profile.app, name="profile")
app.add_typer(secret.app, name="secret")
app.command("probe", cls=Command, short_help="Ask a gateway what it speaks.")(probe.probe)
app.command("doctor", cls=Command, short_help="Check what this machine can do.")(doctor.doctor)
app.command("report", cls=Command, short_help="Write a file for a report of a fault.")(report.report)
app.command("completion", cls=Command, short_help="Print a script for a shell to complete with.")(completion.completion)
app.command("version", cls=Command, short_help="Show the version.")(version.version)


@app.callback(invoke_without_command=True)
def _global_options(
    context: typer.Context,
    verbose: Verbose = 0,
    log_format: ChosenLogFormat = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """VPN access over IKEv2, entirely in userspace. Without a command: status."""
    settings.choose(verbosity=verbose, debug=debug, log_format=log_format)
    use_format(log_format)
    if show_version:
        version.version(as_json=False)
        raise typer.Exit
    if context.invoked_subcommand is None:
        status.status()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Nothing but SystemExit ever leaves this function."""
    settings.reset()
    settings.write(LogFormat.JSON if os.environ.get(VARIABLE) == LogFormat.JSON else LogFormat.TEXT)
    if instruction := os.environ.get(completion.VARIABLE):
        return _complete(instruction)
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
    except BrokenPipeError:
        code = READER_GONE
    except OSError as error:
        failure = output_failed(error) if _is_about_help(error) else _as_ours(error)
        tell_failure(failure)
        code = failure.exit_code
    except (Exception, KeyboardInterrupt) as error:
        failure = _as_ours(error)
        tell_failure(failure)
        code = failure.exit_code
    for stream in (sys.stdout, sys.stderr):
        _settle(stream)
    return code


def _complete(instruction: str) -> int:
    """Answer a shell. Whatever is wrong, it gets no answer, and the person no word in the middle of a line."""
    try:
        return completion.answer(get_command(app), instruction)
    except Exception:
        return 1


def _run(arguments: list[str]) -> int:
    try:
        with get_command(app).make_context("ikeclient", arguments) as context:
            context.command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    return 0


def _as_ours(error: BaseException) -> IkeclientError:
    """The error to show, whatever happened."""
    match error:
        case IkeclientError():
            return error
        case KeyboardInterrupt() | typer.Abort():
            return Interrupted("interrupted")
        case _NotUnderstood():
            message = str(getattr(error, "format_message", error.__str__)()).replace("Value error, ", "")
            path = getattr(getattr(error, "ctx", None), "command_path", "ikeclient")
            return UsageError(message[:1].lower() + message[1:], hint=f"try: {path} --help")
    if (lack := shortage(error)) is not None:
        return lack
    from ikeclient.cli.failure import unexpected

    return unexpected(error)


def _is_about_help(error: OSError) -> bool:
    """Whether typer could not write, which is its help; all other output is `emit`'s."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("typer.")


def _settle(stream: TextIO | None) -> None:
    """Flush; if nobody reads any more, keep the interpreter from failing over that when it flushes at exit."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
