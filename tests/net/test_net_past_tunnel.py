"""The network beneath a tunnel whose routes are in the main table."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address
from typing import cast

from ikeclient.net.model import IPAddress
from ikeclient.net.watch.netlink import Netlink
from ikeclient.net.watch.past_tunnel import PastTunnel
from ikeclient.net.watch.snapshot import DefaultRoute, Interface, OuterAddress, RouteTo, Snapshot

REMOTE = ip_address("203.0.113.1")
INNER, ETH, WIFI, BRIDGE = map(ip_address, ("10.88.0.1", "192.0.2.2", "198.51.100.2", "172.17.0.1"))
VIEW = Snapshot(
    interfaces=tuple(Interface(index=n, name=name) for n, name in ((2, "eth0"), (3, "wlan0"), (4, "docker0"))),
    addresses=(
        OuterAddress(index=4, interface="docker0", address=BRIDGE),
        OuterAddress(index=3, interface="wlan0", address=WIFI),
        OuterAddress(index=2, interface="eth0", address=ETH),
    ),
    defaults=(
        DefaultRoute(version=4, index=2, interface="eth0", gateway=ip_address("192.0.2.1"), metric=100),
        DefaultRoute(version=4, index=3, interface="wlan0", gateway=ip_address("198.51.100.1"), metric=600),
    ),
)


class Kernel:
    """Leads everything into the tunnel, unless a socket is bound to an interface."""

    def __init__(self, view: Snapshot = VIEW, own: RouteTo | None = None) -> None:
        self.view = view
        self.own = own

    def snapshot(self, *, ignore: Collection[str] = (), remotes: Iterable[IPAddress] = (), mark: int = 0) -> Snapshot:
        assert not list(remotes)
        return self.view

    def route_to(
        self, remote: IPAddress, *, mark: int = 0, source: IPAddress | None = None, interface: int = 0
    ) -> RouteTo | None:
        if not interface:
            return self.own or RouteTo(remote=remote, index=9, interface="ike0", source=INNER)
        ours = next(each for each in self.view.addresses if each.index == interface)
        hop = next((each.gateway for each in self.view.defaults if each.index == interface), None)
        return RouteTo(
            remote=remote, index=interface, interface=ours.interface, source=source or ours.address, gateway=hop
        )


def beneath(kernel: Kernel) -> PastTunnel:
    return PastTunnel("ike0", cast("Netlink", kernel))


def test_the_best_default_route_beneath_leads_to_the_gateway() -> None:
    way = beneath(Kernel()).route_to(REMOTE)
    assert way is not None
    assert (way.interface, way.source) == ("eth0", ETH)


def test_each_address_leads_by_its_own_interface_and_one_without_a_route_nowhere() -> None:
    network = beneath(Kernel())
    way = network.route_to(REMOTE, source=WIFI)
    assert way is not None
    assert way.interface == "wlan0"
    assert network.route_to(REMOTE, source=BRIDGE) is None  # the kernel takes every address for a neighbour there
    assert network.route_to(REMOTE, source=ip_address("192.0.2.99")) is None


def test_a_route_that_leads_past_the_tunnel_is_the_kernels_choice() -> None:
    chosen = RouteTo(remote=REMOTE, index=3, interface="wlan0", source=WIFI)
    assert beneath(Kernel(own=chosen)).route_to(REMOTE) == chosen


def test_a_snapshot_shows_the_way_beneath() -> None:
    view = beneath(Kernel()).snapshot(ignore=("ike0",), remotes=[REMOTE], mark=1)
    assert [way.interface for way in view.routes] == ["eth0"]
    assert view.addresses == VIEW.addresses
    nothing = beneath(Kernel(Snapshot())).snapshot(ignore=("ike0",), remotes=[REMOTE], mark=1)
    assert nothing.routes == ()


def test_the_interface_of_an_address() -> None:
    assert beneath(Kernel()).interface_of(WIFI) == "wlan0"
    assert beneath(Kernel()).interface_of(REMOTE) is None
