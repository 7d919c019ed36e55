"""Configuration by environment variables, as containers have it: `IKECLIENT_NETWORK_ROUTES=all` is `network.routes`.

Every key of a profile has its variable, those inside a secret's source too (`IKECLIENT_AUTH_PSK_FILE`). A value is
read as `--set` reads it, and what is wrong with it is said with the variable's name. A variable that only looks like
one of ours is an error: a misspelt setting must not be ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from ikeclient.errors import ProfileError
from ikeclient.profile.load.lookup import VARIABLE
from ikeclient.profile.model.problems import known_keys
from ikeclient.wire.text import printable

PREFIX = "IKECLIENT_"
PROFILE = VARIABLE
# Ours, but no key: settings of the program, and what hooks are told (they may call us).
_RESERVED = frozenset(
    PREFIX + name
    for name in (
        *("PROFILE", "RUNTIME_DIR", "LOG_FORMAT", "STATE_DIR"),
        *(
            "REASON",
            "EVENT",
            "NAME",
            "INTERFACE",
            "GATEWAY",
            "ADDRESSES",
            "DNS_SERVERS",
            "DNS_DOMAINS",
            "ROUTES",
            "MTU",
        ),
    )
)
_NEAR = 0.85

Key = tuple[str, ...]


def variables() -> dict[str, Key]:
    """Every variable with the key it sets."""
    return {PREFIX + "_".join(key).upper(): key for key in _keys(())}


def _keys(section: Key) -> Iterator[Key]:
    for name, inner in known_keys(section).items():
        key = (*section, name)
        if len(key) > 1:
            yield key
        if inner is not None:
            yield from _keys(key)


def settings(environ: Mapping[str, str]) -> dict[str, tuple[Key, str]]:
    """The variables that are set, each with its key and its text. Raises ProfileError for one that looks misspelt."""
    known = variables()
    ours = sorted(name for name in environ if name.startswith(PREFIX) and name not in _RESERVED)
    for name in ours:
        if name not in known:
            _refuse_misspelt(name, known)
    return {name: (known[name], environ[name]) for name in ours if name in known}


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without ours: nothing is put on top of what a file says."""
    return {name: value for name, value in environ.items() if not name.startswith(PREFIX)}


def _refuse_misspelt(name: str, known: Mapping[str, Key]) -> None:
    near = difflib.get_close_matches(name, known, n=1, cutoff=_NEAR)
    section = name.removeprefix(PREFIX).partition("_")[0].lower()
    if not near and section not in known_keys(()):
        return  # somebody else's business
    near = near or difflib.get_close_matches(name, known, n=1)
    raise ProfileError(
        f"the environment variable {printable(name, 80)} sets no key of a profile",
        hint=f"did you mean {near[0]}?" if near else "docs/profile.md lists the keys; IKECLIENT_NETWORK_ROUTES is one",
    )
