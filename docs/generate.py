"""Make the parts of the papers that follow from the program, in place: `scripts/docs`.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. The profile's keys come from the JSON
Schema, the options of a command from the command line itself, what `status` and `events` tell (and the schemas of it)
from the definitions in `control`. `python docs/generate.py rows` lists the tests that cite a row of hardening.md.
"""

from __future__ import annotations

import ast
import html
import json
import re
import runpy
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from typer.main import get_command

from ikeclient.cli.app import app
from ikeclient.cli.completion import Shell, script
from ikeclient.cli.help import records
from ikeclient.control.events import EVENTS
from ikeclient.control.metrics import METRICS
from ikeclient.control.schemas import schemas
from ikeclient.control.status import TunnelStatus
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF
from ikeclient.profile.model.proposals import DEFAULT_ESP, DEFAULT_IKE, REFUSED
from ikeclient.profile.model.schema import json_schema
from ikeclient.tunnel.state import REPORTED, TRANSITIONS, State

DOCS = Path(__file__).resolve().parent
SCHEMAS = DOCS.parent / "ikeclient" / "schemas"
_PART = re.compile(r"(<!-- generated: (?P<name>[\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


# Called as each shell looks for them.
_COMPLETION = {"ikeclient": Shell.BASH, "_ikeclient": Shell.ZSH, "ikeclient.fish": Shell.FISH}


def pages() -> dict[Path, str]:
    """Return every generated page and what it should say."""
    drawing = runpy.run_path(str(DOCS / "pictures" / "draw.py"))
    candidates = [DOCS.parent / "ARCHITECTURE.md", *sorted(DOCS.rglob("*.md"))]
    made = {page: text for page in candidates if _PART.search(text := page.read_text())}
    return {page: _PART.sub(_fill, text) for page, text in made.items()} | {
        DOCS / "picture.svg": picture(),
        **{DOCS / "pictures" / f"{name}.svg": drawing["drawn"](each) for name, each in drawing["PICTURES"].items()},
        DOCS / "man" / "ikeclient.1": manual(),
        **{DOCS / "completion" / name: script(shell) + "\n" for name, shell in _COMPLETION.items()},
        **{SCHEMAS / name: json.dumps(schema, indent=2) + "\n" for name, schema in schemas().items()},
    }


def _fill(part: re.Match[str]) -> str:
    kind, _, rest = part["name"].partition(" ")
    return part[1] + "\n".join(_PARTS[kind](rest)) + "\n" + part[3]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _keys(section: str) -> Iterator[str]:
    """Yield the table of a profile's keys: name, default, meaning."""
    schema = json.loads(json_schema())
    definition = schema["properties"][section]["$ref"].rpartition("/")[2]
    properties: dict[str, Any] = schema["$defs"][definition]["properties"]
    required = schema["$defs"][definition].get("required", [])
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
    yield f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}".rstrip()
    for paragraph in (command.help or "").split("\n\n"):
        yield from ("", *textwrap.wrap(" ".join(paragraph.split()), 120))
    if rows := [each for each in records(command, context) if not each[1].endswith("--help")]:
        yield from ("", "| | |", "|---|---|")
        for _, names, meaning in rows:
            yield f"| `{_cell(names)}` | {_cell(meaning)} |"


def manual() -> str:
    """Return the manual page, in the macros of man(7), with a section for every command."""
    command: Any = get_command(app)
    context = command.context_class(command, info_name="ikeclient")
    lines = [
        '.TH IKECLIENT 1 "" "ikeclient" "User Commands"',
        *(".SH NAME", r"ikeclient \- VPN access over IKEv2, entirely in userspace"),
        *(".SH SYNOPSIS", ".B ikeclient", _roff(" ".join(command.collect_usage_pieces(context)))),
        *(".SH DESCRIPTION", _roff(DESCRIPTION)),
        *(".SH OPTIONS", *_manual_records(command, context)),
        ".SH COMMANDS",
        *_manual_commands(command, context),
        ".SH EXIT STATUS",
        *(line for code, meaning in EXIT_CODES for line in (".TP", f".B {code}", _roff(meaning))),
        ".SH FILES",
        *(line for name, meaning in FILES for line in (".TP", f".I {_roff(name)}", _roff(meaning))),
    ]
    return "\n".join(lines) + "\n"


DESCRIPTION = (
    "A profile says how to connect: `ikeclient profile new NAME` writes one, `ikeclient profile import FILE` reads "
    "those of other clients. `ikeclient connect NAME` connects, in the foreground or with --detach; `ikeclient "
    "status` shows what runs. `exec` and `proxy` need no root."
)
EXIT_CODES = (
    ("0", "all went well"),
    ("1", "unexpected: a bug"),
    ("2", "the command line asks for something that cannot be done"),
    ("3", "not connected (`status --check`)"),
    ("4", "authentication failed"),
    ("5", "no response in time"),
    ("6", "the gateway refused the negotiation"),
    ("7", "the gateway's certificate or identity was rejected"),
    ("8", "no such tunnel is running"),
    ("9", "the profile is not valid"),
    ("10", "there is no such profile"),
    ("11", "a privilege or the TUN device is missing"),
    ("12", "setting up this machine failed and was rolled back"),
    ("130", "interrupted"),
)
FILES = (
    ("~/.config/ikeclient/profiles/NAME.toml", "a profile of the caller"),
    ("/etc/ikeclient/profiles/NAME.toml", "a profile of the machine"),
)


def _manual_commands(group: Any, parent: Any) -> Iterator[str]:
    """Yield the commands of a group, those inside groups after them."""
    for word, command in group.commands.items():
        context = command.context_class(command, info_name=word, parent=parent)
        if hasattr(command, "commands"):
            yield from _manual_commands(command, context)
            continue
        yield f".SS {_roff(' '.join((context.command_path, *command.collect_usage_pieces(context))))}"
        for number, paragraph in enumerate((command.help or "").split("\n\n")):
            yield from (*([".PP"] if number else []), _roff(" ".join(paragraph.split())))
        yield from _manual_records(command, context)


def _manual_records(command: Any, context: Any) -> Iterator[str]:
    for _, names, meaning in records(command, context):
        yield from (".TP", f".B {_roff(names)}", _roff(meaning))


def _roff(text: str) -> str:
    """Return text that troff shows as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    return "\\&" + escaped if escaped.startswith(".") else escaped


def picture() -> str:
    """Return picture.txt as SVG: `-|+` become lines, `<>^v` at their ends the heads of arrows, the rest is text."""
    rows = (DOCS / "picture.txt").read_text().splitlines()
    shapes: list[str] = []
    texts: list[str] = []
    for y, row in enumerate(rows):
        letters = list(row)
        for x, sign in enumerate(row):
            left, right, above, below = (_at(rows, x + dx, y + dy) for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)))
            across = sign in "-+v^" and (left in "-+<v^" or right in "-+>v^")
            head = sign in "<>" or (sign == "v" and above in "|+") or (sign == "^" and below in "|+")
            if not (across or head or sign in "|+"):
                continue
            letters[x] = " "
            if across:
                shapes.append(
                    _line(x if left in "-+<v^" else x + 0.5, y + 0.5, x + 1 if right in "-+>v^" else x + 0.5, y + 0.5)
                )
            if sign in "|+v^":
                shapes.append(
                    _line(x + 0.5, y if above in "|+v^" else y + 0.5, x + 0.5, y + 1 if below in "|+v^" else y + 0.5)
                )
            if head:
                shapes.append(_head(x + 0.5, y + 0.5, sign))
        for word in re.finditer(r"\S+(?: \S+)*", "".join(letters)):
            place = f'x="{word.start() * _WIDE}" y="{y * _HIGH + 12}" textLength="{len(word[0]) * _WIDE}"'
            texts.append(f"<text {place}>{html.escape(word[0])}</text>")
    width, height = max(map(len, rows)) * _WIDE + 16, len(rows) * _HIGH + 16
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -8 {width} {height}">
<rect x="-8" y="-8" width="100%" height="100%" fill="#fff"/>
<path d="{"".join(shapes)}" fill="#357" stroke="#357"/>
<g font-family="monospace" font-size="13" fill="#222">
{chr(10).join(texts)}
</g>
</svg>
"""


_WIDE, _HIGH = 8, 16  # of a character, in pixels


def _at(rows: list[str], x: int, y: int) -> str:
    return rows[y][x] if 0 <= y < len(rows) and 0 <= x < len(rows[y]) else " "


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f"M{x1 * _WIDE:g} {y1 * _HIGH:g}L{x2 * _WIDE:g} {y2 * _HIGH:g}"


def _head(x: float, y: float, sign: str) -> str:
    dx, dy = {"<": (-4, 0), ">": (4, 0), "^": (0, -4), "v": (0, 4)}[sign]
    x, y = x * _WIDE, y * _HIGH
    return f"M{x + dx:g} {y + dy:g}L{x - dx - dy:g} {y - dy + dx:g}L{x - dx + dy:g} {y - dy - dx:g}Z"


def commands() -> Iterator[str]:
    """Yield the path of every command that does something: `profile import`."""

    def below(command: Any, path: tuple[str, ...]) -> Iterator[str]:
        for name, child in command.commands.items():
            yield from below(child, (*path, name)) if hasattr(child, "commands") else (" ".join((*path, name)),)

    return below(get_command(app), ())


def _states(_: str) -> Iterator[str]:
    """Yield the tunnel's states: the word that `status` shows, and what leads to another state."""
    yield "| state | in `status` | what leads out of it |"
    yield "|---|---|---|"
    for state in State:
        ways = [
            f"{_plain(event)} → {_plain(after)}"
            for (before, event), after in TRANSITIONS.items()
            if before is state and after is not state
        ]
        yield f"| {_plain(state)} | {REPORTED[state] or 'as before'} | {', '.join(ways)} |"


def _plain(name: Enum) -> str:
    return name.name.lower().replace("_", " ")


def _algorithms(_: str) -> Iterator[str]:
    """Yield what proposals can name, the default proposals, and what cannot be named."""
    kinds: dict[str, Iterable[str]] = {
        "encryption": ENCRYPTION,
        "integrity": INTEGRITY,
        "PRF": PRF,
        "key exchange": KEY_EXCHANGE,
    }
    yield "| kind | keywords |"
    yield "|---|---|"
    for kind, names in kinds.items():
        yield f"| {kind} | {_words(names)} |"
    for key, default in (("crypto.ike", DEFAULT_IKE), ("crypto.esp", DEFAULT_ESP)):
        yield f"| default of `{key}` | {_words(default)} |"
    yield f"| refused, because RFC 8247 forbids or discourages them | {_words(REFUSED)} |"


def _dependencies(_: str) -> Iterator[str]:
    """Yield the packages that the program needs, with the reasons that pyproject.toml gives."""
    text = (DOCS.parent / "pyproject.toml").read_text()
    listed = text[text.index("\ndependencies = [") : text.index("[project.scripts]")]
    yield "| package | why |"
    yield "|---|---|"
    for name, why in re.findall(r'^    "([\w-]+)[^"]*",\s+# (.*)$', listed, re.MULTILINE):
        yield f"| {name} | {_cell(why)} |"


def _words(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def _rooms(_: str) -> Iterator[str]:
    """Yield a line for each package: the first sentence of its docstring."""
    package = DOCS.parent / "ikeclient"
    yield "| room | what is in it |"
    yield "|---|---|"
    for path in sorted(package.rglob("__init__.py"), key=lambda path: path.parent.parts):
        if path.parent != package:
            text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
            yield f"| `{path.parent.relative_to(package)}` | {_cell(re.split(r'(?<=[.])[ ]', text)[0].rstrip('.'))} |"


def _decisions(_: str) -> Iterator[str]:
    for page in sorted((DOCS / "decisions").glob("*.md")):
        if page.name != "README.md":
            yield f"- [{page.read_text().splitlines()[0].removeprefix('# ')}]({page.name})"


def _status(_: str) -> Iterator[str]:
    """Yield the table of the keys of a tunnel in `status --json`."""
    yield "| key | meaning |"
    yield "|---|---|"
    for path, about in TunnelStatus.reference():
        yield f"| `{path}` | {_cell(about)} |"


def _events(_: str) -> Iterator[str]:
    """Yield the table of the events."""
    yield "| event | further keys | when |"
    yield "|---|---|---|"
    for name, kind in EVENTS.items():
        keys = ", ".join(f"`{key}`" + (f" ({remark})" if remark else "") for key, remark in kind.keys.items())
        yield f"| `{name}` | {_cell(keys)} | {_cell(kind.when)} |"


def _metrics(_: str) -> Iterator[str]:
    """Yield the table of the metrics."""
    yield "| metric | kind | further labels | meaning |"
    yield "|---|---|---|---|"
    for name, metric in METRICS.items():
        yield f"| `{name}` | {metric.kind} | {_words(metric.labels)} | {_cell(metric.about)} |"


_PARTS: dict[str, Callable[[str], Iterator[str]]] = {
    "keys": _keys,
    "command": _command,
    "decisions": _decisions,
    "rooms": _rooms,
    "states": _states,
    "algorithms": _algorithms,
    "dependencies": _dependencies,
    "status": _status,
    "events": _events,
    "metrics": _metrics,
}


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
