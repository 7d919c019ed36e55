"""Help as people read it: what an option takes and its default, without the notation of the library.

Commands of every version of typer are made from these classes, and the papers are made from the same records.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ikeclient.cli.context import LogFormat
from ikeclient.cli.parameters import make_plain
from ikeclient.cli.view.progress import use_format
from ikeclient.cli.view.terminal import printable, width

_NARROWEST, _WIDEST = 16, 100  # columns of names at least, of lines at most

_TYPES = re.compile(r" ?<(?:str|int|float|path|list\[\w+\])>|(?<=\S) (?:TEXT|INTEGER|FLOAT|PATH)\b(?=$|\s*\.\.\.$)")
_NOTES = (
    (re.compile(r"\d+(?:\.\d+)?<=?x(?:<=?\d+(?:\.\d+)?)?|x<=?\d+(?:\.\d+)?"), ""),  # a range; what is outside is told
    (re.compile(r"\brequired\b"), ""),  # the usage says so
    (re.compile(r"default: \(([^()]*(?:\([^()]*\)[^()]*)*)\)"), r"default: \1"),
)


def records(command: Any, context: Any) -> Iterator[tuple[bool, str, str]]:
    """Yield the parameters of a command: whether it is an argument, its names, and what it means."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None and parameter.param_type_name == "argument" and not getattr(parameter, "hidden", False):
            record = (parameter.make_metavar(), getattr(parameter, "help", None) or "")
        if record is not None:
            names, meaning = record
            argument = parameter.param_type_name == "argument"
            yield argument, _names(names, argument), _meaning(meaning)


def usage(pieces: Iterable[str]) -> list[str]:
    """Return the pieces of a usage line without braces and doubled brackets."""
    plain = (re.sub(r"^\{(.*?)\}(?:\.\.\.)?$", r"\1", piece) for piece in pieces)
    return [re.sub(r"^\[\[(.*?)\]\](?:\.\.\.)?$", r"[\1]", piece) for piece in plain]


def _names(names: str, argument: bool) -> str:
    names = _TYPES.sub("", names)
    names = re.sub(
        r"<([\w|-]+)>", lambda choice: choice[1].replace("|", " | ") if "|" in choice[1] else choice[1], names
    )
    return names.strip("[]{}") if argument else names


def _meaning(text: str) -> str:
    """Return what a parameter means, with the notes in brackets at its end made shorter, or left out."""
    about, bracket, notes = text.rpartition("  [") if text.endswith("]") else (text, "", "")
    if not bracket:
        return text
    kept = []
    for note in notes.removesuffix("]").split("; "):
        for pattern, shorter in _NOTES:
            note = pattern.sub(shorter, note)
        if note.strip():
            kept.append(note.strip())
    return f"{about} [{'; '.join(kept)}]" if kept else about


class _Readable:
    """What commands and groups have in common."""

    def collect_usage_pieces(self, context: Any) -> list[str]:
        """Return what stands behind the name of the command."""
        return usage(super().collect_usage_pieces(context))  # type: ignore[misc]

    def get_help(self, ctx: Any) -> str:
        """Return the help, as wide as the terminal."""
        ctx.terminal_width = min(width(sys.stdout), _WIDEST) - 2
        return str(super().get_help(ctx))  # type: ignore[misc]

    def _write_records(self, context: Any, formatter: Any) -> None:
        found = list(records(self, context))
        for title, wanted in (("Arguments", True), ("Options", False)):
            if rows := [(names, meaning) for argument, names, meaning in found if argument is wanted]:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=max(formatter.width // 3, _NARROWEST))


_FORMAT = "--log-format"


class Command(_Readable, TyperCommand):
    """A command with readable help. Every one takes the global option --log-format, without words about it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        if not any(_FORMAT in parameter.opts for parameter in self.params):
            args = _without_format(ctx, args)
        make_plain(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options."""
        self._write_records(ctx, formatter)


class Group(_Readable, TyperGroup):
    """A command with commands, and with readable help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        make_plain(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options and commands."""
        self._write_records(ctx, formatter)
        self.format_commands(ctx, formatter)


def _without_format(ctx: Any, args: list[str]) -> list[str]:
    """Take --log-format from the options of a command, and write stderr as it says."""
    left: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            return [*left, word, *words]
        option, equals, value = word.partition("=")
        if option != _FORMAT:
            left.append(word)
            continue
        value = value if equals else next(words, "")
        try:
            use_format(LogFormat(value))
        except ValueError:
            raise typer.BadParameter(f"{_FORMAT} is text or json, not '{printable(value, 40)}'", ctx=ctx) from None
    return left
