"""Where a profile's files and secrets are looked for while it is compiled, and with whose rights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import field
from pathlib import Path
from typing import Self

from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.load.author import Author, Key, expand
from ikeclient.profile.load.files import read_configuration
from ikeclient.profile.load.private_files import read_private
from ikeclient.profile.model.schema import KeyFile, SecretSource
from ikeclient.profile.secrets.secrets import Ask, Secret, Wanted, is_typed, resolve
from ikeclient.profile.secrets.typed import TypedSecret


def _about_file(key: Key) -> AbstractContextManager[None]:
    """Say which key of the profile names a file, the way people write it."""
    return ProfileError.about(key[:-1] if key[-1] == "file" else key)


class SecretNotRead(Exception):
    """A secret has to be asked for, or comes from elsewhere than a file; everything before it was right.

    `key` is the secret's in the profile, `name` what people call it; `warnings` are sentences for people about what was
    read until then. `typed`: a person is to type it.
    """

    warnings: tuple[str, ...] = ()

    def __init__(self, name: str, key: Key, *, typed: bool) -> None:
        super().__init__(name)
        self.name = name
        self.key = key
        self.typed = typed

    def after(self, warnings: Iterable[str]) -> Self:
        """Tell what was found before; returns the exception itself."""
        self.warnings = tuple(warnings)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where secrets are looked for. `stdin_password` stands in for the one secret that the profile's method needs.

    `kept` is for secrets that can be had only once, see `Wanted`; `author` has the rights that files are read with.
    `typed` collects the secrets that a person typed. With `files_only` a secret that is in no file raises
    SecretNotRead; `attended` says that a person answers during the login. `given` are secrets by their keys, which
    take the place of their sources.
    """

    base_dir: Path
    ask: Ask | None
    stdin_password: Secret | None = None
    kept: dict[str, Secret] = field(default_factory=dict, repr=False)
    warnings: list[str] = field(default_factory=list)
    typed: list[TypedSecret] = field(default_factory=list)
    author: Author | None = None
    files_only: bool = False
    attended: bool = False
    given: Mapping[Key, Secret] = field(default_factory=dict, repr=False)

    def path(self, written: str) -> Path:
        """A path of the profile; relative ones start at the profile's directory."""
        return self.base_dir / expand(written, self.author)

    def read(self, written: str, limit: int, key: Key) -> bytes:
        """The file that `key` of the profile names. Raises ProfileError."""
        with _about_file(key):
            return read_configuration(self.path(written), limit, self.author_of(written, key)).data

    def read_private(self, file: KeyFile, limit: int, key: Key) -> bytes:
        """The file with a secret that `key` of the profile names. Raises ProfileError."""
        author = self.author_of(file.file, key)
        with _about_file(key):
            return read_private(self.path(file.file), limit, insecure=file.insecure, author=author)

    def secret(self, source: SecretSource | None, name: str, account: str, key: Key) -> Secret:
        """The secret called `name`: from standard input where it was given there, else from its source at `key`."""
        if self.stdin_password is not None:
            return self.stdin_password
        known = self.given.get(key)
        if known is None and self.files_only and (source is None or source.file is None):
            raise SecretNotRead(name, key, typed=is_typed(source))
        wanted = Wanted(
            name=name,
            account=account,
            base_dir=self.base_dir,
            ask=self.ask,
            kept=self.kept,
            author=self.author,
            key=key,
        )
        with ProfileError.about(key):
            found = known or resolve(source, wanted)
        if is_typed(source) and key[-1] in ("password", "psk"):
            self.typed.append(TypedSecret(section=key[0], key=key[-1], prompt=wanted.prompt))
        return found

    def author_of(self, written: str, key: Key) -> Author | None:
        """With whose rights a file is read; a relative path leads through the author's directory."""
        ours = self.author is None or (written.startswith("/") and self.author.gave(key))
        return None if ours else self.author
