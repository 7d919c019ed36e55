"""The papers agree with the program: links lead somewhere, commands are understood, profiles load, lists are whole."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from ikeclient import errors
from ikeclient.cli.app import app
from ikeclient.profile.model.schema import Profile

ROOT = Path(__file__).resolve().parent.parent
PAPERS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = ROOT / "README.md"
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^ {4,}(\S.*)$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
# What typer raises for a command line it does not understand; it does not export the class itself.
NOT_UNDERSTOOD: Any = typer.BadParameter.__mro__[2]
# In a recipe more than one command may stand in a line.
COMMAND = re.compile(r"(?:^|(?<!-t)(?<!type)[ $(|])(ikeclient(?: [^|;&)#]*)?)(?=$|[|;&)#])")


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as those who show Markdown make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAPERS, ids=ids)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.read_text()), target


def written_commands(text: str) -> Iterator[str]:
    """Whatever of a page is a command of ours: in its blocks, and between backticks."""
    text = re.sub(r"<!-- generated: .*?<!-- end -->", "", text, flags=re.DOTALL)
    blocks = [block for kind, block in FENCE.findall(text) if kind in ("", "sh", "text", "yaml", "toml")]
    prose = FENCE.sub("", text)
    lines = [*"\n".join(blocks).replace("\\\n", " ").splitlines(), *INDENTED.findall(prose), *INLINE.findall(prose)]
    for line in lines:
        if re.match(r"\s*(?:#|//)", line):
            continue
        yield from (found.strip() for found in COMMAND.findall(line.strip()))


def parse(words: list[str]) -> None:
    """Raise what the command line would say of these words; nothing is run."""
    command: Any = get_command(app)
    context: Any = None
    while True:
        context = command.make_context(words[0], words[1:], parent=context)
        words = [*getattr(context, "_protected_args", []), *context.args]
        if not hasattr(command, "commands") or not words:
            return
        name, command, words = command.resolve_command(context, words)
        words = [name, *words]


@pytest.mark.parametrize("page", PAPERS, ids=ids)
def test_every_command_is_one_that_the_program_understands(page: Path) -> None:
    for line in written_commands(page.read_text()):
        try:
            parse(shlex.split(line))
        except typer.Exit:
            continue
        except NOT_UNDERSTOOD as error:
            if type(error).__name__ == "MissingParameter" and f"`{line}`" in page.read_text():
                continue  # the command's name, in a sentence
            pytest.fail(f"{line}: {error.format_message()}")


def test_a_command_that_does_not_exist_is_found() -> None:
    assert list(written_commands("Say `ikeclient conect work` first.")) == ["ikeclient conect work"]
    with pytest.raises(NOT_UNDERSTOOD):
        parse(["ikeclient", "conect", "work"])
    with pytest.raises(NOT_UNDERSTOOD):
        parse(["ikeclient", "connect", "work", "--detatch"])


@pytest.mark.parametrize("page", PAPERS, ids=ids)
def test_every_profile_loads(page: Path) -> None:
    for kind, block in FENCE.findall(page.read_text()):
        if kind == "toml":
            written = tomllib.loads(block)
            if "version" in written:
                Profile.model_validate(written)


def test_the_readme_has_every_exit_code_and_fits_its_frame() -> None:
    written = {int(code) for code in re.findall(r"^\| (\d+) \|", README.read_text(), re.MULTILINE)}
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.IkeclientError)
    ]
    assert {kind.exit_code for kind in kinds} <= written
    assert len(README.read_text().splitlines()) <= 150


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "generate.py"))


def test_the_generated_parts_are_current(generator: dict[str, Any]) -> None:
    made = generator["pages"]()
    assert made
    for page, text in made.items():
        assert page.read_text() == text, f"{ids(page)}: run scripts/docs"


def test_every_section_of_the_profile_and_every_command_has_its_part(generator: dict[str, Any]) -> None:
    parts = set(re.findall(r"<!-- generated: ([\w -]+) -->", "".join(page.read_text() for page in PAPERS)))
    sections = {name for name in Profile.model_fields if name != "version"}
    commands = set(generator["commands"]())
    assert commands >= {"connect", "profile import"}
    assert parts >= {f"keys {name}" for name in sections} | {f"command {name}" for name in commands}


def test_every_row_that_a_test_cites_exists_and_every_other_row_says_why(generator: dict[str, Any]) -> None:
    rows, cited = generator["rows"](), generator["citations"]()
    assert len(rows) > 140
    assert set(cited) <= set(rows), {row: cited[row] for row in set(cited) - set(rows)}
    assert set(rows) - set(cited) == {row for row, says in rows.items() if says.startswith("*not yet*")}


def test_every_row_that_the_code_cites_exists(generator: dict[str, Any]) -> None:
    source = "".join(path.read_text() for path in (ROOT / "ikeclient").rglob("*.py"))
    cited = {row for text in re.findall(r"\(hardening ([^)]+)\)", source) for row in text.split(", ")}
    assert cited
    assert cited <= set(generator["rows"]())


@pytest.mark.parametrize("page", PAPERS, ids=ids)
def test_every_file_that_is_named_exists(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # it tells of what was
    for name in re.findall(r"`([\w/.]+/[\w.]*|\w+\.pyx?)`", FENCE.sub("", page.read_text())):
        if name.startswith(("/", ".")) or not re.search(r"(?:\.pyx?|\.sh|/)$", name):
            continue
        assert any((base / name).exists() for base in (ROOT, ROOT / "ikeclient", page.parent)), name


def test_every_script_is_listed() -> None:
    """`scripts/env` is for the others to read."""
    listed = set(re.findall(r"`scripts/([\w/-]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    scripts = {path.name for path in (ROOT / "scripts").iterdir() if path.is_file()}
    assert scripts - {"env"} == {name for name in listed if "/" not in name}


def test_every_variable_of_a_hook_is_told() -> None:
    source = (ROOT / "ikeclient/tunnel/hooks.py").read_text()
    given = set(re.findall(r'"(IKECLIENT_[A-Z_]+)":', source))
    page = (ROOT / "docs/tunnel.md").read_text()
    assert given
    assert given == set(re.findall(r"IKECLIENT_[A-Z_]+", page))


def test_ten_questions_are_answered_by_the_name_of_one_file() -> None:
    """Where is the rule that decides ...: a reader finds it without a search."""
    questions = (ROOT / "ARCHITECTURE.md").read_text().split("## Where is the rule")[1].split("\n## ")[0]
    answers = re.findall(r"^\| [^|]+ \| `([^`]+\.py)` \|$", questions, re.MULTILINE)
    assert len(set(answers)) >= 10
    assert [answer for answer in answers if not (ROOT / "ikeclient" / answer).is_file()] == []
