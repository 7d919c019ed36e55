"""What we log in with: the credentials of the EAP methods."""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING, Self

from ikeclient.crypto.algorithms.sim_keys import SimKeys
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import EapType, IdType

if TYPE_CHECKING:
    from ikeclient.crypto.pki.certificate import Certificate
    from ikeclient.crypto.pki.trust_store import TrustStore
    from ikeclient.crypto.sign.file_key import FileKey


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsCredentials:
    """What the methods over TLS need besides the account.

    `trust` and `server_name` (type and value of an identity) say who the authentication server must prove to be, apart
    from the gateway. `chain` and `key` are our certificate, ours first. `inner` is the profile's word for what runs
    inside TTLS and PEAP, None for MSCHAPv2; `anonymous_identity` is what is said outside of TLS, None for what
    `peer.outer_identity` makes of the account. `check_revocation` asks for a query about the server's certificates.
    `tunnelled` are the credentials of a method that runs inside of another one over TLS.
    """

    trust: TrustStore
    server_name: tuple[IdType, bytes] | None = None
    chain: tuple[Certificate, ...] = ()
    key: FileKey | None = field(default=None, repr=False)
    inner: str | None = None
    anonymous_identity: str | None = None
    check_revocation: bool = False
    tunnelled: bool = False

    def expecting(self, type_: IdType, value: bytes) -> Self:
        """The same, with a server that is to prove this identity unless the profile names another."""
        return self if self.server_name is not None else replace(self, server_name=(type_, value))

    def inside(self) -> Self:
        """The same for a method inside the tunnel, where nothing is nested again."""
        return replace(self, inner=None, anonymous_identity=None, tunnelled=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardKeys:
    """What a card for tests is made of."""

    k: bytes = field(repr=False)
    opc: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FastReauthentication:
    """What a server allows to skip the card next time: its name for us, the keys and the last counter."""

    identity: str
    keys: SimKeys = field(repr=False)
    counter: int = 0


@dataclass(slots=True)
class SimMemory:
    """What lasts from one authentication to the next while the process lives: names, and a test card's sequence."""

    pseudonyms: dict[EapType, str] = field(default_factory=dict)
    reauthentications: dict[EapType, FastReauthentication] = field(default_factory=dict)
    sequence: int = 0

    def name(self, method: EapType) -> str | None:
        """The name that a server gave us, which only it can read: for a fast re-authentication, or the pseudonym."""
        fast = self.reauthentications.get(method)
        return fast.identity if fast is not None else self.pseudonyms.get(method)

    def advance(self, sequence: int) -> None:
        """Take note of the last sequence number that a test card has accepted."""
        self.sequence = sequence

    def forget(self, method: EapType, name: str) -> None:
        """Never say a name again that led to nothing."""
        fast = self.reauthentications.get(method)
        if fast is not None and fast.identity == name:
            del self.reauthentications[method]
        if self.pseudonyms.get(method) == name:
            del self.pseudonyms[method]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimCredentials:
    """What the methods with a card need besides the permanent identity.

    `keys` are of a card for tests; without them each challenge is a `NeedCredential` of kind `usim`.
    `anonymous_identity` answers the identity request as long as no server has given us a pseudonym. With `private` the
    permanent identity is not told to a server that gave us one, as is right for a gateway that has not proven itself.
    """

    keys: CardKeys | None = None
    anonymous_identity: str | None = None
    private: bool = False
    memory: SimMemory = field(default_factory=SimMemory, repr=False, compare=False)
