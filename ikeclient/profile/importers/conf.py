"""The syntax of swanctl.conf: nested sections, `key = value` lines, comments, references between sections.

Nothing is included: a file that a stranger names is not opened.
"""

from __future__ import annotations

import re

from ikeclient.errors import ProfileError
from ikeclient.wire.text import printable

MAX_DEPTH = 8
MAX_SETTINGS = 10_000
_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
      | (?P<close>\})
      | include[ \t]+(?P<include>[^\n]*)
      | (?P<key>[^\s{}=#:,"]+)[ \t]*(?:
            =[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<value>[^\n#{}]*))
          | (?::(?P<references>[^\n{}#]*))?\s*(?P<open>\{)
        )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\n": ""}


class Section:
    """One section: its `values` and its `sections`, both by name and in order."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.sections: dict[str, Section] = {}

    def section(self, name: str) -> Section:
        """The section inside, empty where there is none."""
        return self.sections.get(name) or Section()

    def below(self, base: Section, budget: list[int]) -> None:
        """Take copies from `base` of whatever is not set here. `budget[0]` is how many may still be made."""
        for key, value in base.values.items():
            _spend(budget)
            self.values.setdefault(key, value)
        for name, section in base.sections.items():
            _spend(budget)
            self.sections.setdefault(name, Section()).below(section, budget)


def _spend(budget: list[int]) -> None:
    budget[0] -= 1
    if budget[0] < 0:
        raise ProfileError("its references between sections make too many settings")


def parse_conf(text: str, warnings: list[str]) -> Section:
    """The sections of a swanctl.conf. Raises ProfileError with the line that is wrong."""
    root = Section()
    stack: list[tuple[Section, list[str]]] = [(root, [])]
    position = settings = 0
    budget = [MAX_SETTINGS]
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _wrong(text, position, "is not understood")
        here = stack[-1][0]
        if match["close"]:
            if len(stack) == 1:
                raise _wrong(text, position, "closes a section that is not open")
            _close(stack, budget)
        elif match["include"] is not None:
            warnings.append(f"not read: include {printable(match['include'], 80)}")
        elif match["open"]:
            if len(stack) > MAX_DEPTH:
                raise _wrong(text, position, "is nested too deeply")
            section = here.sections.setdefault(match["key"], Section())
            stack.append((section, [name.strip() for name in (match["references"] or "").split(",") if name.strip()]))
        elif match["key"]:
            quoted = match["quoted"]
            value = match["value"].strip() if quoted is None else _ESCAPE.sub(_unescaped, quoted)
            here.values[match["key"]] = value
        settings += 1
        if settings > MAX_SETTINGS:
            raise _wrong(text, position, "is one setting too many")
        position = match.end()
    if len(stack) > 1:
        raise ProfileError("a section is not closed at the end of the file")
    return root


def _close(stack: list[tuple[Section, list[str]]], budget: list[int]) -> None:
    """Close the innermost section and let it inherit from the closed sections that it refers to."""
    section, references = stack.pop()
    for name in references:
        found: Section | None = stack[0][0]
        for part in name.split("."):
            found = found.sections.get(part) if found is not None else None
        found = found or stack[-1][0].sections.get(name)
        if found is not None and found is not section and all(found is not outer for outer, _ in stack):
            section.below(found, budget)


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPED.get(match[1], match[1])


def _wrong(text: str, position: int, what: str) -> ProfileError:
    line = text.count("\n", 0, position) + 1
    return ProfileError(f"line {line} {what}")
