"""A compiled profile as a value: all that a tunnel knows of its profile.

It stands apart from what makes it (`profile.compile`), which is large and not needed while a tunnel runs.
"""

from __future__ import annotations

from dataclasses import field, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal, TypeVar, cast

from ikeclient.crypto.sign.remote_key import RemoteKey
from ikeclient.ike.config import CertificateAuth, EapAuth, GatewayAuth, IkeConfig, OwnAuth, PskAuth
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.load.author import Author
from ikeclient.profile.model.identities import identity_of
from ikeclient.profile.model.values import IPNetwork
from ikeclient.profile.secrets.typed import TypedSecret, checked_password, decode_psk

_Way = TypeVar("_Way", bound=OwnAuth | GatewayAuth)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """What changes on the machine. `mtu` 0 is to be computed; `interface` may hold one `%d`.

    `routes` are networks only where the profile lists them. `exclude_lan` stands for the private networks the machine
    is attached to, `exclude` for the networks listed beside it.
    """

    request: frozenset[str]
    routes: Literal["gateway", "all"] | tuple[IPNetwork, ...]
    exclude: tuple[IPNetwork, ...]
    exclude_lan: bool
    dns: Literal["auto", "split", "all", "none"]
    mtu: int
    interface: str
    dns_servers: tuple[IPv4Address | IPv6Address, ...] = ()  # instead of the gateway's
    dns_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How the tunnel lives. `retry` is the number of further attempts, None for no limit; `refusals` how often
    in a row the credentials may be refused by a gateway that took them before.

    Commands are argv tuples whose program is an absolute path; they run without a shell, in the profile's directory,
    as `runs_as` if the profile is not root's.
    """

    retry: int | None
    refusals: int
    offload: bool
    up: tuple[tuple[str, ...], ...]
    down: tuple[tuple[str, ...], ...]
    card: tuple[str, ...] = ()
    runs_as: Author | None = None
    kill_switch: bool = False
    card_reader: bytes | None = field(default=None, repr=False)  # where the card is, for who asks it; with its PIN

    @property
    def commands(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """`up`, `down` and `card` by name."""
        return {"up": self.up, "down": self.down, "card": (self.card,) if self.card else ()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledProfile:
    """Everything one connection needs. `gateways` are tried in order; `warnings` are sentences for people.

    `typed` are the secrets that a person typed for it.
    """

    name: str
    base_dir: Path
    ike: IkeConfig
    gateways: tuple[str, ...]
    port: int
    network: NetworkSettings
    session: SessionSettings
    warnings: tuple[str, ...] = ()
    identity_is_address: bool = False
    typed: tuple[TypedSecret, ...] = ()

    @property
    def leaves_answer(self) -> bool:
        """Whether all that a person has to say is asked for by the login itself, such as a one-time password."""
        second = self.ike.second_auth
        ways = (self.ike.auth, second.auth if second is not None else None)
        return not self.typed and any(isinstance(way, EapAuth) and way.password is None for way in ways)

    def retyped(self, secret: TypedSecret, answer: str) -> CompiledProfile:
        """Return the profile with another answer for a secret that was typed. Raises ProfileError."""
        first, gateway, second = self.ike.auth, self.ike.gateway, self.ike.second_auth
        if secret.section == "auth":
            first = _retyped(first, answer)
            gateway = replace(gateway, auth=_retyped(gateway.auth, answer)) if secret.key == "psk" else gateway
        elif second is not None:
            second = replace(second, auth=_retyped(second.auth, answer))
        return replace(self, ike=replace(self.ike, auth=first, gateway=gateway, second_auth=second))

    @property
    def signs_elsewhere(self) -> bool:
        """Whether a private key of ours is on a token or with an agent, or a SIM card in a reader."""
        second = self.ike.second_auth
        ways = (self.ike.auth, second.auth if second is not None else None)
        remote = any(isinstance(way, CertificateAuth) and isinstance(way.key, RemoteKey) for way in ways)
        return remote or self.session.card_reader is not None

    def ike_for(self, address: str) -> IkeConfig:
        """The configuration towards one of `gateways`: without a configured identity each must prove its address."""
        if not self.identity_is_address:
            return self.ike
        identity = identity_of(host_of(address), "gateway.address")
        return replace(self.ike, gateway=replace(self.ike.gateway, identity=identity))


def host_of(address: str) -> str:
    """A host without the dot of a fully qualified name; certificates are written without it."""
    return address.removesuffix(".")


def _retyped(way: _Way, answer: str) -> _Way:
    match way:
        case PskAuth():
            return cast("_Way", PskAuth(psk=decode_psk(answer.encode("utf-8", "surrogateescape"))))
        case EapAuth(password=str()):
            return cast("_Way", replace(way, password=checked_password(answer)))
    return way
