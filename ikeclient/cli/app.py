"""The command `ikeclient`: its commands, its global options and its one error handler.

This module and what it imports at load time decide how fast every command starts, and the processes of a tunnel keep
it in memory. So each command is imported when it is asked for, and whatever is slow (cryptography, netlink, profiles,
asyncio, rich) by the function that needs it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, TextIO

import typer
from typer.main import get_command, get_group

from ikeclient.cli import completion
from ikeclient.cli.context import LogFormat, settings
from ikeclient.cli.help import Command, Group
from ikeclient.cli.options import ChosenLogFormat, Verbose
from ikeclient.cli.view.progress import VARIABLE, tell_failure, use_format
from ikeclient.errors import READER_GONE, IkeclientError, Interrupted, UsageError, output_failed, shortage

# What typer raises for a command line it does not understand; it does not export the class itself.
_NotUnderstood: type[Exception] = typer.BadParameter.__mro__[2]

_COMMANDS = {  # by name: the module of `cli`, the function or group in it, and what it does; groups say that themselves
    "connect": ("connect", "connect", "Connect to a VPN gateway."),
    "up": ("connect", "up", "The same as connect --detach."),
    "exec": ("execute", "execute", "Run a command whose only network is the tunnel."),
    "proxy": ("proxy", "proxy", "Offer the tunnel as a local SOCKS5 and HTTP proxy."),
    "watch": ("watch", "watch", "Connect and disconnect by network."),
    "disconnect": ("tunnels", "disconnect", "End a tunnel."),
    "down": ("tunnels", "disconnect", "The same as disconnect."),
    "reconnect": ("tunnels", "reconnect", "Make a tunnel connect anew."),
    "suspend": ("sleep", "suspend", "Say goodbye to gateways before the machine sleeps."),
    "resume": ("sleep", "resume", "Connect what was suspended again."),
    "wait": ("tunnels", "wait", "Wait until a tunnel is up, or gone."),
    "repair": ("repair", "repair", "Undo what tunnels left that died."),
    "block": ("block", "block", "Close the machine as a kill switch does."),
    "unblock": ("block", "unblock", "Open what a kill switch keeps closed."),
    "status": ("status", "status", "Show running tunnels (the default)."),
    "top": ("top", "top", "Show all tunnels as they go on: rates, round-trip time, drops."),
    "events": ("events", "events", "Show what happens to a tunnel."),
    "notify": ("notify", "notify", "Show on a desktop what happens to tunnels."),
    "ping": ("inside", "ping", "Ping a host through a tunnel."),
    "resolve": ("inside", "resolve", "Look names up with a tunnel's servers."),
    "metrics": ("metrics", "metrics", "Print what tunnels count, for Prometheus."),
    "probe": ("probe", "probe", "Ask a gateway what it speaks."),
    "doctor": ("doctor", "doctor", "Check what this machine can do."),
    "report": ("report", "report", "Write a file for a report of a fault."),
    "completion": ("completion", "completion", "Print a script for a shell to complete with."),
    "version": ("version", "version", "Show the version."),
    "profile": ("profile", "app", ""),
    "secret": ("secret", "app", ""),
}


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


def _make(name: str) -> Any:
    """Import a command. Raises KeyError."""
    module_name, attribute, about = _COMMANDS[name]
    module = import_module(f"ikeclient.cli.{module_name}")
    found = getattr(module, attribute)
    holder = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name, cls=module.ExecCommand if name == "exec" else Command, short_help=about)(found)
    return get_group(holder).commands[name]


class _Program(Group):
    """The group of all commands."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.commands: Any = _Commands()


app = typer.Typer(
    name="ikeclient",
    help="VPN access over IKEv2, entirely in userspace.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich would triple the time of --help
    cls=_Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


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
        from ikeclient.cli.version import version

        version(as_json=False)
        raise typer.Exit
    if context.invoked_subcommand is None:
        from ikeclient.cli.status import status

        status()


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
            message = str(getattr(error, "format_message", error.__str__)())
            message = message.replace("Value error, ", "").replace("\n\t", " ")  # choices come a line each
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
