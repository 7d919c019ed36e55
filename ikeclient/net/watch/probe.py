"""What can be learnt of the network where netlink is forbidden (a seccomp filter, RestrictAddressFamilies of systemd).

Connecting a UDP socket sends nothing and makes the kernel choose a source address. That is little, but just what a
tunnel has to know: from which address it would be sent now, and whether there is a way at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address

from ikeclient.net.model import IPAddress, Version
from ikeclient.net.transport.path import local_address_for
from ikeclient.net.watch.snapshot import DefaultRoute, OuterAddress, RouteTo, Snapshot

# Never assigned to anybody, so no route but a default route leads there.
_ANYWHERE: dict[Version, IPAddress] = {4: ip_address("240.0.0.1"), 6: ip_address("4000::1")}


class Probes:
    """A source of snapshots like `netlink.Netlink`. It knows no interfaces: they all have the index 0 and no name."""

    def close(self) -> None:
        """Nothing is open."""

    def snapshot(
        self,
        *,
        ignore: Collection[str] = (),  # noqa: ARG002  nothing here has a name
        remotes: Iterable[IPAddress] = (),
        mark: int = 0,
    ) -> Snapshot:
        """The source addresses that are in use for the default routes and `remotes`, for packets marked with `mark`."""
        ways = {version: self.route_to(remote, mark=mark) for version, remote in _ANYWHERE.items()}
        routes = tuple(route for remote in remotes if (route := self.route_to(remote, mark=mark)))
        sources = dict.fromkeys(way.source for way in (*ways.values(), *routes) if way)
        return Snapshot(
            addresses=tuple(OuterAddress(index=0, interface="", address=source) for source in sources),
            defaults=tuple(
                DefaultRoute(version=version, index=0, interface="", gateway=None)
                for version, way in ways.items()
                if way
            ),
            routes=routes,
        )

    def route_to(self, remote: IPAddress, *, mark: int = 0, source: IPAddress | None = None) -> RouteTo | None:
        """The address that `remote` is spoken to from; None where no way leads there or `source` is another address."""
        found = local_address_for(str(remote), mark=mark or None)
        ours = ip_address(found.partition("%")[0]) if found else None
        if ours is None or ours.is_loopback or ours.is_link_local or source not in (None, ours):
            return None
        return RouteTo(remote=remote, index=0, interface="", source=ours)
