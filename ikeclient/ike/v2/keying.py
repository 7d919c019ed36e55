"""What makes an IKE SA: SPIs, suite and keys, however they were agreed on (RFC 7296 sections 2.14 and 2.18)."""

from __future__ import annotations

from dataclasses import field

from ikeclient.crypto.algorithms.keymat import IkeKeys
from ikeclient.crypto.algorithms.transforms import IkeSuite
from ikeclient.ike.events import NatStatus
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import HashAlgorithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Keying:
    """The result of IKE_SA_INIT or of a rekey. `initiator` is whether we are the SA's original initiator.

    `spis` are both SPIs, the initiator's first.
    """

    spi_i: bytes
    spi_r: bytes
    suite: IkeSuite
    keys: IkeKeys = field(repr=False)
    initiator: bool
    fragmentation: bool
    spis: bytes = field(init=False, repr=False)  # looked at for whatever anybody sends

    def __post_init__(self) -> None:
        object.__setattr__(self, "spis", self.spi_i + self.spi_r)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOffers:
    """What the peer's IKE_SA_INIT says about IKE_AUTH: more than one authentication (RFC 4739), a PPK (RFC 8784).

    `auth_methods` are those that it announces, for people (RFC 9593). `asks_status` is whether it wants an OCSP
    response about our certificate (RFC 4806).
    """

    multiple_auth: bool = False
    ppk: bool = False
    auth_methods: tuple[str, ...] = ()
    asks_status: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One acceptable answer to IKE_SA_INIT, with what follows from it. Not authenticated yet.

    `request` and `response` are the two messages as they were sent, which AUTH covers; `peer_hashes` are the hashes
    that the peer verifies, None if it does not speak RFC 7427. `certain` is false if the answer may be to an earlier
    request with the same key share, which differed in its cookie.
    """

    keying: Keying
    nonce_i: bytes
    nonce_r: bytes
    request: bytes = field(repr=False)
    response: bytes = field(repr=False)
    nat: NatStatus
    peer_hashes: frozenset[HashAlgorithm] | None
    certain: bool = True
    offers: PeerOffers = PeerOffers()
