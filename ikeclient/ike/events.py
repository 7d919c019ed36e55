"""What the protocol core hands out: datagrams to send and events to act on. Flat values, nothing that does anything."""

from __future__ import annotations

from dataclasses import field
from datetime import datetime
from enum import StrEnum, auto
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from ikeclient.crypto.algorithms.keymat import ChildKeys, IkeKeys
from ikeclient.crypto.algorithms.transforms import EspSuite, IkeSuite
from ikeclient.crypto.pki.bundles import CertificateUrls
from ikeclient.crypto.pki.revocation_status import RevocationQuery
from ikeclient.crypto.sign.remote_key import SignatureRequest
from ikeclient.errors import IkeclientError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.selector import TrafficSelector

IPAddress = IPv4Address | IPv6Address

IKE_PORT = 500
NAT_PORT = 4500


@dataclass(frozen=True, slots=True)
class Path:
    """A pair of UDP end points. Remote port 500 carries bare IKE; any other carries the non-ESP marker (RFC 3948)."""

    local_address: IPAddress
    local_port: int
    remote_address: IPAddress
    remote_port: int

    def __str__(self) -> str:
        return f"{self.local_address}[{self.local_port}] - {self.remote_address}[{self.remote_port}]"


@dataclass(frozen=True, slots=True)
class Datagram:
    """One IKE message to send along `path`; `data` is without the non-ESP marker, which the socket's owner adds.

    With `dont_fragment` it probes the path: IP must not fragment it, whatever the machine believes about the path.
    """

    data: bytes
    path: Path
    dont_fragment: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A step of connecting was reached: `negotiating`, `authenticating`, `configuring`."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something worth reading that changes nothing, e.g. a refused configuration item; `text` is escaped."""

    text: str


class NeedKind(StrEnum):
    """What an exchange may need from outside."""

    PASSWORD = auto()
    SIGNATURE = auto()
    USIM = auto()
    REVOCATION = auto()
    CERTIFICATES = auto()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Need:
    """An exchange waits for something that only the world outside has; timers go on meanwhile.

    Answer it once, with `Initiator.supply` or `Initiator.refuse`; both are given this very object. `request` says what
    is asked: for a password the prompt to show (escaped), and the value to supply is the password; for a signature
    where the key is, and the value to supply is the `Signature` that `to_sign` asks for; for a USIM the challenge, and
    the value is the card's answer, both as `eap.usim` has them; for the revocation of a proven gateway's certificate
    the query, and the value is a `PathRevocation`; for certificates that an unproven gateway named by their URLs these,
    and the value is `FetchedCertificates`.
    """

    kind: NeedKind
    request: str | RevocationQuery | CertificateUrls
    to_sign: SignatureRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeKeysDerived:
    """The keys of an IKE SA, for decrypting captures; only with `IkeConfig.disclose_keys`."""

    spi_i: bytes
    spi_r: bytes
    suite: IkeSuite
    keys: IkeKeys = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NatStatus:
    """Who sits behind a NAT, as the NAT detection hashes tell (RFC 7296 section 2.23)."""

    local: bool
    remote: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How one side proved who it is: the `method` as a profile names it; the others with a signature only.

    `subject` (escaped), `serial` (hexadecimal) and `expires` are those of the certificate. `key` says where our key is,
    if it is in no file, `revocation` what is known about that of the gateway's path, in words.
    """

    method: str
    subject: str | None = None
    serial: str | None = None
    expires: datetime | None = None
    signature: str | None = None
    key: str | None = None
    revocation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proofs:
    """How both sides proved who they are, each in order; `ppk` says whether a post-quantum key was mixed in."""

    gateway: tuple[Proof, ...] = ()
    local: tuple[Proof, ...] = ()
    ppk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeEstablished:
    """The gateway is authenticated and the IKE SA is up (also after every rekey of the IKE SA, with `rekeyed` set)."""

    spi_i: bytes
    spi_r: bytes
    suite: IkeSuite
    gateway_identity: str
    nat: NatStatus
    mobike: bool
    fragmentation: bool
    rekey_at: float
    rekeyed: bool = False
    proofs: Proofs = Proofs()


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What the gateway assigned in CFG_REPLY, after the checks of RFC 7296 section 3.15 and the caps of this client.

    `subnets` are what lies behind the gateway, `excluded` what it wants outside the tunnel, `exclude_lan` whether that
    is the client's own network. `p_cscf` are an operator's servers for calls (RFC 7651).
    """

    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    dns_servers: tuple[IPAddress, ...] = ()
    dns_domains: tuple[str, ...] = ()
    subnets: tuple[IPv4Network | IPv6Network, ...] = ()
    excluded: tuple[IPv4Network | IPv6Network, ...] = ()
    exclude_lan: bool = False
    p_cscf: tuple[IPAddress, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEstablished:
    """A Child SA to install. SPIs are integers; `replaces` is the inbound SPI of the Child SA it takes over from.

    If the rekey was `by_peer`, we go on sending on that one until the peer is ready for this (RFC 7296 section 2.8).
    Keys are named by the direction seen from here: `keys.inbound` decrypts, `keys.outbound` encrypts.
    """

    spi_in: int
    spi_out: int
    suite: EspSuite
    keys: ChildKeys = field(repr=False)
    local_selectors: tuple[TrafficSelector, ...]
    remote_selectors: tuple[TrafficSelector, ...]
    rekey_at: float
    replaces: int | None = None
    by_peer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildClosed:
    """A Child SA to remove; `replaced` tells whether another one carries its traffic already."""

    spi_in: int
    replaced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChanged:
    """Send ESP (and expect IKE) along `path` from now on: the float to port 4500, or a MOBIKE move."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Roamed:
    """The gateway confirmed `path`: it sends there from now on (RFC 4555 section 3.5)."""

    path: Path
    nat: NatStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRefused:
    """The gateway does not accept `path`; another one has to be tried."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAddresses:
    """Further addresses at which the gateway can be reached, besides the one in use (RFC 4555 section 3.6)."""

    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardElsewhere:
    """A genuine request of the gateway came from `address`, which is not the one in use: it may have moved there.

    The address stands outside of what was authenticated, and is only worth a question (RFC 4555 sections 3.6 and 3.7).
    """

    address: IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class ReauthenticationDue:
    """The gateway soon wants a new authentication (RFC 4478), which only a new connection brings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathProbed:
    """What became of `Initiator.probe_path`: whether a packet of `size` bytes, IP header included, reached the gateway.

    `asked` is the size that was asked for; the cipher may have made it some bytes shorter.
    """

    asked: int
    size: int
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The connection is over. `error` says why; None after our own `close`. The last event."""

    error: IkeclientError | None = None


PathEvent = GatewayAddresses | HeardElsewhere | Roamed | PathRefused | PathProbed

Event = (
    Progress
    | Notice
    | Need
    | IkeKeysDerived
    | IkeEstablished
    | Configuration
    | ChildEstablished
    | ChildClosed
    | PathChanged
    | Roamed
    | PathRefused
    | GatewayAddresses
    | HeardElsewhere
    | ReauthenticationDue
    | PathProbed
    | Closed
)
