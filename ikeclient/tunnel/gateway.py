"""What a tunnel has learnt about its gateway, and keeps from one connection to the next."""

from __future__ import annotations

from ikeclient.ike.after_refusal import as_accepted
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import IPAddress
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.tunnel.resolve import Known


class Gateway:
    """The gateway's addresses, and how it was asked when it last accepted.

    `known` holds addresses with their host names, the best first. `host` is the name of the one in use.
    """

    def __init__(self) -> None:
        self.known: Known = []
        self.host = ""
        self.accepted: IkeConfig | None = None

    @property
    def addresses(self) -> list[IPAddress]:
        """Every address that the host in use is known to have."""
        return [address for host, address in self.known if host == self.host]

    def prefer(self, host: str, address: IPAddress) -> None:
        """Put the address that worked first."""
        best = (host, address)
        self.known = [best, *(other for other in self.known if other != best)]

    def learn(self, known: Known) -> None:
        """Take what the name service says."""
        self.known = known

    def try_host(self, host: str) -> None:
        """Ask this one from now on."""
        self.host = host

    def accept(self, accepted: IkeConfig | None) -> None:
        """Remember how the gateway was asked when it accepted; None: it does so no more."""
        self.accepted = accepted

    def config(self, profile: CompiledProfile) -> IkeConfig:
        """How to ask the host in use: as it last accepted, if it did."""
        config = profile.ike_for(self.host)
        return config if self.accepted is None else as_accepted(config, self.accepted)
