"""The blocks of the papers, and what each says about how it is run.

Behind the language of a block's first line, where no reader of the page sees it, stands its mark:

| mark | how the block is run |
|---|---|
| `root`, `user` | typed line by line by root, or by the ordinary user alice, on a machine with a gateway in reach |
| `... stays` | its last command goes on in the foreground: the next blocks are typed in another terminal |
| `... script` | the block is a script for bash |
| `... cron`, `... ci` | a crontab, and the job of a CI system |
| `container` | run by `scripts/container-check` |
| `release` | run by `scripts/release --check`, each line in a clean Debian |
| `file PATH` | the reader's own file: written to PATH |
| `profile` | a profile, or a part of one |
| `status` | an answer of `status --json` |
| `not run: REASON` | not run |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = re.compile(r"<!-- generated: .*?<!-- end -->", re.DOTALL)
FENCE = re.compile(r"^```(?P<language>\w*) ?(?P<mark>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
PEOPLE = ("root", "user")
WAYS = ("", "stays", "script", "cron", "ci")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a page, below the heading `section`; `line` is where it begins."""

    page: str
    section: str
    line: int
    language: str
    mark: str
    text: str

    @property
    def who(self) -> str:
        """The first word of the mark."""
        return self.mark.partition(" ")[0]

    @property
    def how(self) -> str:
        """The rest of the mark."""
        return self.mark.partition(" ")[2]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def fault(self) -> str | None:
        """What is wrong with the mark; None if it is one of those above."""
        match self.who, self.how:
            case (("root" | "user"), how) if how in WAYS:
                return None
            case (("container" | "profile" | "release" | "status"), ""):
                return None
            case "file", path if re.fullmatch(r"[~/.\w@-]+", path):
                return None
            case "not", how if re.fullmatch(r"run: .{10,}", how):
                return None
        known = f"`{self.language} user`, `{self.language} not run: why`, or another mark of tests/documents.py"
        return f"{self}: `{self.language} {self.mark}` does not say how the block is run: {known}"


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, but for those that are made from the program."""
    text = GENERATED.sub(lambda made: re.sub(r"[^\n]", "", made[0]), page.read_text())
    found = []
    for match in FENCE.finditer(text):
        headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text[: match.start()]), re.MULTILINE)
        found.append(
            Block(
                page=str(page.relative_to(ROOT)),
                section=headings[-1] if headings else "",
                line=text.count("\n", 0, match.start()) + 1,
                language=match["language"],
                mark=match["mark"],
                text=match["text"],
            )
        )
    return found


def indented(page: Path) -> list[str]:
    """The first lines of blocks that are only indented, and so can say nothing about how they are run."""
    text = FENCE.sub("", GENERATED.sub("", page.read_text()))
    return re.findall(r"\n\n(    \S[^\n]*)", text)
