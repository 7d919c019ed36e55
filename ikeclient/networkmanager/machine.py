"""The machine of a tunnel under NetworkManager, which changes it as it is told, and the network beneath."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from ikeclient.net.model import IPAddress, MachineConfig
from ikeclient.net.transport.icmp_errors import PathHint
from ikeclient.net.transport.path import path_mtu
from ikeclient.net.transport.udp import UdpSocket
from ikeclient.net.watch.monitor import NetworkMonitor
from ikeclient.net.watch.netlink import Netlink
from ikeclient.net.watch.past_tunnel import PastTunnel
from ikeclient.net.watch.snapshot import Change, RouteTo
from ikeclient.networkmanager.ip_plan import IpPlan, plan
from ikeclient.tunnel.machine_config import outer_mark
from ikeclient.tunnel.ports import Monitor, SystemNetwork
from ikeclient.tunnel.revocation_cache import RevocationCache


def is_configured(wanted: IpPlan) -> bool:
    """Whether the interface has its addresses. Raises OSError if the kernel does not tell."""
    families = [family for family in (wanted.ip4, wanted.ip6) if family is not None]
    with contextlib.closing(Netlink()) as kernel:
        there = {ours.address for ours in kernel.snapshot().addresses if ours.interface == wanted.interface}
    return all(family.address.ip in there or family.address.is_link_local for family in families)


class ReportingMachine:
    """A `MachineAdapter` that changes nothing and tells `report` what NetworkManager has to do."""

    def __init__(self, report: Callable[[IpPlan], None]) -> None:
        self.warnings: list[str] = []
        self.servers: tuple[IPAddress, ...] = ()
        self.left: list[str] = []
        self._report = report
        self.wanted: IpPlan | None = None  # what was told last

    def plan(self, config: MachineConfig) -> list[str]:
        """There are no commands: NetworkManager changes it. Raises PlatformError for what it has no way to do."""
        plan(config)
        return []

    def apply(self, config: MachineConfig) -> None:
        """Tell what is new. Raises PlatformError for what NetworkManager has no way to do."""
        wanted = plan(config)
        self.servers = config.dns.servers if config.dns is not None else ()
        if wanted != self.wanted:
            self.wanted = wanted
            self._report(wanted)

    def renew(self) -> None:
        """Tell it again: the interface is a new one."""
        if self.wanted is not None:
            self._report(self.wanted)

    def revert(self) -> None:
        """NetworkManager undoes what it did."""


class NetworkBeneath(SystemNetwork):
    """The outer network, although the routes into the interface `tunnel` are in the main table."""

    def __init__(self, tunnel: str, cache: RevocationCache) -> None:
        super().__init__(cache)
        self._tunnel = tunnel

    def source_for(self, remote: IPAddress) -> IPAddress | None:
        """See `OuterNetwork`."""
        way = self._way(remote)
        return way.source if way is not None else None

    def path_mtu(self, remote: IPAddress) -> int:
        """See `OuterNetwork`."""
        way = self._way(remote)
        return path_mtu(str(remote), mark=outer_mark(), interface=way.interface if way is not None else None)

    def open(self, local: IPAddress, on_hint: Callable[[PathHint], None]) -> UdpSocket:
        """See `OuterNetwork`."""
        socket = UdpSocket(version=local.version, local_address=str(local), mark=outer_mark(), on_hint=on_hint)
        try:
            interface = self._interface_of(ip_address(socket.local[0]))
            if interface is not None:
                socket.use_interface(interface)
        except BaseException:
            socket.close()
            raise
        return socket

    def monitor(self, on_change: Callable[[Change], None], ignore: Sequence[str]) -> Monitor:
        """See `OuterNetwork`."""
        return NetworkMonitor(on_change, ignore=ignore, mark=outer_mark(), open_source=lambda: PastTunnel(self._tunnel))

    def _way(self, remote: IPAddress) -> RouteTo | None:
        with contextlib.suppress(OSError), contextlib.closing(PastTunnel(self._tunnel)) as view:
            return view.route_to(remote, mark=outer_mark())
        return None

    def _interface_of(self, local: IPAddress) -> str | None:
        with contextlib.suppress(OSError), contextlib.closing(PastTunnel(self._tunnel)) as view:
            return view.interface_of(local)
        return None
