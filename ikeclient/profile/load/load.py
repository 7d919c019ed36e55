"""From a PROFILE argument to a validated profile: find, read, parse, override, check.

What stands in the file gives way to `IKECLIENT_` variables, and those to `--set`.

Every way this can fail is a ProfileError whose first line reads `path:line: key '...' ...`. Nothing is printed here;
warnings come back with the profile.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ikeclient.errors import ProfileError, UsageError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.load import environment
from ikeclient.profile.load.author import Author
from ikeclient.profile.load.files import (
    FileContent,
    FileFault,
    quoted_path,
    read_regular,
    shown_path,
    sudo_caller,
    trusted_owners,
)
from ikeclient.profile.load.lookup import NO_FILE, ProfileEntry, callers_directory, find_profile, is_path, not_found
from ikeclient.profile.load.places import Places
from ikeclient.profile.load.trust import changeable, writer
from ikeclient.profile.model.lines import key_at
from ikeclient.profile.model.problems import InvalidProfile, problems_of
from ikeclient.profile.model.schema import Profile, SecretSource
from ikeclient.wire.text import printable

MAX_LENGTH = 1 << 20  # bytes
MAX_DOTS = 16  # outside of strings in one line: tomllib needs time cubic in the parts of a dotted key
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(r"""(["'])(?:(?!\1|\\).|\\.)*\1""")
_AT = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedProfile:
    """A profile with where it came from. `warnings` are sentences for people; relative paths start at `base_dir`.

    `places` tells errors where keys were given. `author` is the user with whose rights what it names is to be read,
    None for our own.
    """

    name: str
    path: Path
    profile: Profile
    warnings: tuple[str, ...] = ()
    places: Places = Places()
    author: Author | None = None

    @property
    def base_dir(self) -> Path:
        """The directory of the profile."""
        return self.path.parent


def load_profile(
    reference: str | None, overrides: Iterable[str] = (), environ: Mapping[str, str] = os.environ
) -> LoadedProfile:
    """The profile that `reference` (a name or a path) means, with variables and `KEY=VALUE` overrides on top.

    Without a reference it is the one that `IKECLIENT_PROFILE` names, or the one that the variables make up alone.
    Raises ProfileNotFound, ProfileError (InvalidProfile where the content is refused), or UsageError for an override
    that is not `KEY=VALUE` and where nothing says which profile is meant.
    """
    variables = environment.settings(environ)
    if reference is None:
        reference = environ.get(environment.PROFILE) or None
    if reference is None:
        return _from_variables(variables, overrides)
    entry = find_profile(reference, environ)
    try:
        content = read_regular(entry.path, MAX_LENGTH, _reader(entry, environ))
    except FileFault as fault:
        if fault.missing:
            raise not_found(reference, environ) from None
        raise ProfileError(f"{shown_path(entry.path)}: {fault.reason}", hint=fault.hint) from None
    name = shown_path(entry.path)
    text = _decode(name, content.data)
    data = _parse(name, text)
    places = Places(name=name, text=text, others=_override_all(data, variables, overrides))
    warnings: list[str] = []
    profile = validate(data, places, warnings)
    warnings = [f"{name}: {warning}" for warning in warnings]
    if content.mode & 0o022 and _has_commands(profile):
        raise _loose(entry.path, content)
    author = None
    if os.geteuid() == 0:
        author = writer(entry.path, content.owner, given=frozenset(places.others))
    warnings += _check_trust(entry, content, profile, environ, author)
    warnings += _taken_for_sudo(entry, reference, environ)
    path = Path(os.path.abspath(entry.path))  # not resolved: files lie beside the name that was given
    return LoadedProfile(
        name=entry.name, path=path, profile=profile, warnings=tuple(warnings), places=places, author=author
    )


def _from_variables(variables: Mapping[str, tuple[environment.Key, str]], overrides: Iterable[str]) -> LoadedProfile:
    """A profile without a file. The tunnel is called `env`; relative paths start at the working directory."""
    if not variables:
        hint = f"name one, or set {environment.PROFILE} or the keys themselves, such as IKECLIENT_GATEWAY_ADDRESS"
        raise UsageError("no PROFILE was given", hint=hint)
    data: dict[str, Any] = {"version": 1}
    places = Places(name="the environment", others=_override_all(data, variables, overrides))
    warnings: list[str] = []
    profile = validate(data, places, warnings)
    path = Path.cwd() / NO_FILE
    return LoadedProfile(name=NO_FILE, path=path, profile=profile, warnings=tuple(warnings), places=places)


def profile_of_values(values: Mapping[str, str], place: str) -> Profile:
    """The profile made of values as after `--set`, by their keys; `place` tells where they are from in errors.

    Raises ProfileError, InvalidProfile where the content is refused.
    """
    data: dict[str, Any] = {"version": 1}
    places: dict[tuple[str, ...], str] = {}
    for key, written in values.items():
        path = tuple(key.split("."))
        if not all(_BARE_KEY.fullmatch(part) for part in path):
            raise ProfileError(f"{place}: {printable(key, 80)!a} is no key of a profile")
        _put(data, path, _override_value(written.strip()), place)
        places[path] = place
    return validate(data, Places(name=place, others=places), [])


def parse_profile(text: str, name: str = "profile") -> LoadedProfile:
    """A profile given as text, e.g. a template or the output of an importer; raises ProfileError."""
    warnings: list[str] = []
    places = Places(name=name, text=text)
    profile = validate(_parse(name, text), places, warnings)
    path = Path(f"{name}.toml")
    return LoadedProfile(name=name, path=path, profile=profile, warnings=tuple(warnings), places=places)


def validate(data: dict[str, Any], places: Places, warnings: list[str]) -> Profile:
    """The profile in parsed TOML; raises InvalidProfile with the place of each problem."""
    try:
        return Profile.model_validate(data, context={"warnings": warnings})
    except ValidationError as error:
        refused = error
    problems = problems_of(refused, places.of)
    # Unknown keys first: what looks missing or wrong is often only misspelt.
    raise InvalidProfile(sorted(problems, key=lambda problem: problem.text != "is unknown"))


def _decode(name: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")  # Notepad's byte order mark is harmless
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ProfileError(f"{name}:{line}: is not UTF-8", hint="save the file as UTF-8 text") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ProfileError(f"{name}:{line}: holds a NUL: this is not a text file") from None
    return text.replace("\r\n", "\n")


def _parse(name: str, text: str) -> dict[str, Any]:
    if not text.strip():
        hint = "`ikeclient profile new` makes a profile to start from"
        raise ProfileError(f"{name}: is empty", hint=hint)
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MAX_DOTS and _STRING.sub("", line).count(".") > MAX_DOTS:
            raise ProfileError(f"{name}:{number}: is nested too deeply")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ProfileError(f"{name}: is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and integers with too many digits
        raise _syntax_error(name, text, str(error)) from None


def _syntax_error(name: str, text: str, said: str) -> ProfileError:
    match = _AT.fullmatch(said)
    if not match:
        return ProfileError(
            f"{name}: is not TOML: a number has too many digits"
        )  # Python says nothing else without a place
    number = int(match[2] or text.rstrip("\n").count("\n") + 1)
    written = key_at(text, number)
    if written and match[1].startswith(("Cannot overwrite", "Cannot declare", "Cannot mutate")):
        twice = f"{name}:{number}: key '{printable(written, 120)}' is there twice"
        return ProfileError(twice, hint="each key and each section may stand only once")
    # tomllib quotes nothing but single characters and key names, so no secret can be in it.
    hint = "text needs quotes" if match[1] == "Invalid value" else None
    why = match[1][:1].lower() + match[1][1:]
    return ProfileError(f"{name}:{number}: is not TOML: {printable(why, 120)}", hint=hint)


def _override_all(
    data: dict[str, Any], variables: Mapping[str, tuple[environment.Key, str]], overrides: Iterable[str]
) -> dict[tuple[str, ...], str]:
    """Put variables and then `KEY=VALUE` items into `data`; returns what set each key."""
    places: dict[tuple[str, ...], str] = {}
    for name, (key, written) in variables.items():
        source = key[:2]
        if len(key) > 2 and source not in places:  # another source of a secret takes the place of the file's
            _put(data, source, {}, name)
            places[source] = name
        _put(data, key, _override_value(written.strip()), name)
        places[key] = name
    options = dict.fromkeys([_override(data, item) for item in overrides], "--set")
    return options | {key: name for key, name in places.items() if key not in options}


def _override(data: dict[str, Any], item: str) -> tuple[str, ...]:
    """Put one `KEY=VALUE` into `data`; returns the key."""
    key, separator, written = item.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not separator or not all(_BARE_KEY.fullmatch(part) for part in path):
        # The text is not quoted: it may hold a secret that was meant for another option.
        hint = "for example: --set network.routes=all"
        raise UsageError("--set wants KEY=VALUE with a key such as network.routes", hint=hint)
    _put(data, path, _override_value(written.strip()), "--set")
    return path


def _put(data: dict[str, Any], path: tuple[str, ...], value: object, place: str) -> None:
    table = data
    for depth, part in enumerate(path[:-1], 1):
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ProfileError(f"{place}: key '{'.'.join(path[:depth])}' is not a section, so it holds no keys")
        table = inner
    table[path[-1]] = value


def _override_value(written: str) -> object:
    """A TOML value, or the text itself where it is none."""
    if "\n" in written:
        return written
    try:
        parsed = tomllib.loads(f"value = {written}")
    except (ValueError, RecursionError):
        return written
    return parsed["value"] if parsed.keys() == {"value"} else written


def _check_trust(
    entry: ProfileEntry, content: FileContent, profile: Profile, environ: Mapping[str, str], author: Author | None
) -> list[str]:
    """Refuse commands in a profile that somebody else can write; warn if it only leads elsewhere."""
    path = shown_path(entry.path)
    owner = content.owner if author is None else author.uid
    foreign = owner not in trusted_owners(environ)
    if _has_commands(profile) and not foreign:
        _require_safe_way(entry.path, {owner, *trusted_owners(environ)})
    if foreign and _has_commands(profile):
        hint = f"chown {os.geteuid()} {quoted_path(entry.path)}"
        raise ProfileError(f"{path}: names commands to run, but it belongs to uid {owner}", hint=hint)
    if foreign:
        return [f"{path}: it belongs to uid {owner}"]
    return [f"{path}: others may change it (mode {content.mode:04o})"] if content.mode & 0o002 else []


def _reader(entry: ProfileEntry, environ: Mapping[str, str]) -> Author | None:
    """Return whose rights the file is read with: under sudo a name may lead to a link of the caller's (F14)."""
    caller = sudo_caller(environ)
    return Author.of(caller) if caller is not None and entry.path.parent in callers_directory(environ) else None


def _taken_for_sudo(entry: ProfileEntry, reference: str, environ: Mapping[str, str]) -> list[str]:
    """Tell the user who called sudo whether their profile of that name was taken, or which other one."""
    for directory in () if is_path(reference) else callers_directory(environ):
        own = directory / entry.path.name
        if own == entry.path:
            return [f"{shown_path(own)} is used: it is of the user who called sudo, and root has none of that name"]
        if os.path.isfile(own):
            return [f"{shown_path(entry.path)} is used, not {shown_path(own)}: to use that, say its path"]
    return []


def _loose(path: Path, content: FileContent) -> ProfileError:
    shown = shown_path(path)
    why = f"others may change it (mode {content.mode:04o})"
    return ProfileError(f"{shown}: names commands to run, but {why}", hint=f"chmod go-w {quoted_path(path)}")


def _require_safe_way(path: Path, trusted: Collection[int]) -> None:
    try:
        trouble = changeable(path, trusted)
    except OSError as error:
        raise ProfileError(f"{shown_path(path)}: {error.strerror}") from None
    if trouble:
        raise ProfileError(f"{shown_path(path)}: names commands to run, but {trouble[0]}", hint=trouble[1])


def _has_commands(profile: Profile) -> bool:
    logins = [auth for auth in (profile.auth, profile.second_auth) if auth is not None]
    sources = [source for auth in logins for source in (auth.password, auth.psk, auth.key_passphrase)]
    sources += [auth.key.pin for auth in logins if auth.key is not None]
    sources += [profile.ppk.secret] if profile.ppk is not None else []
    runs = any(isinstance(source, SecretSource) and source.command for source in sources)
    return bool(runs or profile.session.up or profile.session.down)
