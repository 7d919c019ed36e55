"""Finding profiles: a name is a file in one of a few directories, everything else is a path.

Under sudo the profiles of the user who called it come last: what root has put under a name stays what that name means,
whoever may call us. Such a profile is then read and used with that user's rights (`load.author`).
"""

from __future__ import annotations

import difflib
import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path

from ikeclient.errors import ProfileError, ProfileNotFound
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.load.files import shown_path, sudo_caller
from ikeclient.wire.text import printable

VARIABLE = "IKECLIENT_PROFILE"  # names the profile where no command line does
NO_FILE = "env"  # the name of a profile that variables make up alone
SYSTEM_DIRECTORY = Path("/etc/ikeclient/profiles")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")  # it becomes part of a socket's path and of log lines


_OTHERS = re.compile(r"[^A-Za-z0-9_.@+-]+")  # in the names of other clients' files


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileEntry:
    """A profile that can be used by its name."""

    name: str
    path: Path


def user_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the caller's own profiles are; `profile new` writes here."""
    configured = Path(environ.get("XDG_CONFIG_HOME", ""))
    base = configured if configured.is_absolute() else _home(environ) / ".config"
    return base / "ikeclient" / "profiles"


def directories(environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where names are looked up, in this order."""
    found = (user_directory(environ), SYSTEM_DIRECTORY, *callers_directory(environ))
    return tuple(dict.fromkeys(found))


def callers_directory(environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where the profiles of the user are who called sudo; nothing without sudo, or for one that is not known."""
    caller = sudo_caller(environ)
    if caller is None:
        return ()
    try:
        home = Path(pwd.getpwuid(caller).pw_dir)
    except (KeyError, OverflowError):
        return ()
    return (home / ".config/ikeclient/profiles",) if home.is_absolute() else ()


def is_path(reference: str) -> bool:
    """Whether a PROFILE argument is a path and not a name."""
    return "/" in reference or reference.endswith(".toml")


def tunnel_name(reference: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the name of the tunnel that a PROFILE argument, or the lack of one, means; no profile need be there."""
    reference = reference or environ.get(VARIABLE) or NO_FILE
    if not is_path(reference):
        return reference
    stem = Path(reference).stem
    return stem if reference.endswith(".toml") else _OTHERS.sub("-", stem).strip("-.+@")[:48] or "imported"


def list_profiles(environ: Mapping[str, str] = os.environ) -> list[ProfileEntry]:
    """Every profile that has a name, sorted; the first directory that has the name decides."""
    found: dict[str, Path] = {}
    for directory in directories(environ):
        try:
            paths = sorted(directory.glob("*.toml"))
        except OSError:
            continue
        for path in paths:
            if _NAME.fullmatch(path.stem):
                found.setdefault(path.stem, path)
    return [ProfileEntry(name=name, path=path) for name, path in sorted(found.items())]


def find_profile(reference: str, environ: Mapping[str, str] = os.environ) -> ProfileEntry:
    """The profile that a PROFILE argument means. Raises ProfileNotFound, or ProfileError for a name nobody can use."""
    if is_path(reference):
        path = Path(os.path.expanduser(reference))
        if not _NAME.fullmatch(path.stem):
            hint = "a tunnel is named after its profile: letters, digits and . _ @ + - make a name of up to 64"
            raise ProfileError(f"{shown_path(path)}: the file's name cannot be the name of a tunnel", hint=hint)
        return ProfileEntry(name=path.stem, path=path)
    if _NAME.fullmatch(reference):
        for directory in directories(environ):
            path = directory / f"{reference}.toml"
            if _exists(path):
                return ProfileEntry(name=reference, path=path)
    raise not_found(reference, environ)


def not_found(reference: str, environ: Mapping[str, str] = os.environ) -> ProfileNotFound:
    """The error for a profile that does not exist, with where it was looked for and names that are near."""
    if is_path(reference):
        path = Path(os.path.expanduser(reference))
        stems = _stems(path.parent)
        near = difflib.get_close_matches(path.stem, stems, n=1)
        hint = f'did you mean "{path.with_name(near[0] + ".toml")}"?' if near else None
        return ProfileNotFound(f"there is no profile {shown_path(path)}", hint=hint)
    names = [entry.name for entry in list_profiles(environ)]
    near = difflib.get_close_matches(reference, names, n=1, cutoff=0.5)
    looked = " and ".join(shown_path(directory) for directory in directories(environ))
    hint = f'did you mean "{near[0]}"?' if near else _LIST_HINT
    if reference and os.path.isdir(reference):
        hint = f"to use what is in the directory of that name here, say ./{printable(reference, 80)}"
    return ProfileNotFound(
        f'there is no profile "{printable(reference, 80)}"',
        reason=f"looked for it in {looked}",
        hint=hint,
    )


_LIST_HINT = "`ikeclient profile list` shows those there are, `ikeclient profile new` makes one"


def _stems(directory: Path) -> list[str]:
    try:
        return [path.stem for path in directory.glob("*.toml")]
    except OSError:
        return []


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # it is there and unreadable; reading it says why


def _home(environ: Mapping[str, str]) -> Path:
    home = Path(environ.get("HOME", ""))
    if home.is_absolute():
        return home
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return Path("/nonexistent")
