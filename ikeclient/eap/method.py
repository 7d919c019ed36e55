"""What an EAP method is to the peer, and what all methods share: the wish for a password and its limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from datetime import datetime
from typing import Protocol

from ikeclient.crypto.pki.revocation_status import RevocationQuery
from ikeclient.eap.credentials import SimCredentials, TlsCredentials
from ikeclient.errors import AuthenticationFailed, NegotiationRefused
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import EapType
from ikeclient.wire.text import printable

MAX_CHARACTERS = 256  # of a user name and of a password (RFC 2759 section 4)

# The profile's words for the methods; also those of methods that only a gateway may offer.
NAMES: dict[EapType, str] = {
    EapType.MD5_CHALLENGE: "eap-md5",
    EapType.GTC: "eap-gtc",
    EapType.TLS: "eap-tls",
    EapType.TTLS: "eap-ttls",
    EapType.PEAP: "eap-peap",
    EapType.MSCHAPV2: "eap-mschapv2",
    EapType.SIM: "eap-sim",
    EapType.AKA: "eap-aka",
    EapType.AKA_PRIME: "eap-aka-prime",
    EapType.EXPANDED: "a vendor's EAP method",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedCredential:
    """The conversation waits for a secret that is not here.

    `kind` is `password` for what only a person has, with a `prompt` that is safe to display, or `usim` for a challenge
    to a card, with a `prompt` as `usim` has it.
    """

    kind: str
    prompt: str


class InnerPeer(Protocol):
    """An EAP conversation inside of another: `peer.EapPeer`, as a method sees it."""

    @property
    def settled(self) -> bool:
        """Whether its method has nothing against success."""
        ...

    @property
    def confirmed(self) -> bool:
        """Whether its method has shown that the other side accepts us."""
        ...

    @property
    def msk(self) -> bytes | None:
        """The keys of its method after `conclude`."""
        ...

    @property
    def refusal(self) -> AuthenticationFailed | None:
        """Why it is going to fail."""
        ...

    def respond(self, packet: bytes) -> bytes | NeedCredential | None:
        """See `EapPeer.respond`."""
        ...

    def supply(self, password: str) -> bytes | NeedCredential:
        """See `EapPeer.supply`."""
        ...

    def decline(self) -> bytes | None:
        """See `EapPeer.decline`."""
        ...

    def conclude(self) -> None:
        """Take the other side's word for success; raises GatewayNotAuthenticated unless `settled`."""
        ...

    def take_notices(self) -> str:
        """What its method had to say to the person."""
        ...

    def take_queries(self) -> tuple[RevocationQuery, ...]:
        """See `EapPeer.take_queries`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a method is made with. `password` None: a person is asked. `now` and `tls` are for methods over TLS,
    `sim` for those with a card. `said` answered the identity request, `methods` are all that may be used.

    `inner_peer` begins a conversation with some of the methods, with the same account.
    """

    user: str
    password: str | None = field(default=None, repr=False)
    entropy: Callable[[int], bytes]
    tls: TlsCredentials | None = None
    now: Callable[[], datetime] | None = None
    inner_peer: Callable[[tuple[EapType, ...]], InnerPeer]
    sim: SimCredentials | None = None
    said: str = ""
    methods: tuple[EapType, ...] = ()


class Remark:
    """What a method tells besides its answers, each of it once.

    `message` is what the gateway had to say to the person, safe to display. `queries` are paths of servers that have
    proven themselves with their certificates, and whose revocation is to be judged before the answer is sent.
    """

    message = ""
    queries: tuple[RevocationQuery, ...] = ()

    def take_message(self) -> str:
        """Return the message, "" if there is nothing new."""
        taken, self.message = self.message, ""
        return taken

    def take_queries(self) -> tuple[RevocationQuery, ...]:
        """Return the queries, none if there is nothing new."""
        taken, self.queries = self.queries, ()
        return taken


class Method(Protocol):
    """One EAP method of type 4 or above, for one conversation.

    `done` tells that the method has nothing against an EAP Success now; `msk` is set at the same moment by methods
    that generate keys (64 bytes). `refusal` is set when the gateway told why it will end in failure.
    """

    type: EapType
    msk: bytes | None
    done: bool
    refusal: AuthenticationFailed | None

    def take_message(self) -> str:
        """See `Remark`."""
        ...

    def take_queries(self) -> tuple[RevocationQuery, ...]:
        """See `Remark`."""
        ...

    def respond(self, data: bytes, identifier: int) -> bytes | NeedCredential:
        """Answer the type data of one request with the type data of the response.

        After NeedCredential nothing has changed: `supply` the secret and pass the same request again. Raises
        NegotiationRefused for data without the method's structure, GatewayNotAuthenticated when the gateway fails to
        prove itself, AuthenticationFailed when it refuses us in a way that needs no answer.
        """
        ...

    def supply(self, password: str) -> None:
        """Take the secret that NeedCredential asked for; it has passed `password_fault`."""
        ...

    def decline(self) -> bytes | None:
        """Answer the waiting request without the secret, because nobody can be asked; None if that is impossible."""
        ...


def method_name(type_: EapType) -> str:
    """The method as the profile names it, or its number."""
    return NAMES.get(type_, f"EAP type {int(type_)}")


def breach(reason: str) -> NegotiationRefused:
    """The error for a gateway that does not keep to the rules of EAP or of a method."""
    return NegotiationRefused("the gateway broke the EAP protocol", reason=reason)


def refused(user: str, reason: str) -> AuthenticationFailed:
    """The error for a gateway that does not accept our proof of the password and does not say more."""
    return AuthenticationFailed(
        f"the gateway refused user {quoted(user)} or the password",
        reason=reason,
        hint="check the user name and the password",
    )


def ended_early(method: str, said: str) -> AuthenticationFailed:
    """The error for a failure of a method over TLS before the server has shown its certificate to who `said` that."""
    return AuthenticationFailed(
        "the gateway ended the login before the authentication server had proven itself",
        reason=f"EAP Failure during {method}; of us it knows the name {quoted(said)} only",
        hint="the authentication server may be down; else check auth.user and auth.anonymous_identity",
    )


def certificate_refused(method: str = "eap-tls", *, accepted: bool) -> AuthenticationFailed:
    """The error for a failure with our certificate that says nothing, before or after the server had `accepted` us."""
    if accepted:
        return AuthenticationFailed(
            "the authentication server accepted our certificate, but the gateway refuses the connection",
            reason=f"EAP Failure after {method} had succeeded",
            hint="ask the gateway's administrator whether this account may use the VPN",
        )
    return AuthenticationFailed(
        "the authentication server refused our certificate",
        reason=f"EAP Failure during {method}",
        hint="check that the server trusts our certificate and knows its name",
    )


def quoted(user: str) -> str:
    """The user name as errors and prompts show it."""
    return f"'{printable(user, 80)}'"


def password_prompt(user: str) -> str:
    """What a person is asked for the account's password with."""
    return f"Password for {quoted(user)}"


def identity_fault(identity: str) -> str | None:
    """Why `identity` cannot be an EAP identity, in words that follow "the user name"; None if it can."""
    if fault := _text_fault(identity):
        return fault
    if identity.endswith("\\"):
        return "ends with its domain: a name must follow the backslash"
    return None


def password_fault(password: str) -> str | None:
    """Why `password` cannot be used, in words that follow "the password"; None if it can. Never quotes it."""
    return _text_fault(password)


def _text_fault(text: str) -> str | None:
    if not text:
        return "is empty"
    if "\0" in text:
        return "contains a NUL character"
    try:
        units = len(text.encode("utf-16-le")) // 2
    except UnicodeEncodeError:
        return "is not valid Unicode text"
    if units > MAX_CHARACTERS:
        return f"is longer than {MAX_CHARACTERS} characters"
    return None
