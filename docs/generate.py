"""Make the parts of the papers that follow from the program, in place: `scripts/docs`.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. The profile's keys come from the JSON
Schema, the options of a command from the command line itself. `python docs/generate.py rows` lists the tests that cite
a row of hardening.md.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from ikeclient.cli.app import app
from ikeclient.profile.model.schema import json_schema

DOCS = Path(__file__).resolve().parent
_PART = re.compile(r"(<!-- generated: (?P<name>[\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def pages() -> dict[Path, str]:
    """Return every generated page and what it should say."""
    made = {page: text for page in sorted(DOCS.glob("*.md")) if _PART.search(text := page.read_text())}
    return {page: _PART.sub(_fill, text) for page, text in made.items()}


def _fill(part: re.Match[str]) -> str:
    kind, _, rest = part["name"].partition(" ")
    return part[1] + "\n".join(_PARTS[kind](rest)) + "\n" + part[3]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _keys(section: str) -> Iterator[str]:
    """Yield the table of a profile's keys: name, default, meaning."""
    schema = json.loads(json_schema())
    properties: dict[str, Any] = schema["$defs"][section.capitalize()]["properties"]
    required = schema["$defs"][section.capitalize()].get("required", [])
    yield "| key | default | meaning |"
    yield "|---|---|---|"
    for name, key in properties.items():
        default = "required" if name in required else _default(key)
        yield f"| `{section}.{name}` | {_cell(default)} | {_cell(key['description'])} |"


def _default(key: dict[str, Any]) -> str:
    match key.get("default"):
        case None:
            return ""
        case int(seconds) if "1h30m" in key.get("examples", ()) and not isinstance(seconds, bool):
            size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
            return f'`"{seconds // size}{unit}"`'
        case list(proposals) if len(json.dumps(proposals)) > 40:
            return "[Supported](supported.md)"
        case value:
            return f"`{json.dumps(value)}`"


def _command(path: str) -> Iterator[str]:
    """Yield what a command does and takes: usage, help, the table of its arguments and options."""
    command: Any = get_command(app)
    context = command.context_class(command, info_name="ikeclient")
    for word in path.split():
        command = command.commands[word]
        context = command.context_class(command, info_name=word, parent=context)
    yield f"    {context.command_path} {' '.join(_usage(command.collect_usage_pieces(context)))}".rstrip()
    for paragraph in (command.help or "").split("\n\n"):
        yield from ("", *textwrap.wrap(" ".join(paragraph.split()), 120))
    if rows := [record for parameter in command.params if (record := parameter.get_help_record(context))]:
        yield from ("", "| | |", "|---|---|")
        for names, meaning in rows:
            names = re.sub(r" <(?:str|list\[str\])>", "", names)
            meaning = re.sub(r"\s*\[required\]", "", meaning)
            yield f"| `{_cell(names)}` | {_cell(meaning)} |"


def _usage(pieces: list[str]) -> Iterator[str]:
    """Usage without the braces and the doubled brackets that some versions put around arguments."""
    for piece in pieces:
        yield re.sub(r"^\{(.*?)\}(?:\.\.\.)?$", r"\1", piece).replace("[[", "[").replace("]]", "]")


def commands() -> Iterator[str]:
    """Yield the path of every command that does something: `profile import`."""

    def below(command: Any, path: tuple[str, ...]) -> Iterator[str]:
        for name, child in command.commands.items():
            yield from below(child, (*path, name)) if hasattr(child, "commands") else (" ".join((*path, name)),)

    return below(get_command(app), ())


_PARTS: dict[str, Callable[[str], Iterator[str]]] = {"keys": _keys, "command": _command}


def citations() -> dict[str, set[str]]:
    """Return the rows of hardening.md that the tests cite, each with the files that do."""
    found: dict[str, set[str]] = {}
    for path in sorted((DOCS.parent / "tests").rglob("*.py")):
        for row in re.findall(r"\b[NKCESPOF][0-9]{1,2}\b", path.read_text()):
            found.setdefault(row, set()).add(path.name)
    return found


def rows() -> dict[str, str]:
    """Return the rows of hardening.md: what happens, by number."""
    text = (DOCS / "hardening.md").read_text()
    return dict(re.findall(r"^\| ([NKCESPOF]\d+) \|[^|\n]*\| (.*) \|$", text, re.MULTILINE))


if __name__ == "__main__":
    if sys.argv[1:] == ["rows"]:
        for row in rows():
            print(row, *sorted(citations().get(row, ())))
    else:
        for page, text in pages().items():
            page.write_text(text)
