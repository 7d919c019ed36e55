"""Plain values as TOML, which the standard library reads but does not write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_lines(sections: Mapping[str, object]) -> Iterator[str]:
    """A document line by line: keys first, then one table for each mapping."""
    for key, value in sections.items():
        if not isinstance(value, Mapping):
            yield f"{_key(key)} = {toml_value(value)}"
    for key, value in sections.items():
        if isinstance(value, Mapping):
            yield from ("", f"[{_key(key)}]")
            yield from (f"{_key(inner)} = {toml_value(item)}" for inner, item in value.items())


def toml_value(value: object) -> str:
    """Text, numbers, booleans, lists and mappings (as inline tables)."""
    match value:
        case Mapping():
            return "{ " + ", ".join(f"{_key(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(toml_value(item) for item in value) + "]"
        case str():
            # As JSON has it, but without its pairs of surrogates, and with DEL escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def _key(key: object) -> str:
    text = str(key)
    return text if _BARE.fullmatch(text) else toml_value(text)
