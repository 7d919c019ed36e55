"""The commands in the papers, read from there: each is one that the program takes as it is written.

What systemd's page says is run by `tests/lab/test_lab_systemd.py`, the containers' by `scripts/container-check`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from ikeclient.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/systemd/*.md"))]
GENERATED = {"commands.md"}  # made from the program itself
_BLOCK = re.compile(r"^```(?:sh|bash|)\n(.*?)^```|((?:^    \S.*\n)+)", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`((?:sudo (?:-E )?)?ikeclient [^`\n]+)`")
_START = re.compile(r"(?:^|[;|&(]\s*|\$\(|'|sudo (?:-E )?|[A-Z_]+=\S+ )ikeclient (?=[a-z-])")
_ENGINE = re.compile(
    r"(?:docker|podman) run(?: |\n)(?:[^\n]|\n    )*?\s(?:IMAGE|ikeclient)(?: (?P<command>[^\n]*))?$", re.MULTILINE
)


def commands(text: str) -> Iterator[str]:
    """Every command of ours in the blocks and between backticks, up to what ends a command in a shell."""
    pieces = [match[1] or match[2] for match in _BLOCK.finditer(text)] + [match[1] for match in _SPAN.finditer(text)]
    for piece in pieces:
        for line in piece.replace("\\\n", " ").splitlines():
            for match in _START.finditer(line.strip()):
                yield line.strip()[match.end() :].partition("`")[0]


def words(command: str) -> list[str]:
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[str] = []
    try:
        for word in lexer:
            if set(word) <= set("|;&<>()"):
                break
            found.append(word)
    except ValueError:  # the rest of a line that was quoted as a whole
        pass
    return found


def taken() -> list[tuple[str, str]]:
    pages = [page for page in PAGES if page.name not in GENERATED]
    return sorted({(page.name, command) for page in pages for command in commands(page.read_text())})


@pytest.mark.parametrize(("page", "command"), taken())
def test_every_command_is_taken_as_it_is_written(page: str, command: str) -> None:
    arguments = words(command)
    current = typer.main.get_command(app)
    while (inner := getattr(current, "commands", None)) is not None and arguments and not arguments[0].startswith("-"):
        assert arguments[0] in inner, f"{page}: there is no command `{arguments[0]}` in `ikeclient {command}`"
        current, arguments = inner[arguments[0]], arguments[1:]
    known = {name for parameter in current.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in arguments:
        if word == "--":
            break
        if re.match(r"--?[a-z]", word):
            name = word.split("=")[0] if word.startswith("--") else word[:2]
            assert name in known | {"--help", "-h"}, f"{page}: `ikeclient {command}`: no option {name}"


def test_the_pages_have_commands() -> None:
    found = taken()
    assert len(found) > 30
    assert ("README.md", "exec work -- curl https://intranet.corp.example/report.csv") in found


def test_what_follows_an_image_is_a_command_of_ours() -> None:
    """The image's entrypoint is the program: its name must not be said again."""
    ours = getattr(typer.main.get_command(app), "commands")  # noqa: B009 - of a group, which it is
    found = []
    for page in PAGES:
        for match in _ENGINE.finditer(page.read_text().replace("\\\n", "\n")):
            said = (match["command"] or "").split()
            found.append(said)
            assert not said or said[0] in ours, f"{page.name}: {match[0]}"
    assert ["connect"] in found


def test_the_containerfile_needs_nothing_that_debians_podman_lacks() -> None:
    text = (ROOT / "docs/container/Containerfile").read_text()
    assert "HEALTHCHECK" in text
    assert "--start-interval" not in text, "podman 4.3 does not know it"
