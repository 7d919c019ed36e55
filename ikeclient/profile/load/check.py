"""Whether a profile can connect: everything that `connect` does before its first packet, without asking anybody.

Secrets that would have to be typed, or that come from a command, a keyring, the environment or systemd, are not read;
all the rest is, files included. What is not there is told as keys to fill in.
"""

from __future__ import annotations

from collections.abc import Iterator

from ikeclient.crypto.pki.trust_store import Certificate
from ikeclient.errors import IkeclientError, ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.compile import compile_profile, gateway_method, unsupported
from ikeclient.profile.load.author import Key
from ikeclient.profile.load.load import LoadedProfile
from ikeclient.profile.model.methods import SUPPORTED, has_card, is_eap, needs_password, uses_card, uses_certificate
from ikeclient.profile.model.problems import InvalidProfile, Problem
from ikeclient.profile.model.schema import Auth, SecretSource
from ikeclient.profile.secrets.credentials import MAX_KEY_FILE, is_pkcs12
from ikeclient.profile.secrets.secrets import Secret
from ikeclient.profile.secrets.sources import SecretNotRead, Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What keeps a profile from connecting: `problems` with keys that are missing, or one `error`."""

    problems: tuple[Problem, ...] = ()
    error: ProfileError | None = None
    warnings: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether `connect` would send its first packet."""
        return not self.problems and self.error is None

    @property
    def missing(self) -> tuple[str, ...]:
        """The keys that are not set, or whose files are not there."""
        return tuple(problem.key for problem in self.problems)

    @property
    def absent(self) -> tuple[str, ...]:
        """A sentence for each file that is not there."""
        return tuple(f"key '{each.key}' {each.text}" for each in self.problems if each.text != _UNSET)

    def require(self) -> None:
        """Raise ProfileError unless the profile is ready."""
        if self.error is not None:
            raise self.error
        if self.problems:
            raise InvalidProfile(self.problems)


_UNSET = "is missing"


def check_profile(loaded: LoadedProfile) -> Check:
    """Try everything but the first packet. Raises nothing."""
    try:
        with loaded.places.told():
            found = dict(_missing(loaded))
            if not found:
                compiled = compile_profile(
                    loaded.profile, loaded.base_dir, None, name=loaded.name, author=loaded.author, files_only=True
                )
    except SecretNotRead as unread:
        return Check(warnings=unread.warnings)
    except ProfileError as error:
        return Check(error=error)
    except IkeclientError as error:
        return Check(error=ProfileError(error.message, reason=error.reason, hint=error.hint))
    if found:
        problems = (
            Problem(place=loaded.places.of(tuple(key.split("."))), key=key, text=text) for key, text in found.items()
        )
        return Check(problems=tuple(problems))
    return Check(warnings=compiled.warnings)


def typed_secret(loaded: LoadedProfile) -> tuple[str, str] | None:
    """Return the key of a secret that a person would have to type, and its name; None if none is known of.

    Nothing but files is read: what else the profile names is taken for right.
    """
    given: dict[Key, Secret] = {}
    while True:
        try:
            compile_profile(
                loaded.profile,
                loaded.base_dir,
                None,
                name=loaded.name,
                author=loaded.author,
                files_only=True,
                given=given,
            )
        except SecretNotRead as unread:
            if unread.typed:
                return ".".join(unread.key), unread.name
            if unread.key in given:
                return None
            given[unread.key] = Secret(b"0")
        except IkeclientError:  # perhaps because of what was taken for a passphrase
            return None
        else:
            return None


def _missing(loaded: LoadedProfile) -> Iterator[tuple[str, str]]:
    """The keys that have to be set, or whose files have to be there, each with what is wrong with it."""
    for auth in _authentications(loaded):
        if auth.method not in SUPPORTED:
            raise unsupported(auth.method)
    profile = loaded.profile
    files = _Files(loaded)
    if gateway_method(profile) != "psk":
        yield from files.named("gateway.ca", profile.gateway.ca or ())
    elif profile.auth.method != "psk":
        yield from files.secret("auth.psk", profile.auth.psk, required=True)
    for auth in _authentications(loaded):
        yield from _unset(files, auth)
    if profile.ppk is not None:
        yield from files.secret("ppk.secret", profile.ppk.secret)


def _authentications(loaded: LoadedProfile) -> list[Auth]:
    return [auth for auth in (loaded.profile.auth, loaded.profile.second_auth) if auth is not None]


def _unset(files: _Files, auth: Auth) -> Iterator[tuple[str, str]]:
    if auth.method == "psk":
        if auth.identity is None:
            yield f"{auth.SECTION}.identity", _UNSET
        yield from files.secret(f"{auth.SECTION}.psk", auth.psk, required=True)
        return
    yield from files.named(f"{auth.SECTION}.server_ca", auth.server_ca or ())
    if uses_certificate(auth.method) or auth.inner == "tls" or (is_eap(auth.method) and auth.certificate is not None):
        yield from _certificate(files, auth)
    if is_eap(auth.method) and needs_password(auth):
        yield from files.secret(f"{auth.SECTION}.password", auth.password)
    if auth.sim is None:
        if uses_card(auth.method):
            yield f"{auth.SECTION}.sim", _UNSET
    elif has_card(auth):
        yield from files.secret(f"{auth.SECTION}.sim.k", auth.sim.k)
        yield from files.secret(f"{auth.SECTION}.sim.opc", auth.sim.opc)
    if is_eap(auth.method) and not uses_certificate(auth.method) and auth.identity is None and auth.user is None:
        yield f"{auth.SECTION}.user", _UNSET


def _certificate(files: _Files, auth: Auth) -> Iterator[tuple[str, str]]:
    data: bytes | None = None
    if auth.certificate is None:
        if auth.key is None or auth.key.pkcs11 is None:  # a token may have the certificate
            yield f"{auth.SECTION}.certificate", _UNSET
    else:
        lacking = list(files.named(f"{auth.SECTION}.certificate", [auth.certificate.file]))
        yield from lacking
        data = None if lacking else files.content(f"{auth.SECTION}.certificate", auth.certificate.file)
    if auth.key is not None:
        yield from files.named(f"{auth.SECTION}.key", [auth.key.file] if auth.key.file else [])
        yield from files.secret(f"{auth.SECTION}.key.pin", auth.key.pin)
    elif data is not None and _is_certificate_only(data):
        yield f"{auth.SECTION}.key", "is missing: the certificate's file holds no private key"
    yield from files.secret(f"{auth.SECTION}.key_passphrase", auth.key_passphrase)


def _is_certificate_only(data: bytes) -> bool:
    if is_pkcs12(data) or b"PRIVATE KEY-----" in data:
        return False
    try:
        return bool(Certificate.load_many(data))
    except ProfileError:
        return False


class _Files:
    """The files that a profile names, read with the rights that `connect` would read them with."""

    def __init__(self, loaded: LoadedProfile) -> None:
        self._sources = Sources(base_dir=loaded.base_dir, ask=None, author=loaded.author)

    def content(self, key: str, written: str) -> bytes:
        """The content of a file; raises ProfileError."""
        return self._sources.read(written, MAX_KEY_FILE, tuple(key.split(".")))

    def named(self, key: str, names: tuple[str, ...] | list[str]) -> Iterator[tuple[str, str]]:
        """The key, if one of its files is not there."""
        for written in names:
            try:
                self._sources.read(written, 4 * MAX_KEY_FILE, tuple(key.split(".")))
            except ProfileError as error:
                if "no such file" in error.message:
                    yield key, f"names {error.message}"
                    return

    def secret(self, key: str, source: SecretSource | None, *, required: bool = False) -> Iterator[tuple[str, str]]:
        """The key, if it is not set although it must be, or if its file is not there."""
        if source is None and required:
            yield key, _UNSET
        elif source is not None and source.file is not None:
            yield from self.named(key, [source.file])
