"""A connection of NetworkManager's as a profile.

`vpn.data` holds the keys of a profile with values as after `--set`, and `vpn.secrets` secrets by their keys:
`gateway.address=vpn.example.com`, `auth.password=...`. How a secret is kept is NetworkManager's `auth.password-flags`.
If a connection belongs to users (`connection.permissions`), files are read with their rights alone
(CVE-2025-9615).
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.author import Author, Key
from ikeclient.profile.load.connection import FLAGS, profile_of_connection
from ikeclient.profile.model.schema import Profile
from ikeclient.profile.secrets.secrets import Secret
from ikeclient.profile.secrets.sources import SecretNotRead
from ikeclient.wire.text import printable

SERVICE = "org.freedesktop.NetworkManager.ikeclient"
ROOT = Path("/")  # where relative paths would start

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.@+-]+")
_TIMEOUT = 60  # seconds, NetworkManager's own default
_STORED = "0"  # the flags of a secret that is in the connection, and so needs no person


@dataclass(frozen=True, slots=True, kw_only=True)
class VpnConnection:
    """What of a connection is ours. `users` may use it, all if there are none; `timeout` is in seconds."""

    name: str
    data: dict[str, str]
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    users: tuple[str, ...] = ()
    timeout: int = _TIMEOUT

    @property
    def tunnel(self) -> str:
        """The tunnel's name."""
        return _NOT_IN_NAMES.sub("-", self.name).strip("-.+@")[:48] or "networkmanager"

    @property
    def profile(self) -> Profile:
        """The profile. Raises ProfileError."""
        return profile_of_connection(self.data, f"connection {printable(self.name, 60)}")

    @property
    def authors(self) -> tuple[Author | None, ...]:
        """Whose rights files are read with; each of them must be allowed to. Raises ProfileError."""
        return tuple(map(_author, self.users)) or (None,)

    @property
    def given(self) -> dict[Key, Secret]:
        """The secrets by their keys in the profile."""
        return {
            tuple(key.split(".")): Secret(value.encode("utf-8", "surrogateescape"))
            for key, value in self.secrets.items()
            if value
        }

    @property
    def stored(self) -> frozenset[str]:
        """The names of the secrets that are kept with the connection: they are nobody's to type again."""
        return frozenset(name for name in self.secrets if self.data.get(name + FLAGS, _STORED) == _STORED)


def read_connection(settings: Mapping[str, Mapping[str, object]]) -> VpnConnection:
    """The connection as NetworkManager sends it. Raises ProfileError."""
    about, vpn = settings.get("connection", {}), settings.get("vpn", {})
    name, timeout = about.get("id"), vpn.get("timeout")
    data, secrets = _texts(vpn.get("data", {}), "vpn.data"), _texts(vpn.get("secrets", {}), "vpn.secrets")
    permissions = about.get("permissions", [])
    if not isinstance(permissions, list) or not all(isinstance(each, str) for each in permissions):
        raise ProfileError("connection.permissions is not a list of texts")
    return VpnConnection(
        name=name if isinstance(name, str) and name else "networkmanager",
        data=data,
        secrets=secrets,
        users=tuple(_user(each) for each in permissions),
        timeout=timeout if isinstance(timeout, int) and timeout > 0 else _TIMEOUT,
    )


def missing_secret(connection: VpnConnection, profile: Profile, author: Author | None, *, attended: bool) -> Key | None:
    """The first secret that is neither in a file nor given; None if all are there. Raises ProfileError.

    With `attended` a person answers what the gateway asks during the login.
    """
    given = connection.given
    try:
        compile_profile(profile, ROOT, None, author=author, files_only=True, attended=attended, given=given)
    except SecretNotRead as unread:
        return None if unread.key in given else unread.key
    return None


def missing_secrets(connection: VpnConnection, author: Author | None = None) -> list[Key]:
    """All secrets that are neither in a file nor given, as far as can be told. Raises ProfileError."""
    profile = connection.profile
    found: list[Key] = []
    secrets = dict(connection.secrets)
    while True:
        assumed = VpnConnection(name=connection.name, data=connection.data, secrets=secrets)
        try:
            key = missing_secret(assumed, profile, author, attended=True)
        except ProfileError:
            if not found:
                raise
            return found  # the assumed one opens nothing
        if key is None:
            return found
        found.append(key)
        secrets[".".join(key)] = "assumed-assumed-assumed-assumed-assumed"


def compile_connection(connection: VpnConnection, *, interactive: bool) -> CompiledProfile:
    """The compiled profile with all its secrets. Raises ProfileError.

    If it is `interactive`, NetworkManager's agents answer what the gateway asks, and type again what it refuses.
    """
    profile = connection.profile
    first, *others = connection.authors
    for author in others:
        missing_secret(connection, profile, author, attended=interactive)
    return compile_profile(
        profile,
        ROOT,
        None,
        name=connection.tunnel,
        author=first,
        attended=interactive,
        given=connection.given,
    )


def _texts(value: object, what: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and isinstance(item, str) for key, item in value.items()
    ):
        raise ProfileError(f"{what} is not a table of texts")
    return value


def _user(permission: str) -> str:
    kind, _, rest = permission.partition(":")
    name = rest.partition(":")[0]
    if kind != "user" or not name:
        raise ProfileError(f"connection.permissions holds {printable(permission, 60)!a}, which names no user")
    return name


def _author(name: str) -> Author:
    try:
        return replace(Author.of(pwd.getpwnam(name).pw_uid), of_connection=True)
    except KeyError:
        raise ProfileError(
            f"the connection belongs to user {printable(name, 60)}, who is not known here",
            hint="set connection.permissions anew",
        ) from None
