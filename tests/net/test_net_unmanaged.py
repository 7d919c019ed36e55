"""What is left to root on a machine that this process may not change."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from ikeclient.errors import NegotiationRefused
from ikeclient.net.machine.unmanaged import UnmanagedMachine
from ikeclient.net.model import IPAddress, MachineConfig
from ikeclient.net.watch.snapshot import DefaultRoute, RouteTo, Snapshot

ROUTER, OWN = ip_address("192.0.2.1"), ip_address("192.0.2.10")
CONFIG = MachineConfig(
    interface="ike7",
    mtu=1400,
    addresses=(),
    own=(OWN,),
    routes=(ip_network("10.99.0.0/24"),),
    gateway=(ip_address("203.0.113.7"),),
    ports=(4500,),
    mark=0x1CE,
    table=7400,
)


class Outside:
    """A machine whose every packet leaves by its default route."""

    def snapshot(self, *, ignore: Collection[str], remotes: Iterable[IPAddress], mark: int) -> Snapshot:
        default = DefaultRoute(version=4, index=2, interface="eth0", gateway=ROUTER)
        return Snapshot(defaults=(default,))

    def route_to(self, remote: IPAddress, *, mark: int = 0, source: IPAddress | None = None) -> RouteTo | None:
        return RouteTo(remote=remote, index=2, interface="eth0", source=OWN, gateway=ROUTER)

    def close(self) -> None:
        pass


def told(config: MachineConfig) -> list[str]:
    machine = UnmanagedMachine(source=Outside())
    machine.apply(config)
    return [line for line in machine.warnings if line.startswith("ip")]


def test_without_an_assigned_address_the_routes_name_our_own() -> None:
    """K22: else the kernel would have to guess one for a device without an address."""
    assert told(CONFIG)[1:] == ["ip route replace 10.99.0.0/24 dev ike7 src 192.0.2.10"]


def test_the_gateway_stays_outside_of_routes_that_cover_it() -> None:
    lines = told(replace(CONFIG, routes=(ip_network("0.0.0.0/0"), ip_network("203.0.113.7/32"))))[1:]
    assert lines == [
        "ip route replace 203.0.113.7/32 via 192.0.2.1 dev eth0",
        "ip route replace 0.0.0.0/1 dev ike7 src 192.0.2.10",
        "ip route replace 128.0.0.0/1 dev ike7 src 192.0.2.10",
    ]


def test_a_blocked_family_is_told_too() -> None:
    lines = told(replace(CONFIG, blocked=frozenset({6})))
    assert [line for line in lines if "unreachable" in line] == [
        "ip -6 route replace unreachable ::/1",
        "ip -6 route replace unreachable 8000::/1",
    ]


def test_host_to_host_is_refused_where_packets_cannot_be_marked() -> None:
    """K22: one route cannot lead the gateway's own address both into the tunnel and outside."""
    with pytest.raises(NegotiationRefused, match="only packets to itself") as caught:
        told(replace(CONFIG, routes=(ip_network("203.0.113.7/32"),)))
    assert caught.value.exit_code == 6
    assert "CAP_NET_ADMIN" in str(caught.value.reason)
