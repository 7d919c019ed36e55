"""`completion`: what a shell needs to complete our commands, options, profiles and tunnels.

The shell asks by running us with the variable `_IKECLIENT_COMPLETE`; typer knows how each shell wants its answer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from ikeclient.cli.view.terminal import emit

PROGRAM = "ikeclient"
VARIABLE = "_IKECLIENT_COMPLETE"


class Shell(StrEnum):
    """The shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell it is for.")]) -> None:
    """Print a script that lets a shell complete commands, options, profiles and tunnels.

    For bash: eval "$(ikeclient completion bash)" in ~/.bashrc.
    """
    emit(script(shell))


def script(shell: Shell) -> str:
    """Return what `shell` reads to complete our command line."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    return str(get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value))


def answer(command: Any, instruction: str) -> int:
    """Print what can stand at the place that the shell asks about; returns the exit code."""
    from typer.completion import completion_init, shell_complete  # type: ignore[attr-defined]

    completion_init()
    return int(shell_complete(command, {}, PROGRAM, VARIABLE, instruction))
