"""From what the gateway granted to how the machine shall look."""

from __future__ import annotations

import time
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest
from grants import granted, networks, selectors, settings

from ikeclient.errors import NegotiationRefused
from ikeclient.ike.events import Configuration, Path
from ikeclient.net.model import MARK, DnsConfig, MachineConfig
from ikeclient.tunnel.machine_config import Underlay, dns_config, machine_config
from ikeclient.wire.selector import TrafficSelector

UNDERLAY = Underlay(
    interface="ike0",
    mtu=1400,
    path=Path(ip_address("192.0.2.10"), 40000, ip_address("203.0.113.7"), 4500),
    gateways=(ip_address("203.0.113.7"),),
    table=7400,
)


def test_domains_make_a_split_resolver_of_a_split_tunnel() -> None:
    dns, warnings = dns_config(
        settings(),
        granted("10.88.0.1/32", servers=("10.99.0.53",), domains=("corp.example",)),
        networks("10.99.0.0/24"),
    )
    assert dns == DnsConfig(servers=(ip_address("10.99.0.53"),), domains=("corp.example",), mode="split")
    assert warnings == ()


@pytest.mark.parametrize("routes", [("10.99.0.0/24",), ("0.0.0.0/0",)])
def test_without_domains_the_gateways_servers_answer_everything(routes: tuple[str, ...]) -> None:
    dns, _ = dns_config(settings(), granted("10.88.0.1/32", servers=("10.99.0.53",)), networks(*routes))
    assert dns is not None
    assert dns.mode == "all"


def test_a_full_tunnel_resolves_everything_inside_even_with_domains() -> None:
    configuration = granted("10.88.0.1/32", servers=("10.99.0.53",), domains=("corp.example",))
    dns, _ = dns_config(settings(), configuration, networks("0.0.0.0/0"))
    assert dns is not None
    assert dns.mode == "all"


def test_a_server_that_the_tunnel_does_not_lead_to_is_left_out_with_a_warning() -> None:
    """K14: queries for names inside must not go to a server outside."""
    configuration = granted("10.88.0.1/32", servers=("10.99.0.53", "198.51.100.53"))
    dns, warnings = dns_config(settings(), configuration, networks("10.99.0.0/24"))
    assert dns is not None
    assert dns.servers == (ip_address("10.99.0.53"),)
    assert len(warnings) == 1
    assert "198.51.100.53" in warnings[0]


def test_servers_and_domains_of_the_profile_take_the_place_of_the_gateways() -> None:
    configuration = granted("10.88.0.1/32", servers=("10.99.0.53",), domains=("corp.example",))
    own = settings(dns_servers=(ip_address("10.99.0.54"), ip_address("192.0.2.1")), dns_domains=("lab.example",))
    dns, warnings = dns_config(own, configuration, networks("10.99.0.0/24"))
    assert dns == DnsConfig(servers=(ip_address("10.99.0.54"),), domains=("lab.example",), mode="split")
    assert warnings == ("DNS server 192.0.2.1 is not used: the tunnel does not lead to it",)
    servers = settings(dns_servers=(ip_address("10.99.0.54"),))
    dns, _ = dns_config(servers, granted("10.88.0.1/32"), networks("10.99.0.0/24"))
    assert dns == DnsConfig(servers=(ip_address("10.99.0.54"),), domains=(), mode="all")
    domains = settings(dns_domains=("lab.example",))
    dns, _ = dns_config(domains, configuration, networks("10.99.0.0/24"))
    assert dns == DnsConfig(servers=(ip_address("10.99.0.53"),), domains=("lab.example",), mode="split")
    none = settings(dns="none", dns_servers=own.dns_servers)
    assert dns_config(none, configuration, networks("0.0.0.0/0"))[0] is None


@pytest.mark.parametrize("mode", ["none", "split"])
def test_dns_stays_as_it_is_when_there_is_nothing_to_split_or_nobody_wants_it(mode: str) -> None:
    configuration = granted("10.88.0.1/32", servers=("10.99.0.53",))
    assert dns_config(settings(dns=mode), configuration, networks("10.99.0.0/24"))[0] is None


def test_the_desired_machine_holds_what_was_granted_and_what_the_profile_excludes() -> None:
    config, _ = machine_config(
        settings(exclude=networks("10.99.0.128/25"), exclude_lan=True),
        granted("10.88.0.1/32"),
        selectors("10.88.0.1/32"),
        selectors("10.99.0.0/24"),
        UNDERLAY,
    )
    assert config.routes == networks("10.99.0.0/24")
    assert config.exclude == networks("10.99.0.128/25")
    assert config.exclude_lan
    assert config.mark == MARK
    assert config.ports == (40000,)
    assert config.mtu == 1400
    assert config.dns is None


def test_what_is_of_the_link_alone_is_routed_only_if_the_profile_names_it() -> None:
    """K11, K12: clouds answer below 169.254.0.0/16 with credentials of the machine; no gateway gets to see that."""
    odd = ("169.254.169.254/32", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "fe80::/64", "ff00::/8")
    remote, local = selectors("10.99.0.0/24", *odd), selectors("10.88.0.1/32", "fd88::1/128")
    addresses = granted("10.88.0.1/32", "fd88::1/128")
    config, warnings = machine_config(settings(), addresses, local, remote, UNDERLAY)
    assert config.routes == networks("10.99.0.0/24")
    assert "169.254.0.0/16, 224.0.0.0/4, 255.255.255.255/32, fe80::/64, ff00::/8" in warnings[0]
    listed = Configuration(addresses=addresses.addresses, subnets=networks("169.254.0.0/16", "10.99.0.0/24"))
    config, _ = machine_config(settings(), listed, local, selectors("0.0.0.0/0"), UNDERLAY)
    assert config.routes == networks("10.99.0.0/24")
    config, _ = machine_config(settings(), addresses, local, selectors("0.0.0.0/0"), UNDERLAY)
    assert config.routes == networks("0.0.0.0/0")
    named = settings(routes=networks("224.0.0.0/4"))
    config, warnings = machine_config(named, addresses, local, selectors("224.0.0.0/4"), UNDERLAY)
    assert config.routes == networks("224.0.0.0/4")
    with pytest.raises(NegotiationRefused):
        machine_config(settings(), addresses, local, selectors("169.254.0.0/16"), UNDERLAY)


WEB = TrafficSelector(
    start=ip_address("10.99.0.0"), end=ip_address("10.99.0.255"), protocol=6, start_port=443, end_port=443
)
UNSEEN = TrafficSelector(
    start=ip_address("10.88.0.1"), end=ip_address("10.88.0.1"), protocol=17, start_port=65535, end_port=0
)


@pytest.mark.parametrize(
    ("local", "remote", "told"),
    [
        ((), (WEB,), "10.99.0.0/24[6/443-443]"),
        ((UNSEEN,), selectors("10.99.0.0/24"), "10.88.0.1/32[17/65535-0]"),
        ((), (WEB, *selectors("10.98.0.0/16")), "10.99.0.0/24[6/443-443]"),
        ((), (WEB, *selectors("10.99.0.0/16")), None),  # as a responder answers that names the first packet as well
        ((), (WEB,) * 9, " and 5 more"),
        ((), selectors("10.99.0.0/24"), None),
    ],
)
def test_selectors_of_single_protocols_or_ports_are_told(
    local: tuple[TrafficSelector, ...], remote: tuple[TrafficSelector, ...], told: str | None
) -> None:
    """K11: the routes lead whole networks into the tunnel, and it carries less of them."""
    local = local or selectors("10.88.0.1/32")
    _, warnings = machine_config(settings(), granted("10.88.0.1/32"), local, remote, UNDERLAY)
    assert [told in warning for warning in warnings if told] == ([True] if told else [])
    assert bool(warnings) is (told is not None)


def test_a_gateway_that_carries_less_than_the_profile_asks_for_is_not_obeyed_in_silence() -> None:
    """RFC 7296 section 2.9: it may narrow, and what is listed would leave outside of the tunnel without a word."""
    addresses, local = granted("10.88.0.1/32", "fd88::1/128"), selectors("10.88.0.1/32", "fd88::1/128")

    def said(wanted: object, *carried: str) -> tuple[str, ...]:
        return machine_config(settings(routes=wanted), addresses, local, selectors(*carried), UNDERLAY)[1]

    listed = networks("10.77.0.0/16", "10.99.0.0/24", "10.99.0.128/25", "fd99::/64")
    assert said(listed, "10.99.0.0/24") == (
        "the gateway does not carry all of 10.77.0.0/16, fd99::/64: the rest stays outside the tunnel",
    )
    assert said(listed, "10.99.0.0/24", "10.77.0.0/17", "10.77.128.0/17", "fd99::/64") == ()
    assert said("all", "10.99.0.0/24", "fd99::/64") == (
        "the gateway carries only 10.99.0.0/24, fd99::/64, not everything: the rest is unreachable",
    )
    assert said("all", "0.0.0.0/1", "128.0.0.0/1") == ()
    assert said("gateway", "10.99.0.0/24") == ()
    many = networks(*(f"10.{n}.0.0/16" for n in range(1, 21)))
    assert said(many, "10.1.0.0/16")[0].endswith("10.9.0.0/16 and 11 more: the rest stays outside the tunnel")


def test_selectors_that_would_flood_the_routing_table_are_refused() -> None:
    """K12: at most 256 routes, however few selectors they come from."""
    odd = tuple(
        TrafficSelector(start=ip_address(f"10.{n}.0.1"), end=ip_address(f"10.{n}.255.254")) for n in range(0, 40, 2)
    )
    with pytest.raises(NegotiationRefused):
        machine_config(settings(), granted("10.88.0.1/32"), selectors("10.88.0.1/32"), odd, UNDERLAY)


def test_ranges_that_consist_of_very_many_networks_are_refused_at_once() -> None:
    """S18: 255 odd ranges of IPv6 are 56,000 networks, and joining them would take a second."""
    base = 0x2000 << 112
    odd = tuple(
        TrafficSelector(start=ip_address(base + (n << 112) + 1), end=ip_address(base + ((n + 1) << 112) - 2))
        for n in range(0, 510, 2)
    )
    before = time.process_time()
    with pytest.raises(NegotiationRefused, match="more than 2048 routes"):
        machine_config(settings(), granted("fd88::1/128"), selectors("fd88::1/128"), odd, UNDERLAY)
    assert time.process_time() - before < 0.5


def planned(configuration: Configuration, local: str, *remote: str, **changes: Any) -> MachineConfig:
    config, _ = machine_config(settings(**changes), configuration, selectors(local), selectors(*remote), UNDERLAY)
    return config


@pytest.mark.parametrize("remote", ["10.99.0.0/24", "203.0.113.7/32", "0.0.0.0/0"])
def test_without_an_assigned_address_what_was_agreed_is_routed_from_our_own(remote: str) -> None:
    """K22: a network, the gateway itself, and everything."""
    config = planned(Configuration(), "192.0.2.10/32", remote)
    assert (config.addresses, config.own) == ((), (ip_address("192.0.2.10"),))
    assert config.routes == networks(remote)
    assert config.sources == config.own


@pytest.mark.parametrize(("local", "remote"), [("192.0.2.10/32", "fd99::/64"), ("2001:db8::10/128", "10.99.0.0/24")])
def test_selectors_of_which_nothing_can_be_routed_are_refused(local: str, remote: str) -> None:
    """K22: a tunnel that nothing enters must not call itself connected."""
    with pytest.raises(NegotiationRefused, match="nothing would go through") as caught:
        planned(Configuration(), local, remote)
    assert remote in str(caught.value.reason)


EVERYTHING = ("0.0.0.0/0", "::/0")


def listing(*subnets: str, **more: Any) -> Configuration:
    addresses = (ip_interface("10.88.0.1/32"), ip_interface("fd88::1/128"))
    return Configuration(addresses=addresses, subnets=networks(*subnets), **more)


@pytest.mark.parametrize(
    ("profile", "subnets", "granted_networks", "routes", "blocked"),
    [
        # RFC 7296 section 3.15.2: everything may enter, and the gateway names what should
        ("gateway", ["10.99.0.0/24", "10.98.0.0/16"], EVERYTHING[:1], ["10.98.0.0/16", "10.99.0.0/24"], {}),
        ("gateway", ["10.99.0.0/24", "fd99::/64"], EVERYTHING, ["10.99.0.0/24", "fd99::/64"], {}),
        ("gateway", ["10.99.0.0/24"], EVERYTHING, ["10.99.0.0/24", "::/0"], {}),  # of IPv6 nothing is named
        ("gateway", ["10.99.0.0/24", "0.0.0.0/0"], EVERYTHING[:1], ["0.0.0.0/0"], {6}),
        ("gateway", [], EVERYTHING[:1], ["0.0.0.0/0"], {6}),
        # the selectors say less than everything: they are the list
        ("gateway", ["10.99.0.0/24"], ["10.99.0.0/16"], ["10.99.0.0/16"], {}),
        ("gateway", ["10.0.0.0/8"], ["10.99.0.0/24"], ["10.99.0.0/24"], {}),
        # the profile counts more
        ("all", ["10.99.0.0/24"], EVERYTHING, [*EVERYTHING], {}),
        (networks("0.0.0.0/0"), ["10.99.0.0/24"], EVERYTHING[:1], ["0.0.0.0/0"], {6}),
    ],
)
def test_the_gateways_list_of_subnets_makes_a_split_tunnel(
    profile: Any, subnets: list[str], granted_networks: list[str], routes: list[str], blocked: set[int]
) -> None:
    config = planned(listing(*subnets), "10.88.0.1/32", *granted_networks, routes=profile)
    assert config.routes == networks(*routes)
    assert config.blocked == set(blocked)


def test_what_the_gateway_wants_outside_stays_outside_unless_the_profile_says_what_enters() -> None:
    configuration = listing(excluded=networks("192.168.7.0/24"), exclude_lan=True)
    config = planned(configuration, "10.88.0.1/32", *EVERYTHING, exclude=networks("172.16.0.0/12"))
    assert config.exclude == networks("172.16.0.0/12", "192.168.7.0/24")
    assert config.exclude_lan
    _, warnings = machine_config(settings(), configuration, selectors("10.88.0.1/32"), selectors(*EVERYTHING), UNDERLAY)
    assert warnings == (
        "stays outside the tunnel, as the gateway wants: 192.168.7.0/24, the networks this machine is on",
    )
    for routes in ("all", networks("0.0.0.0/0")):
        config = planned(configuration, "10.88.0.1/32", *EVERYTHING, routes=routes)
        assert (config.exclude, config.exclude_lan) == ((), False)


def test_a_name_server_beside_the_listed_subnets_is_used_where_the_selectors_carry_it() -> None:
    """K14: the machine gives it a route of its own."""
    servers = (ip_address("10.97.0.53"),)
    config = planned(listing("10.99.0.0/24", dns_servers=servers), "10.88.0.1/32", "0.0.0.0/0")
    assert config.dns is not None
    assert (config.dns.servers, config.routes) == (servers, networks("10.99.0.0/24"))
    assert planned(listing(dns_servers=servers), "10.88.0.1/32", "10.99.0.0/24").dns is None
