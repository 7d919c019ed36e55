"""Where each key of a profile was given, for errors about it: a line of the file, a variable or `--set`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field

from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.model.lines import find_line, key_lines
from ikeclient.profile.model.problems import InvalidProfile

_ABOUT_KEY = re.compile(r"key '([\w.]+)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """`name` is what errors call the file, empty if people do not know it; `others` are keys that it does not set."""

    name: str = ""
    text: str = field(default="", repr=False)
    others: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def of(self, key: tuple[str | int, ...]) -> str:
        """Return the place of a key, as `file:line` or what was said instead of the file."""
        for path, other in self.others.items():
            if key[: len(path)] == path or path[: len(key)] == key:
                return other
        line = find_line(key_lines(self.text), key) if self.name else None
        return f"{self.name}:{line}" if line else self.name

    @contextmanager
    def told(self) -> Iterator[None]:
        """Put place and key in front of a ProfileError that is raised inside."""
        try:
            yield
        except InvalidProfile:  # which has its places
            raise
        except ProfileError as error:
            raise ProfileError(self._told(error), reason=error.reason, hint=error.hint) from None

    def _told(self, error: ProfileError) -> str:
        begun = _ABOUT_KEY.match(error.message)
        key = begun[1] if begun else error.key
        text = error.message if begun or key is None else f"key '{key}': {error.message}"
        place = self.name if key is None else self.of(tuple(key.split(".")))
        return f"{place}: {text}" if place else text
