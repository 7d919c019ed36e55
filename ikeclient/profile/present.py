"""A profile as values for people: every key with what is in force, and nothing secret."""

from __future__ import annotations

from itertools import product
from typing import Any

from ikeclient.profile.model.schema import Profile
from ikeclient.profile.model.values import format_duration

_DURATIONS = ("liveness", "rekey_ike", "rekey_child")
SECRETS = ("password", "psk", "key_passphrase", "secret")
WITH_SECRETS = ("auth", "second_auth", "ppk")  # sections


def redacted(profile: Profile) -> dict[str, Any]:
    """The profile as plain dictionaries, lists, text and numbers, ready for JSON and TOML; defaults are filled in.

    Of commands that print secrets only the program is shown, because their arguments may be secrets themselves.
    """
    plain: dict[str, Any] = _without_none(profile.model_dump(mode="json"))
    for key in _DURATIONS:
        plain["session"][key] = format_duration(plain["session"][key])
    sources = [plain.get(section, {}).get(key, {}) for section, key in product(WITH_SECRETS, SECRETS)]
    sources += [plain.get(section, {}).get("key", {}).get("pin", {}) for section in WITH_SECRETS]
    sources += [key for section in WITH_SECRETS if "file" not in (key := plain.get(section, {}).get("key", {}))]
    for source in sources:
        if len(source.get("command", ())) > 1:
            source["command"] = [source["command"][0], "..."]
        if not source.get("insecure", True):
            del source["insecure"]
    return plain


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
