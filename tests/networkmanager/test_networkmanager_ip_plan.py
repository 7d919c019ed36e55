"""What NetworkManager is told of addresses, routes and name servers."""

from __future__ import annotations

import sys
from dataclasses import replace
from ipaddress import IPv4Network, ip_address, ip_interface, ip_network

import pytest

from ikeclient.errors import PlatformError
from ikeclient.net.model import DnsConfig, MachineConfig
from ikeclient.networkmanager.ip_plan import config_table, cut, family_table, plan

CONFIG = MachineConfig(
    interface="ike0",
    mtu=1400,
    addresses=(ip_interface("10.88.0.1/32"), ip_interface("fd88::1/128")),
    routes=(ip_network("10.99.0.0/24"), ip_network("fd99::/64")),
    gateway=(ip_address("192.0.2.1"),),
    ports=(4500,),
    mark=1,
    table=100,
    dns=DnsConfig(servers=(ip_address("10.99.0.53"),), domains=("corp.example",)),
)


def test_some_networks_leave_the_default_route_alone() -> None:
    wanted = plan(CONFIG)
    assert wanted.ip4 is not None
    assert wanted.ip6 is not None
    assert not wanted.ip4.everything
    assert wanted.ip4.routes == (ip_network("10.99.0.0/24"),)
    assert wanted.ip4.domains == ("corp.example",)
    assert wanted.ip6.servers == ()
    table = family_table(wanted.ip4)
    assert table["never-default"] == ("b", True)
    assert table["address"] == ("u", int.from_bytes(bytes([10, 88, 0, 1]), sys.byteorder))
    assert table["prefix"] == ("u", 32)
    assert table["routes"] == ("aau", [[int.from_bytes(bytes([10, 99, 0, 0]), sys.byteorder), 24, 0, 0]])
    assert config_table(wanted)["can-persist"] == ("b", True)
    assert config_table(wanted)["tundev"] == ("s", "ike0")


def test_everything_is_the_default_route() -> None:
    wanted = plan(replace(CONFIG, routes=(ip_network("0.0.0.0/0"), ip_network("::/0"))))
    assert wanted.ip4 is not None
    assert wanted.ip4.everything
    assert wanted.ip4.routes == ()
    assert family_table(wanted.ip4)["never-default"] == ("b", False)


def test_a_family_that_is_blocked_is_led_into_the_tunnel_where_it_ends() -> None:
    """N22 of tunnels elsewhere: IPv6 must not pass beside a tunnel for everything."""
    wanted = plan(
        replace(
            CONFIG,
            addresses=(ip_interface("10.88.0.1/32"),),
            routes=(ip_network("0.0.0.0/0"),),
            blocked=frozenset({6}),
        )
    )
    assert wanted.ip6 is not None
    assert wanted.ip6.everything
    assert wanted.ip6.address.is_link_local


def test_what_stays_outside_is_cut_out() -> None:
    inside, hole = IPv4Network("10.0.0.0/8"), IPv4Network("10.1.0.0/16")
    parts = cut([inside], [hole])
    assert not any(part.overlaps(hole) for part in parts)
    assert sum(part.num_addresses for part in parts) == inside.num_addresses - hole.num_addresses
    assert cut([hole], [inside]) == ()
    wanted = plan(replace(CONFIG, routes=(ip_network("0.0.0.0/0"),), exclude=(ip_network("192.0.2.0/24"),)))
    assert wanted.ip4 is not None
    assert not wanted.ip4.everything
    assert len(wanted.ip4.routes) == 24


def test_every_name_is_asked_in_the_tunnel_although_not_every_packet_enters_it() -> None:
    wanted = plan(replace(CONFIG, dns=DnsConfig(servers=(ip_address("10.99.0.53"),), mode="all")))
    assert wanted.ip4 is not None
    assert wanted.ip4.domains == ("~.",)


def test_a_server_outside_of_the_networks_gets_a_route() -> None:
    wanted = plan(replace(CONFIG, dns=DnsConfig(servers=(ip_address("10.98.0.53"),), domains=("corp.example",))))
    assert wanted.ip4 is not None
    assert ip_network("10.98.0.53/32") in wanted.ip4.routes


def test_without_an_address_there_is_nothing_to_configure() -> None:
    with pytest.raises(PlatformError, match="assigned no address"):
        plan(replace(CONFIG, addresses=(), own=(ip_address("192.0.2.9"),)))
