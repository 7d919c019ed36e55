"""What is wrong with a profile, in words: where, which key, what it must be, and what was probably meant.

pydantic knows what it refused; this module turns that into one sentence per problem. A value is quoted where that
helps, and never below a key that leads to a secret: people do write passwords where the name of a file belongs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.model.schema import Profile, SecretSource
from ikeclient.profile.model.values import Fault, shown
from ikeclient.wire.text import printable

MAX_PROBLEMS = 50  # nobody reads more, and looking for what was meant takes time
_Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One refused key: `place` is `file:line` or `--set`, `text` completes the sentence that starts with the key."""

    place: str
    key: str
    text: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.place}: key '{self.key}' {self.text}"


class InvalidProfile(ProfileError):
    """A profile whose content is refused; `problems` has all of it, the error's lines tell the first one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first, *rest = problems
        keys = ", ".join(f"'{problem.key}'" for problem in rest[:5]) + (", ..." if len(rest) > 5 else "")
        reason = f"{len(rest)} more: {keys}" if rest else None
        super().__init__(str(first), reason=reason, hint=first.hint)
        self.problems = tuple(problems)


def problems_of(error: ValidationError, place: Callable[[_Key], str]) -> list[Problem]:
    """The first problems pydantic found; `place` tells where a key was given."""
    found = []
    for detail in error.errors(include_url=False)[:MAX_PROBLEMS]:
        key: _Key = detail["loc"]
        text, hint = _explain(key, detail)
        found.append(Problem(place=place(key), key=key_text(key), text=text, hint=hint))
    return found


def key_text(key: _Key) -> str:
    """A key as people write it, safe to print."""
    return printable(".".join(str(part) for part in key), 120)


def known_keys(key: Sequence[str | int]) -> dict[str, type[BaseModel] | None]:
    """The keys of the section `key` with their own sections; nothing where it is no section."""
    model: type[BaseModel] | None = Profile
    for part in key:
        if model is None or part not in model.model_fields:
            return {}
        model = _section(model.model_fields[str(part)].annotation)
    return {name: _section(field.annotation) for name, field in model.model_fields.items()} if model else {}


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _section(argument))), None)


def _leads_to_secret(key: _Key) -> bool:
    return any(known_keys(key[:length]).get(str(key[length])) is SecretSource for length in range(len(key)))


def _explain(key: _Key, detail: Any) -> tuple[str, str | None]:
    value = detail.get("input")
    got = "" if _leads_to_secret(key) else f", not {shown(value)}"
    match detail["type"]:
        case "extra_forbidden":
            return "is unknown", _suggest(key)
        case "missing":
            return "is missing", _MISSING.get(key)
        case "model_type" | "model_attributes_type" if _leads_to_secret(key):
            hint = f'for example: {key[-1]} = {{ file = "secret.txt" }}, or env, command, keyring, prompt, credential'
            return "must say where the secret is, not hold it", hint
        case "model_type" | "model_attributes_type":
            return f"must be a section{got}", None
        case "bool_type":
            return f"must be true or false{got}", None
        case "literal_error":
            return _choices(str(detail["ctx"]["expected"]), value, got)
        case "value_error":
            fault = detail["ctx"]["error"]
            return str(fault), fault.hint if isinstance(fault, Fault) else None
    return "is not what is expected here", None


_MISSING: dict[_Key, str] = {
    ("version",): "start the profile with: version = 1",
    ("gateway",): 'add the section [gateway] with: address = "vpn.example.com"',
    ("auth",): 'add the section [auth] with: method = "eap-mschapv2" (or psk, certificate, ...)',
}


def _choices(expected: str, value: object, got: str) -> tuple[str, str | None]:
    choices = re.findall(r"'([^']*)'", expected)
    if not choices:
        return f"must be {expected.lower()}{got}", None
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    return f"must be one of {', '.join(choices)}{got}", f"did you mean '{near[0]}'?" if near else None


def _suggest(key: _Key) -> str | None:
    """What an unknown key probably was meant to be."""
    name, siblings = str(key[-1]), known_keys(key[:-1])
    elsewhere = [".".join(full) for full in _all_keys() if full[-1] == name]
    if len(elsewhere) == 1:
        return f"did you mean '{elsewhere[0]}'?"
    near = difflib.get_close_matches(name.lower(), siblings, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    far = difflib.get_close_matches(name.lower(), {full[-1]: None for full in _all_keys()}, n=1, cutoff=0.8)
    if far:
        return f"did you mean '{'.'.join(next(full for full in _all_keys() if full[-1] == far[0]))}'?"
    return f"known here: {', '.join(siblings)}" if siblings else None


def _all_keys() -> Iterator[tuple[str, ...]]:
    for section in known_keys(()):
        yield (section,)
        yield from ((section, name) for name in known_keys((section,)))
