"""The first Child SA, which IKE_AUTH makes along with the IKE SA (RFC 7296 sections 1.2, 2.19 and 2.21.2)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Self

from ikeclient.crypto.algorithms.keymat import child_keys
from ikeclient.errors import NegotiationRefused, ProtocolError
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import Configuration, IPAddress, Path
from ikeclient.ike.v2.child.child_sa import ChildSa, agreed
from ikeclient.ike.v2.keying import Candidate
from ikeclient.ike.v2.rules.negotiate import offer_esp
from ikeclient.ike.v2.rules.selectors import ANY_IPV4, ANY_IPV6, hosts, intersect
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.payload import Payload
from ikeclient.wire.sa import SaPayload
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload


def asked_selectors(config: IkeConfig, path: Path) -> tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]:
    """TSi and TSr to ask for. With an assigned address TSi asks for everything, to be narrowed (section 2.19)."""
    families = {"ipv4": ANY_IPV4, "ipv6": ANY_IPV6}
    remote = config.child.remote_selectors or (ANY_IPV4, ANY_IPV6)
    local = tuple(selector for kind, selector in families.items() if kind in config.child.request)
    if not local:
        local = (TrafficSelector.from_network(ip_network(path.local_address)),)
    versions = {selector.version for selector in local}
    narrowed = tuple(s for s in remote if s.version in versions)
    return local, narrowed or remote


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstChild:
    """What is asked of the gateway: `local` and `remote` are TSi and TSr, `own` is this machine's outer address.

    `addressed` says whether an inner address is asked for as well.
    """

    spi_in: int
    offer: SaPayload
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]
    own: IPAddress
    addressed: bool

    @classmethod
    def asked(cls, config: IkeConfig, path: Path, spi_in: int) -> Self:
        """What `config` asks for along `path`."""
        local, remote = asked_selectors(config, path)
        return cls(
            spi_in=spi_in,
            offer=offer_esp(config.child.esp_proposals, spi_in, esn=config.child.esn, key_exchange=False),
            local=local,
            remote=remote,
            own=path.local_address,
            addressed=bool(config.child.request & {"ipv4", "ipv6"}),
        )

    def payloads(self) -> tuple[Payload, ...]:
        """SA, TSi and TSr of the request."""
        return (self.offer, TsiPayload(selectors=self.local), TsrPayload(selectors=self.remote))

    def settle(
        self, candidate: Candidate, answer: Sequence[Payload], configuration: Configuration
    ) -> tuple[ChildSa, list[str]]:
        """The Child SA that the answer makes, and what there is to tell about it.

        Raises `ProtocolError` for an answer that makes none, `NegotiationRefused` if there is no inner address.
        """
        settled = agreed(answer, self.offer, self.local, self.remote)
        addresses, notices = self._inner_addresses(settled.local, configuration)
        keys = child_keys(
            candidate.keying.suite.prf,
            settled.suite,
            candidate.keying.keys.d,
            candidate.nonce_i,
            candidate.nonce_r,
            initiator=True,
        )
        child = ChildSa(
            spi_in=self.spi_in,
            spi_out=settled.spi_out,
            suite=settled.suite,
            keys=keys,
            local=settled.local,
            remote=settled.remote,
            addresses=addresses,
        )
        return child, notices

    def _inner_addresses(
        self, local: Sequence[TrafficSelector], configuration: Configuration
    ) -> tuple[tuple[IPAddress, ...], list[str]]:
        """The addresses that packets in the tunnel are from: those assigned, else our own outer one, where TSi has it.

        One of several is enough: a gateway may assign an IPv6 address and let only IPv4 through. From the others
        nothing would pass, so they are not used.
        """
        assigned = tuple(address.ip for address in configuration.addresses)
        if assigned:
            usable = tuple(address for address in assigned if intersect(hosts((address,)), local))
            if not usable:
                raise ProtocolError(f"TSi does not contain the assigned address {assigned[0]}")
            return usable, [
                f"the inner address {address} is not used: the gateway assigned it, but its selectors leave it out"
                for address in assigned
                if address not in usable
            ]
        if not intersect(hosts((self.own,)), local):
            reason = f"its answer has no CFG_REPLY with a usable address, and TSi is {local[0]}, not our own {self.own}"
            raise NegotiationRefused(
                "the gateway assigned no inner address",
                reason=reason,
                hint="give the gateway an address pool" + (", or set [network] request = []" if self.addressed else ""),
            )
        if self.own.is_loopback or self.own.is_link_local:
            raise NegotiationRefused(
                "the gateway assigned no inner address",
                reason=f"this machine's own on the way to it, {self.own}, means nothing inside the tunnel",
                hint="give the gateway an address pool",
            )
        note = f"the gateway assigned no inner address: {self.own} is used inside the tunnel, too"
        return (self.own,), [note] if self.addressed else []
