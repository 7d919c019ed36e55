"""The syntax of swanctl.conf: nested sections, `key = value` lines, comments, references between sections.

An `include` is followed inside the directory that the user named, and nowhere else.
"""

from __future__ import annotations

import re

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.neighbours import Neighbours
from ikeclient.wire.text import printable

MAX_DEPTH = 8  # of sections, and of files that include each other
MAX_SETTINGS = 10_000
_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
      | (?P<close>\})
      | include[ \t]+(?P<include>[^\n\#]*)
      | (?P<key>[^\s{}=#:,"]+(?:[ \t]+[^\s{}=#:,"]+)*?)[ \t]*(?:
            =[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"(?=[ \t]*(?:[\n\#}]|\Z))|(?P<value>[^\n#}]*))
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


def parse_conf(text: str, warnings: list[str], place: Neighbours | None = None) -> Section:
    """The sections of a swanctl.conf with the files of `place` that it includes.

    Raises ProfileError with the line that is wrong.
    """
    root = Section()
    _Parser(warnings, place or Neighbours(None)).parse(text, [(root, [])], 0, "")
    return root


_Stack = list[tuple[Section, list[str]]]


class _Parser:
    """One walk through a file and what it includes, with one budget for all of it."""

    def __init__(self, warnings: list[str], place: Neighbours) -> None:
        self._warnings = warnings
        self._place = place
        self._settings = 0
        self._budget = [MAX_SETTINGS]

    def parse(self, text: str, stack: _Stack, depth: int, name: str) -> None:
        """Read settings into the innermost section of `stack`."""
        outer = len(stack)
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise _wrong(name, text, position, "is not understood")
            here = stack[-1][0]
            if match["close"]:
                if len(stack) == outer:
                    raise _wrong(name, text, position, "closes a section that is not open")
                self._close(stack)
            elif match["include"] is not None:
                self._include(match["include"].strip().strip('"'), stack, depth)
            elif match["open"]:
                if len(stack) > MAX_DEPTH:
                    raise _wrong(name, text, position, "is nested too deeply")
                section = here.sections.setdefault(match["key"], Section())
                references = (match["references"] or "").split(",")
                stack.append((section, [each.strip() for each in references if each.strip()]))
            elif match["key"]:
                quoted = match["quoted"]
                value = match["value"].strip() if quoted is None else _ESCAPE.sub(_unescaped, quoted)
                here.values[match["key"]] = value
            self._settings += 1
            if self._settings > MAX_SETTINGS:
                raise _wrong(name, text, position, "is one setting too many")
            position = match.end()
        if len(stack) > outer:
            raise ProfileError(f"a section is not closed at the end of {name or 'the file'}")

    def _close(self, stack: _Stack) -> None:
        """Close the innermost section and let it inherit from the closed sections that it refers to."""
        section, references = stack.pop()
        for name in references:
            found: Section | None = stack[0][0]
            for part in name.split("."):
                found = found.sections.get(part) if found is not None else None
            found = found or stack[-1][0].sections.get(name)
            if found is None or found is section or any(found is outer for outer, _ in stack):
                self._warnings.append(f"not taken over: {printable(name, 80)} (no such section stands before)")
            else:
                section.below(found, self._budget)

    def _include(self, pattern: str, stack: _Stack, depth: int) -> None:
        names = self._place.matching(pattern) if depth < MAX_DEPTH else []
        if not names:
            self._warnings.append(f"not read: include {printable(pattern, 80)} (no file there to read)")
        for name in names:
            data = self._place.read(name)
            if data is None:
                self._warnings.append(f"not read: {printable(name, 80)}")
                continue
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError:
                raise ProfileError(f"{printable(name, 80)} is not UTF-8 text") from None
            self.parse(text, stack, depth + 1, printable(name, 80))


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPED.get(match[1], match[1])


def _wrong(name: str, text: str, position: int, what: str) -> ProfileError:
    line = text.count("\n", 0, position) + 1
    return ProfileError(f"{name + ': ' if name else ''}line {line} {what}")
