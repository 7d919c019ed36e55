"""A profile from the data of a connection of NetworkManager's.

Whoever may add a connection is not root, and a file with one may be a stranger's. So a connection names no program, and
none of the places where root's own secrets are (`REFUSED`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ikeclient.errors import ProfileError
from ikeclient.profile.load.load import profile_of_values
from ikeclient.profile.model.schema import Profile
from ikeclient.wire.text import printable

FLAGS = "-flags"  # how a key ends that says who keeps a secret

# What a connection cannot say, by the last part of a key or the whole of it, and why.
REFUSED: dict[str, str] = {
    "command": "no program is run for a connection of NetworkManager",
    "session.up": "NetworkManager's dispatcher runs programs when a connection comes up",
    "session.down": "NetworkManager's dispatcher runs programs when a connection goes down",
    "session.kill_switch": "it outlives what NetworkManager starts and ends; `ikeclient connect` has it",
    "module": "no library is loaded for a connection of NetworkManager but p11-kit's",
    "env": "NetworkManager keeps the secrets of its connections",
    "keyring": "NetworkManager keeps the secrets of its connections",
    "credential": "NetworkManager keeps the secrets of its connections",
    "agent": "the plugin cannot speak with a user's ssh-agent",
}


def profile_of_connection(data: Mapping[str, str], place: str) -> Profile:
    """The profile; `place` tells where it is from in errors. Raises ProfileError."""
    values = {key: value for key, value in data.items() if not key.endswith(FLAGS)}
    for key in values:
        require_allowed(key)
    for needed in _needed(values):
        if not any(key == needed or key.startswith(f"{needed}.") for key in values):
            values[f"{needed}.prompt"] = "true"
    profile = profile_of_values(values, place)
    # Once more as it was understood: a value may be a table.
    for key, value in flat(profile.model_dump(mode="json", exclude_unset=True, exclude_none=True)):
        if value:
            require_allowed(key)
    return profile


def _needed(values: Mapping[str, str]) -> Iterator[str]:
    """The secrets that a profile has to name a source of, which is NetworkManager here."""
    if values.get("auth.method") == "psk" or values.get("gateway.auth") == "psk":
        yield "auth.psk"
    if values.get("second_auth.method") == "psk":
        yield "second_auth.psk"
    if any(key.startswith("ppk.") for key in values):
        yield "ppk.secret"


def flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested tables as dotted keys."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def require_allowed(key: str) -> None:
    """Raise ProfileError if a connection cannot have `key` of a profile."""
    why = REFUSED.get(key) or REFUSED.get(key.rpartition(".")[2])
    if why is not None:
        raise ProfileError(f"key '{printable(key, 80)}' cannot be in a connection of NetworkManager", reason=why)
