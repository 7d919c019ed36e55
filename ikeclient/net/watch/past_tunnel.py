"""The network beneath a tunnel whose routes are in the main table, where NetworkManager puts them.

A mark has no table to lead to there: the kernel would send our own packets into the tunnel. So each of our sockets is
bound to the interface that its address is on, and the kernel is asked about packets of such a socket.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from ikeclient.net.model import IPAddress
from ikeclient.net.watch.netlink import Netlink
from ikeclient.net.watch.snapshot import RouteTo, Snapshot, candidates


class PastTunnel:
    """A source of snapshots (`monitor.Source`) for which the interface `tunnel` leads nowhere."""

    def __init__(self, tunnel: str, kernel: Netlink | None = None) -> None:
        self._tunnel = tunnel
        self._kernel = kernel or Netlink()

    def snapshot(self, *, ignore: Collection[str], remotes: Iterable[IPAddress], mark: int) -> Snapshot:
        """See `Source`."""
        view = self._kernel.snapshot(ignore=ignore, remotes=(), mark=mark)
        return replace(
            view, routes=tuple(way for remote in remotes if (way := self._way(remote, mark, None, view)) is not None)
        )

    def route_to(self, remote: IPAddress, *, mark: int = 0, source: IPAddress | None = None) -> RouteTo | None:
        """See `Source`."""
        return self._way(remote, mark, source, self._kernel.snapshot(ignore=(self._tunnel,)))

    def interface_of(self, local: IPAddress) -> str | None:
        """The interface with the address `local`, None if it has none by now."""
        view = self._kernel.snapshot(ignore=(self._tunnel,))
        return next((ours.interface for ours in view.addresses if ours.address == local), None)

    def close(self) -> None:
        """See `Source`."""
        self._kernel.close()

    def _way(self, remote: IPAddress, mark: int, source: IPAddress | None, view: Snapshot) -> RouteTo | None:
        if source is None:
            way = self._kernel.route_to(remote, mark=mark)
            if way is not None and way.interface != self._tunnel:
                return way
        for ours in candidates(view, remote.version):
            if source is not None and ours.address != source:
                continue
            way = self._kernel.route_to(remote, mark=mark, source=ours.address, interface=ours.index)
            if way is not None and way.index == ours.index and self._leads_on(way, view):
                return way
        return None

    @staticmethod
    def _leads_on(way: RouteTo, view: Snapshot) -> bool:
        """Whether the interface leads there: of one without a route the kernel says that the address is next to it."""
        return way.gateway is not None or any(
            default.index == way.index and default.gateway is None for default in view.defaults
        )
