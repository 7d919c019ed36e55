"""A PROFILE argument that may be a profile, or any file that can be imported.

What reads other clients' files is loaded only for such a file: `connect` is to start quickly.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ikeclient.errors import ProfileError, ProfileNotFound
from ikeclient.profile.formats import import_limit
from ikeclient.profile.load.files import FileFault, read_regular, shown_path
from ikeclient.profile.load.load import LoadedProfile, load_profile
from ikeclient.profile.load.lookup import find_profile, is_path
from ikeclient.profile.load.trust import writer
from ikeclient.profile.secrets.secrets import Ask, Secret

_OURS = re.compile(rb"^[ \t]*(\[gateway\]|gateway[ \t]*[.=])", re.MULTILINE)
_KEYFILE = re.compile(rb"^\[vpn\]\s*$", re.MULTILINE)  # NetworkManager's, whose connections of ours have our keys


@contextmanager
def opened(
    reference: str | None,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
    *,
    ask: Ask | None = None,
    kept: dict[str, Secret] | None = None,
    name: str | None = None,
) -> Iterator[LoadedProfile]:
    """The profile, or the file or directory as the profile that it becomes; what it leads to lasts as the context does.

    `kept` remembers a passphrase that was typed. `name` is what a tunnel of a file to import is called, if not as the
    file says. Raises what `load_profile` raises.
    """
    foreign = _foreign(reference, environ)
    if foreign is None:
        yield load_profile(reference, overrides, environ)
        return
    from ikeclient.profile.importers.read import Extras, read_directory, read_foreign
    from ikeclient.profile.importers.stage import staged

    path, data, owner = foreign
    kept = {} if kept is None else kept
    try:
        extras = Extras(ask=_remembering(ask, kept, path))
        draft = read_directory(path, extras=extras) if data is None else read_foreign(data, source=path, extras=extras)
    except ProfileError as error:
        raise ProfileError(f"{shown_path(path)}: {error.message}", reason=error.reason, hint=error.hint) from None
    name = name or draft.slug
    if (typed := kept.get(_key(path))) is not None:
        kept.setdefault(f"asked for passphrase of {name}.p12", typed)
    author = writer(path, owner, given=frozenset()) if os.geteuid() == 0 else None
    with staged(draft, name, overrides, environ, author=author) as loaded:
        warnings = (*(f"security: {text}" for text in draft.risks), *draft.warnings, *loaded.warnings)
        yield replace(loaded, warnings=warnings)


def may_be_foreign(reference: str | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether it is there and is perhaps no profile of ours, but to be imported; nothing of it is read."""
    if reference is None or reference.endswith(".toml") or not os.path.exists(os.path.expanduser(reference)):
        return False
    if not is_path(reference) and os.path.isdir(reference):
        return False  # a name without a profile, beside which a directory of that name happens to be
    if not is_path(reference):
        try:
            find_profile(reference, environ)
        except ProfileNotFound:
            return True
        return False
    return True


def _foreign(reference: str | None, environ: Mapping[str, str]) -> tuple[Path, bytes | None, int] | None:
    """The file, its content (none of a directory) and its owner, if it is one to import and no profile of ours."""
    if reference is None or not may_be_foreign(reference, environ):
        return None
    path = Path(os.path.expanduser(reference))
    if path.is_dir():
        return path, None, path.stat().st_uid
    try:
        content = read_regular(path, import_limit(path))
    except FileFault:
        return None
    if _OURS.search(content.data) and not content.data.startswith(b"PK") and not _KEYFILE.search(content.data):
        return None
    if is_path(reference):
        from ikeclient.profile.importers.read import kind_of

        try:
            if not content.data.startswith((b"PK\x03\x04", b"\xff\xfe", b"\xfe\xff", b"\x30")):
                kind_of(content.data, path.name)
        except ProfileError as error:
            if "no kind of profile" in error.message:
                return None
    return path, content.data, content.owner


def _key(path: Path) -> str:
    return f"passphrase inside {path}"


def _remembering(ask: Ask | None, kept: dict[str, Secret], path: Path) -> Ask:
    """Ask once: the profile may be read again without a terminal."""

    def answer(prompt: str) -> str:
        key = _key(path)
        if key not in kept:
            if ask is None:
                raise EOFError
            kept[key] = Secret(ask(prompt).encode("utf-8", "surrogateescape"))
        return kept[key].reveal().decode("utf-8", "surrogateescape")

    return answer
