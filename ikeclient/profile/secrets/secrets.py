"""Where passwords, pre-shared keys and passphrases come from, and how they are kept from going anywhere else.

A profile says where a secret is, never what it is. What was read travels as a `Secret`, which has no representation
and cannot be pickled. Nothing that was read is quoted in an error. The ways in:

- `file`: readable by its owner only; one newline at the end is cut;
- `env`: erased from the environment after reading, also from what `/proc/PID/environ` shows;
- `command`: run without a shell and with a small environment; one newline at the end of what it prints is cut;
- `keyring`: the desktop's, through the package of that name where it is installed;
- `credential`: systemd's (`LoadCredential=`), below `$CREDENTIALS_DIRECTORY`;
- `prompt`: the terminal, through a function that the command line passes in.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ikeclient.errors import ProfileError, UsageError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.load.author import Author, expand
from ikeclient.profile.load.files import FileFault, read_regular, shown_path
from ikeclient.profile.load.private_files import read_private
from ikeclient.profile.secrets.command import run_for_secret
from ikeclient.wire.text import printable

if TYPE_CHECKING:
    from ikeclient.profile.model.schema import SecretSource

MAX_LENGTH = 64 << 10  # bytes
_CREDENTIAL = re.compile(r"[A-Za-z0-9_.@:-]{1,255}")
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Ask = Callable[[str], str]

ASKED = "asked for "  # how the key of a secret begins that was typed
_PASSPHRASE = f"{ASKED}passphrase"


class Secret:
    """Bytes that show themselves only to who calls `reveal`; comparing two takes the same time wherever they differ."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The secret itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        import hmac  # with all of OpenSSL, which a tunnel's helper would keep

        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret tells about it

    def __repr__(self) -> str:
        return "<secret>"

    def __format__(self, specification: str) -> str:
        return repr(self)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a secret is for: `name` in messages ("password"), `account` whom it belongs to, where relative files are.

    `kept` remembers what can be had only once, typed secrets and those of the environment, for a profile that is read
    again. `author` is the user with whose rights the source is read, None for our own; `key` the source's in the
    profile.
    """

    name: str
    account: str
    base_dir: Path
    ask: Ask | None
    kept: dict[str, Secret] = field(default_factory=dict, repr=False)
    author: Author | None = None
    key: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """The question for a person."""
        return f"{self.name[0].upper()}{self.name[1:]} for {printable(self.account, 100)}"

    def author_of(self, kind: str, path: str = "/") -> Author | None:
        """With whose rights the source `kind` is read, which is at `path`; None for our own.

        What whoever runs us set is theirs, but a relative path leads through the author's directory.
        """
        ours = self.author is None or (path.startswith("/") and self.author.gave((*self.key, kind)))
        return None if ours else self.author

    def once(self, key: str, get: Callable[[], bytes]) -> bytes:
        """What `get` gives, or gave before under that key."""
        if key not in self.kept:
            self.kept[key] = Secret(get())
        return self.kept[key].reveal()


def resolve(source: SecretSource | None, wanted: Wanted) -> Secret:
    """The secret that `source` leads to; without a source the terminal is asked.

    Raises ProfileError saying why there is none, or UsageError where nobody can be asked (hardening F13).
    """
    from ikeclient.profile.model.schema import SecretSource  # large, and not needed to keep a secret

    match source:
        case SecretSource(file=str() as file, insecure=insecure):
            author = wanted.author_of("file", file)
            path = wanted.base_dir / expand(file, author)
            value = _without_newline(read_private(path, MAX_LENGTH, insecure=insecure, author=author))
        case SecretSource(env=str() as variable):
            _refuse_foreign(wanted, "env", "the environment is not the profile's owner's", except_sudo=True)
            value = wanted.once(f"env {variable}", partial(_from_environment, variable, wanted))
        case SecretSource(command=tuple() as command):
            author = wanted.author_of("command", command[0])
            value = _without_newline(run_for_secret(command, wanted.base_dir, MAX_LENGTH, wanted.name, author=author))
        case SecretSource(keyring=str() as service):
            _refuse_foreign(wanted, "keyring", "root's keyring is not the profile's owner's")
            value = _from_keyring(service, wanted)
        case SecretSource(credential=str() as credential):
            _refuse_foreign(wanted, "credential", "root's credentials are not the profile's owner's")
            value = _without_newline(_from_credentials(credential, wanted))
        case _:
            again = " once more" if wanted.key[:1] == ("second_auth",) else ""  # two may be those of one account
            value = wanted.once(f"{ASKED}{wanted.name} of {wanted.account}{again}", partial(ask_for, wanted))
    if not value:
        raise ProfileError(f"the {wanted.name} is empty")
    return Secret(value)


def is_typed(source: SecretSource | None) -> bool:
    """Whether a person types what `source` stands for."""
    return source is None or bool(source.prompt)


def _refuse_foreign(wanted: Wanted, kind: str, why: str, *, except_sudo: bool = False) -> None:
    """Keep what is root's from the gateway of somebody else's profile (hardening F17)."""
    author = wanted.author_of(kind)
    if author is None or (except_sudo and author.called_sudo):
        return
    hint = f"if it shall be used: --set {'.'.join((*wanted.key, kind))}=NAME, or chown 0 the profile"
    raise _unreadable(wanted, f"the profile belongs to {author}, and {why}", hint)


def forget_typed(kept: dict[str, Secret]) -> bool:
    """Forget the passwords and keys that were typed, so that they are asked for again; false if there are none.

    A passphrase stays: it has opened its file, so it was right.
    """
    found = typed(kept)
    for key in found:
        del kept[key]
    return bool(found)


def typed(kept: Mapping[str, Secret]) -> list[str]:
    """The keys of what was typed and may have been mistyped."""
    return [key for key in kept if key.startswith(ASKED) and not key.startswith(_PASSPHRASE)]


def passphrases(kept: Mapping[str, Secret]) -> dict[str, bytes]:
    """The passphrases that were typed; after a profile was read they have opened their files."""
    return {key: secret.reveal() for key, secret in kept.items() if key.startswith(_PASSPHRASE)}


def ask_for(wanted: Wanted) -> bytes:
    """The answer of the person at the terminal; raises UsageError where there is none."""
    if wanted.ask is None:
        raise no_answer(wanted.name)
    try:
        return wanted.ask(f"{wanted.prompt}: ").encode("utf-8", "surrogateescape")
    except EOFError:
        raise UsageError(f"no {wanted.name} given", reason="the prompt was left with Ctrl-D") from None


def no_answer(name: str) -> UsageError:
    """The error for a prompt that nobody can answer."""
    return UsageError(
        f"no {name} given",
        reason="it would have to be asked for, and there is no terminal",
        hint="use --password-stdin, or name a file, env, command, keyring or credential in the profile",
    )


def erase_variable(name: str) -> bytes | None:
    """Take a variable out of the environment; its value, or None.

    Removing it is not enough: the kernel goes on showing the memory the process was started with in
    `/proc/PID/environ`, so the value is overwritten there first (hardening F10).
    """
    key = os.fsencode(name)
    if key not in os.environb:
        return None
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    address = libc.getenv(ctypes.c_char_p(key))
    value = os.environb[key]
    if address and ctypes.string_at(address) == value:
        ctypes.memset(address, ord("x"), len(value))
    del os.environb[key]
    return value


def _from_environment(variable: str, wanted: Wanted) -> bytes:
    if not _ENVIRONMENT.fullmatch(variable):
        raise _unreadable(wanted, "`env` wants the name of an environment variable")
    value = erase_variable(variable)
    if value is None:
        raise _unreadable(wanted, f"the environment variable {variable} is not set")
    return value


def _from_keyring(service: str, wanted: Wanted) -> bytes:
    try:
        value = _keyring().get_password(service, wanted.account)
    except ProfileError as error:
        raise _unreadable(wanted, f"it is in the keyring, but {error.message}", error.hint) from None
    except Exception as error:  # a backend may raise anything
        raise ProfileError(f"the keyring did not give the {wanted.name}", reason=type(error).__name__) from None
    if not isinstance(value, str):
        where = f"{printable(service, 80)}, account {printable(wanted.account, 80)}"
        raise ProfileError(f"the keyring holds no {wanted.name} for {where}")
    return value.encode()


def keyring_set(service: str, account: str, secret: str) -> None:
    """Store a secret in the desktop's keyring, where `{ keyring = service }` finds it. Raises ProfileError."""
    _in_keyring("set_password", service, account, secret)


def keyring_remove(service: str, account: str) -> None:
    """Remove a secret from the desktop's keyring. Raises ProfileError."""
    _in_keyring("delete_password", service, account)


def _in_keyring(action: str, *arguments: str) -> None:
    try:
        getattr(_keyring(), action)(*arguments)
    except ProfileError:
        raise
    except Exception as error:  # a backend may raise anything, and quote what it was given
        raise ProfileError("the keyring refused", reason=type(error).__name__) from None


def _keyring() -> Any:
    try:
        return importlib.import_module("keyring")
    except ImportError:
        hint = "pip install keyring, or use another source such as file or command"
        raise ProfileError("the Python package keyring is not installed", hint=hint) from None


def _from_credentials(credential: str, wanted: Wanted) -> bytes:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        hint = f"start ikeclient from a unit with LoadCredential={printable(credential, 80)}:/path/to/the/secret"
        raise _unreadable(wanted, "it is a systemd credential, but $CREDENTIALS_DIRECTORY is not set", hint)
    if not _CREDENTIAL.fullmatch(credential) or credential in (".", ".."):
        raise _unreadable(wanted, "`credential` wants the name of a systemd credential")
    path = Path(directory, credential)
    try:
        # systemd sets modes and access lists of this directory, so they are not for us to judge.
        return read_regular(path, MAX_LENGTH).data
    except FileFault as fault:
        raise ProfileError(f"{shown_path(path)}: {fault.reason}") from None


def _unreadable(wanted: Wanted, reason: str, hint: str | None = None) -> ProfileError:
    return ProfileError(f"the {wanted.name} cannot be read", reason=reason, hint=hint)


def _without_newline(value: bytes) -> bytes:
    return value.removesuffix(b"\r\n") if value.endswith(b"\r\n") else value.removesuffix(b"\n")
