"""Keys and SIM cards that stay where they are: found, before the first packet, by the process that may use them.

The PIN is read when a token wants one, and tried once. The last try that a token has before it locks is kept for a
person: a PIN that a program found somewhere is not worth it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from ikeclient.crypto.sign.remote_key import RemoteKey
from ikeclient.crypto.sign.signature import PublicKey
from ikeclient.errors import KeyUnavailable, ProfileError, SignatureError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.load.author import Author, Key, expand
from ikeclient.profile.load.trust import library
from ikeclient.profile.model.schema import Auth, KeySource, SecretSource, SimSource
from ikeclient.profile.secrets.sources import SecretNotRead, Sources
from ikeclient.signer.messages import (
    AgentKey,
    CardReader,
    Look,
    Open,
    Opened,
    Reference,
    Seen,
    TokenKey,
    User,
    pack_reference,
    result,
)
from ikeclient.signer.uri import parse_uri
from ikeclient.signer.worker import Worker, WorkerGone, worker

DEFAULT_MODULE = "p11-kit-proxy.so"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A key elsewhere, and the certificates beside it (DER), ours first."""

    key: RemoteKey
    certificates: tuple[bytes, ...]


def find(auth: Auth, source: KeySource, sources: Sources, known: bytes | None) -> Found:
    """Find the key; `known` is its public half if a certificate tells it.

    Raises ProfileError, and SecretNotRead once everything is checked that needs no key.
    """
    reference = _agent_key(auth, source, sources) if source.agent else _token_key(auth, source, sources)
    if sources.files_only:
        raise SecretNotRead("PIN", (auth.SECTION, "key", "pin"), typed=_is_prompt(source.pin))
    try:
        with worker(reference.user) as process:
            if isinstance(reference, TokenKey):
                reference = _with_pin(process, reference, auth, source, sources)
            opened = result(process.ask(Open(reference=pack_reference(reference), public_key=known)))
            assert isinstance(opened, Opened)
            key = PublicKey.from_spki(opened.public_key)
    except WorkerGone as error:
        raise ProfileError(f"key '{auth.SECTION}.key' cannot be used", reason=str(error)) from None
    except (KeyUnavailable, SignatureError) as error:
        raise ProfileError(error.message, reason=error.reason, hint=error.hint) from None
    if key.weakness:
        raise ProfileError("the private key cannot be used", reason=key.weakness)
    remote = RemoteKey(
        public_key=key, families=opened.families, place=opened.place, reference=pack_reference(reference)
    )
    return Found(key=remote, certificates=opened.certificates)


def _with_pin(process: Worker, reference: TokenKey, auth: Auth, source: KeySource, sources: Sources) -> TokenKey:
    """Return the reference with what the token asks for. Raises ProfileError, or UsageError if nobody can be asked."""
    seen = result(process.ask(Look(reference=pack_reference(reference))))
    assert isinstance(seen, Seen)
    reference = replace(reference, serial=seen.serial)
    if not seen.wants_pin:
        return reference
    if seen.pin_pad and source.pin is None:
        return replace(reference, pin_pad=True)
    return replace(reference, pin=_pin(seen, source.pin, (auth.SECTION, "key", "pin"), sources))


def _pin(seen: Seen, source: SecretSource | None, key: Key, sources: Sources) -> bytes:
    """Read the PIN that a token or a card wants. Raises ProfileError, or UsageError if nobody can be asked."""
    typed = source is None or _is_prompt(source)
    if seen.last_try and not typed:
        raise ProfileError(
            f"the PIN of {seen.name} has one try left before it locks, which is kept for a person",
            hint=f"set {'.'.join(key)} = {{ prompt = true }}, or log in once with the token's own program",
        )
    left = " (the last try before it locks)" if seen.last_try else " (few tries are left)" if seen.few_tries else ""
    own = replace(sources, stdin_password=sources.stdin_password if typed else None)
    return own.secret(source, "PIN", f"{seen.name}{left}", key).reveal()


def _is_prompt(source: SecretSource | None) -> bool:
    """Whether a person is asked for sure: a token or a card without a source for its PIN may want none."""
    return source is not None and source.prompt is not None


def find_card(auth: Auth, source: SimSource, sources: Sources) -> bytes:
    """Find the SIM card in its reader; returns the reference of who asks it.

    Raises ProfileError, and SecretNotRead once everything is checked that needs no card.
    """
    assert source.reader is not None
    reference = CardReader(reader=source.reader, user=_user(sources.author))
    if find_spec("smartcard") is None:
        raise ProfileError(
            f"key '{auth.SECTION}.sim.reader' needs the package pyscard",
            hint="pip install 'ikeclient[pcsc]', or name a program that asks the card as sim.command",
        )
    if sources.files_only:
        raise SecretNotRead("PIN", (auth.SECTION, "sim", "pin"), typed=_is_prompt(source.pin))
    try:
        with worker(reference.user) as process:
            seen = result(process.ask(Look(reference=pack_reference(reference))))
            assert isinstance(seen, Seen)
    except WorkerGone as error:
        raise ProfileError(f"key '{auth.SECTION}.sim' cannot be used", reason=str(error)) from None
    except KeyUnavailable as error:
        raise ProfileError(error.message, reason=error.reason, hint=error.hint) from None
    if seen.wants_pin:
        reference = replace(reference, pin=_pin(seen, source.pin, (auth.SECTION, "sim", "pin"), sources))
    return pack_reference(reference)


def _token_key(auth: Auth, source: KeySource, sources: Sources) -> Reference:
    assert source.pkcs11 is not None
    uri = parse_uri(source.pkcs11)
    from_uri = source.module is None and uri.module is not None
    written = source.module or uri.module or DEFAULT_MODULE
    key = (auth.SECTION, "key", "pkcs11" if from_uri else "module")
    author = sources.author_of(written, key) if "/" in written else sources.author
    what = f"key '{'.'.join(key)}' names"
    module = library(written, sources.base_dir, what, author)
    return TokenKey(module=module, uri=source.pkcs11, user=_user(sources.author))


def _agent_key(auth: Auth, source: KeySource, sources: Sources) -> Reference:
    """The key of the caller's agent: its socket is read now, while the environment is the caller's."""
    assert source.agent is not None
    author = sources.author
    if author is not None and not author.called_sudo and not author.gave((auth.SECTION, "key", "agent")):
        raise ProfileError(
            f"key '{auth.SECTION}.key' names a key of ssh-agent, which is not the profile's owner's",
            reason=f"the profile belongs to {author}",
        )
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        raise ProfileError(
            f"key '{auth.SECTION}.key' names a key of ssh-agent, but $SSH_AUTH_SOCK is not set",
            hint="start an agent, or keep the variable: sudo --preserve-env=SSH_AUTH_SOCK ikeclient ...",
        )
    if not Path(path).is_absolute():
        raise ProfileError("$SSH_AUTH_SOCK is not an absolute path")
    return AgentKey(socket=str(expand(path, None)), fingerprint=source.agent, user=_user(author))


def _user(author: Author | None) -> User | None:
    if author is None:
        return None
    return User(uid=author.uid, gid=author.gid, groups=author.groups, name=author.name, home=author.home)
