"""Where in a TOML file a key stands, for the messages of errors.

`tomllib` tells lines only for errors of syntax. This scanner runs over text that `tomllib` has accepted, so it needs to
know just enough: section headers, keys in front of `=`, and where strings and brackets go on over several lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_DOTTED = re.compile(rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*")
_PART = re.compile(_KEY)
# What matters inside a value, in the order in which it has to be tried.
_TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}]')


def find_line(places: Mapping[tuple[str, ...], int], key: Sequence[str | int]) -> int | None:
    """The line, counted from 1, where `key` or else the nearest section or key that encloses it stands.

    `places` is what `key_lines` found in the file.
    """
    path = tuple(str(part) for part in key)
    return next((places[path[:length]] for length in range(len(path), 0, -1) if path[:length] in places), None)


@lru_cache(maxsize=1)  # each problem of a profile asks for those of the same text
def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The first line of every section and of every key outside of inline tables."""
    places: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    quote, depth = "", 0  # what the line starts within: a multi-line string, open brackets
    for number, line in enumerate(text.split("\n"), 1):
        if not quote and not depth:
            found, is_section, line = _statement(line.strip())
            if is_section:
                section = found
            elif found:
                found = section + found
            for length in range(1, len(found) + 1):
                places.setdefault(found[:length], number)
        quote, depth = _skip(line, quote, depth)
    return places


def key_at(text: str, number: int) -> str | None:
    """The key or section name in the given line, or None."""
    lines = text.split("\n")
    found, _, _ = _statement(lines[number - 1].strip()) if 0 < number <= len(lines) else ((), False, "")
    return ".".join(found) or None


def _statement(line: str) -> tuple[tuple[str, ...], bool, str]:
    """The keys a line starts with, whether they name a section, and the rest of the line."""
    is_section = line.startswith("[")
    start = line.lstrip("[ \t") if is_section else line
    match = _DOTTED.match(start)
    if not match:
        return (), False, line
    keys = tuple(part[1:-1] if part[0] in "\"'" else part for part in _PART.findall(match[0]))
    rest = start[match.end() :].lstrip()
    if is_section:
        return keys, True, ""
    return (keys, False, rest[1:]) if rest.startswith("=") else ((), False, line)


def _skip(line: str, quote: str, depth: int) -> tuple[str, int]:
    """What the next line starts within, given what this one does."""
    position = 0
    while True:
        if quote:
            end = line.find(quote, position)
            while end > 0 and quote == '"""' and _escaped(line, end):
                end = line.find(quote, end + 1)
            if end < 0:
                return quote, depth
            position, quote = end + len(quote), ""
            while line[position : position + 1] == line[position - 1]:  # a string may end in quotes of its own
                position += 1
        match = _TOKEN.search(line, position)
        if not match:
            return "", depth
        position = match.end()
        match match[0]:
            case '"""' | "'''" as opened:
                quote = opened
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth = max(depth - 1, 0)


def _escaped(line: str, position: int) -> bool:
    backslashes = len(line[:position]) - len(line[:position].rstrip("\\"))
    return backslashes % 2 == 1
