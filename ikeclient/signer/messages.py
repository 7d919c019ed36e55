"""What is said between the processes around a key that is elsewhere; `ipc.typed` writes and reads it.

A reference is what a `RemoteKey` carries for who signs: a `TokenKey` or an `AgentKey`, written as JSON. A SIM card has
one, too: a `CardReader`.
"""

from __future__ import annotations

import json
from dataclasses import field

from ikeclient.crypto.sign.schemes import Family, Scheme
from ikeclient.errors import KeyUnavailable
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.typed import Codec
from ikeclient.lazy_dataclass import dataclass

CODEC = Codec()


class PinRefused(KeyUnavailable):
    """The token took a PIN for wrong, or is locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """With whose rights the key is used; the groups are all that this user has."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """A key on a token: by the module at a path, the URI, and the serial number of the token it was found on.

    Without a `pin` the token is used without a login, or asks for the PIN itself (`pin_pad`).
    """

    module: str
    uri: str
    serial: bytes | None = None
    pin: bytes | None = field(default=None, repr=False)
    pin_pad: bool = False
    user: User | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKey:
    """A key of the ssh-agent that listens at a socket, by its fingerprint as `ssh-add -l` shows it."""

    socket: str
    fingerprint: str
    user: User | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardReader:
    """A SIM card, by the name of the PC/SC reader that it is in, or a part of it."""

    reader: str
    pin: bytes | None = field(default=None, repr=False)
    user: User | None = None


Reference = TokenKey | AgentKey | CardReader


def pack_reference(reference: Reference) -> bytes:
    """Return a reference as bytes, for a `RemoteKey`. They hold the PIN."""
    return json.dumps(CODEC.encode(reference)).encode("ascii")


def unpack_reference(data: bytes) -> Reference:
    """Return the reference again; raises ValueError."""
    return CODEC.decode(Reference, json.loads(data))  # type: ignore[arg-type]  # a union


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Find the token or the card of the reference, without a login."""

    reference: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The token: what it is called, and whether it wants a PIN, from us or from its own keys.

    `last_try` says that one more wrong PIN locks it.
    """

    name: str
    serial: bytes
    wants_pin: bool
    pin_pad: bool
    few_tries: bool
    last_try: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Log in, and find the key. `public_key` is its public half if that is known, which some tokens do not show."""

    reference: bytes = field(repr=False)
    public_key: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The key: its public half, what it can make, and the certificates that are beside it, ours first."""

    place: str
    public_key: bytes
    families: tuple[Family, ...]
    certificates: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """Sign with the first of `schemes` that the key can make; it is opened first if it is not yet.

    `public_key` is its public half, which some tokens do not show.
    """

    number: int
    reference: bytes = field(repr=False)
    octets: bytes = field(repr=False)
    schemes: tuple[Scheme, ...]
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What was made; the number is that of the request."""

    number: int
    scheme: Scheme
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It was not done. `pin`: the token refused the PIN, which must not be tried again."""

    number: int
    failure: Failure
    pin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AskCard:
    """Have the SIM card answer a challenge, in the words of `auth.sim.command`."""

    number: int
    reference: bytes = field(repr=False)
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSaid:
    """Its answer; the number is that of the request."""

    number: int
    text: str = field(repr=False)


Use = Sign | AskCard
Used = Signed | CardSaid
Request = Look | Open | Use
Answer = Seen | Opened | Used | Refused


def result(answer: Answer) -> Seen | Opened | Used:
    """Return the answer, or raise KeyUnavailable as what it tells."""
    if isinstance(answer, Refused):
        raise answer.failure.error(PinRefused if answer.pin else KeyUnavailable)
    return answer
