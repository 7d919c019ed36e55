"""A file that `ikeclient connect` takes, as a connection of NetworkManager's, in the form of its keyfiles.

`nmcli connection import` comes here through the library of the plugin, as the user who calls it. Certificates and keys
that were inside the file go beside that user's profiles; secrets go into the connection. One that an ordinary user
imports belongs to that user alone, so that NetworkManager's plugin reads those files with no other rights.
"""

from __future__ import annotations

import os
import pwd
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from ikeclient.errors import IkeclientError, ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.networkmanager.connection import SERVICE, VpnConnection, missing_secrets
from ikeclient.nofollow import create_file
from ikeclient.profile.importers.open import opened
from ikeclient.profile.importers.stage import MEMORY
from ikeclient.profile.load.connection import FLAGS, REFUSED, flat
from ikeclient.profile.load.environment import without_settings
from ikeclient.profile.load.files import FileFault, read_regular, shown_path
from ikeclient.profile.load.load import LoadedProfile, profile_of_values
from ikeclient.profile.load.lookup import user_directory
from ikeclient.profile.model.toml_text import toml_value

_AGENT_OWNED = "1"  # the flags of a secret that the user's agent keeps
_SOURCES = ("password", "psk", "key_passphrase", "pin", "secret", "k", "opc")
_MAX_FILE = 4 << 20
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(slots=True, kw_only=True)
class Imported:
    """A connection in the making, with what could not be carried over and the files that it needs."""

    name: str
    data: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    warnings: list[str] = field(default_factory=list)
    files: dict[Path, bytes] = field(default_factory=dict, repr=False)


def print_keyfile(reference: str) -> int:
    """Print the connection, and what is lost to standard error; returns the exit code."""
    try:
        with opened(reference, environ=without_settings(os.environ)) as loaded:
            found = imported(loaded, user_directory().parent / "networkmanager")
        for path, data in found.files.items():
            _write(path, data)
        text = keyfile(found, _owner())
    except IkeclientError as error:
        print("\n".join(error.lines()), file=sys.stderr)
        return error.exit_code
    for warning in found.warnings:
        print(warning, file=sys.stderr)
    sys.stdout.write(text)
    return 0


def imported(loaded: LoadedProfile, beside: Path) -> Imported:
    """The connection for a profile; files that will be gone soon are to be put into `beside`. Raises ProfileError."""
    temporary = loaded.base_dir.parent == MEMORY or loaded.base_dir.name.startswith("ikeclient-import-")
    found = Imported(name=loaded.name, warnings=list(loaded.warnings))
    plain: dict[str, Any] = loaded.profile.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    del plain["version"]
    for key, value in flat(plain):
        last = key.rpartition(".")[2]
        why = REFUSED.get(key) or REFUSED.get(last)
        if why is not None:
            found.warnings.append(f"not imported: {key} ({why})")
        elif last == "prompt":
            continue
        elif last == "file" and key.split(".")[-2] in _SOURCES:
            _take_secret(found, key, loaded.base_dir, str(value), temporary=temporary)
        elif last == "file":
            found.data[key] = _file(found, loaded.base_dir, str(value), beside if temporary else None)
        elif key in ("gateway.ca", "auth.server_ca", "second_auth.server_ca"):
            names = [_file(found, loaded.base_dir, name, beside if temporary else None) for name in value]
            found.data[key] = _text(names)
        elif key == "gateway.address" and isinstance(value, list) and len(value) == 1:
            found.data[key] = _text(value[0])
        else:
            found.data[key] = _text(value)
    profile_of_values(found.data, "the connection")
    for missing in _missing(found):
        found.data.setdefault(".".join(missing) + FLAGS, _AGENT_OWNED)
    return found


def _missing(found: Imported) -> list[tuple[str, ...]]:
    try:
        return missing_secrets(VpnConnection(name=found.name, data=found.data, secrets=found.secrets))
    except ProfileError:  # a file is not there yet
        return []


def _text(value: object) -> str:
    """A value as after `--set`: text stays as it is unless it would be read as something else."""
    if not isinstance(value, str):
        return toml_value(value)
    try:
        tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        return value if value == value.strip() and "\n" not in value else toml_value(value)
    return toml_value(value)


def _take_secret(found: Imported, key: str, base: Path, name: str, *, temporary: bool) -> None:
    """Leave a secret in its file if that stays, else put it into the connection."""
    if not temporary:
        found.data[key] = str(base / os.path.expanduser(name))
        return
    try:
        secret = _content(base / name).decode().removesuffix("\n")
    except UnicodeDecodeError:
        found.warnings.append(f"not imported: {key.removesuffix('.file')} (it is not text)")
        return
    found.secrets[key.removesuffix(".file")] = secret


def _file(found: Imported, base: Path, name: str, beside: Path | None) -> str:
    path = base / os.path.expanduser(name)
    if beside is None:
        return str(path)
    data = _content(path)
    target = beside / path.name
    number = 1
    while target in found.files or (target.exists() and _content(target) != data):
        number += 1
        target = beside / f"{path.stem}-{number}{path.suffix}"
    found.files[target] = data
    return str(target)


def _content(path: Path) -> bytes:
    try:
        return read_regular(path, _MAX_FILE).data
    except FileFault as fault:
        raise ProfileError(f"{shown_path(path)}: {fault.reason}", hint=fault.hint) from None


def _write(path: Path, data: bytes) -> None:
    if path.exists():
        return  # with the same content
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with create_file(path) as file:
            file.write(data)
    except OSError as error:
        raise ProfileError(f"cannot write {shown_path(path)}", reason=error.strerror) from None


def _owner() -> str | None:
    """The user whom the connection shall belong to, None for all of the machine."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name if uid else None
    except KeyError:
        return None


def keyfile(found: Imported, owner: str | None = None) -> str:
    """The text of a keyfile."""
    about = {"id": found.name, "type": "vpn"}
    if owner is not None:
        about["permissions"] = f"user:{owner}:;"
    sections: dict[str, Mapping[str, str]] = {
        "connection": about,
        "vpn": {**found.data, "persistent": "true", "service-type": SERVICE},
        "vpn-secrets": found.secrets,
        "ipv4": {"method": "auto"},
        "ipv6": {"method": "auto"},
    }
    lines = []
    for name, values in sections.items():
        if values:
            lines += [f"[{name}]", *(f"{key}={escaped(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)


def escaped(value: str) -> str:
    """GLib's escapes, as they are in keyfiles."""
    text = "".join(_ESCAPES.get(character, character) for character in value)
    return "\\s" + text[1:] if text.startswith(" ") else text
