"""Our inner addresses, and which destinations they reach through the tunnel."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

_MOST_KNOWN = 4096  # destinations whose way is remembered

Network = IPv4Network | IPv6Network


class Routes:
    """Addresses are packed; the first of each version is the one that we speak from."""

    __slots__ = ("_known", "_networks", "addresses", "sources")

    def __init__(self, addresses: Iterable[bytes] = (), networks: Iterable[Network] = ()) -> None:
        self.addresses = frozenset(addresses)
        self.sources: dict[int, bytes] = {}
        for address in addresses:
            self.sources.setdefault(len(address), address)
        self._networks = [
            (network.max_prefixlen // 8, int(network.netmask), int(network.network_address)) for network in networks
        ]
        self._known: dict[bytes, bytes | None] = {}

    def local(self, remote: bytes) -> bytes | None:
        """The address to talk to that one from; None if the tunnel does not lead there."""
        known = self._known
        if remote in known:
            return known[remote]
        if len(known) >= _MOST_KNOWN:
            known.clear()
        found = known[remote] = self.sources.get(len(remote)) if self._leads_to(remote) else None
        return found

    def _leads_to(self, remote: bytes) -> bool:
        if remote in self.addresses:  # there is no loop through this stack
            return False
        number, length = int.from_bytes(remote, "big"), len(remote)
        return any(size == length and number & mask == start for size, mask, start in self._networks)
