"""Which routes and rules a configuration means; the cases that need no kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from ikeclient.errors import NegotiationRefused
from ikeclient.net.changes.desired import Facts, desired, samples, usable_servers
from ikeclient.net.changes.steps import Address, LocalRuleLast, Route, Rule
from ikeclient.net.model import IPNetwork, MachineConfig

CONFIG = MachineConfig(
    interface="ike0",
    mtu=1400,
    addresses=(ip_interface("10.88.0.1/24"), ip_interface("fd88::1/64")),
    routes=(ip_network("0.0.0.0/0"), ip_network("::/0")),
    gateway=(ip_address("203.0.113.7"),),
    ports=(4500,),
    mark=0x1CE,
    table=7400,
)
LAN = tuple(map(ip_network, ("192.168.7.0/24", "10.0.0.0/8", "198.51.100.0/24", "fd12::/64", "2001:db8::/64")))


def networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(map(ip_network, texts))


def routes(config: MachineConfig, facts: Facts | None = None) -> dict[str, str]:
    steps, _ = desired(config, facts or Facts(index=7))
    return {str(step.destination): step.kind for step in steps if isinstance(step, Route)}


@pytest.mark.parametrize(
    ("tunnel", "exclude", "expected"),
    [
        (["0.0.0.0/0"], ["10.0.0.0/8"], {"0.0.0.0/0": "unicast", "10.0.0.0/8": "throw"}),
        (["10.99.0.0/24", "10.1.0.0/16"], ["10.0.0.0/8"], {}),
        (["10.99.0.0/24"], ["10.99.0.0/24"], {}),
        (["10.99.0.0/24"], ["10.99.0.7/32"], {"10.99.0.0/24": "unicast", "10.99.0.7/32": "throw"}),
        (["10.99.0.0/24"], ["192.0.2.0/24", "::/0"], {"10.99.0.0/24": "unicast"}),
        (["10.99.0.0/24", "10.99.0.0/24"], [], {"10.99.0.0/24": "unicast"}),
    ],
)
def test_what_is_excluded_stays_outside_even_where_the_tunnel_names_a_part_of_it(
    tunnel: list[str], exclude: list[str], expected: dict[str, str]
) -> None:
    assert routes(replace(CONFIG, routes=networks(*tunnel), exclude=networks(*exclude))) == expected


def test_the_lan_is_its_private_networks_and_never_takes_what_the_tunnel_names() -> None:
    """O6: a LAN may number itself as it likes, so it gets neither public networks nor those of the tunnel."""
    tunnel = networks("0.0.0.0/0", "192.168.7.0/24", "10.99.0.0/24", "::/0")
    config = replace(CONFIG, addresses=(ip_interface("172.30.0.1/32"),), routes=tunnel, exclude_lan=True)
    assert routes(config, Facts(index=7, lan=LAN)) == {
        "0.0.0.0/0": "unicast",
        "192.168.7.0/24": "unicast",
        "10.99.0.0/24": "unicast",  # more specific than the throw route below
        "10.0.0.0/8": "throw",
        "fd12::/64": "throw",
        "::/0": "unicast",
    }


def test_a_blocked_family_is_unreachable_but_for_what_is_excluded_or_routed() -> None:
    config = replace(CONFIG, routes=networks("0.0.0.0/0"), blocked=frozenset({6}), exclude=networks("fd12::/64"))
    assert routes(config) == {"0.0.0.0/0": "unicast", "fd12::/64": "throw", "::/0": "unreachable"}
    assert routes(replace(config, routes=CONFIG.routes))["::/0"] == "unicast"


def test_without_ipv6_on_the_interface_nothing_of_it_leaks() -> None:
    assert routes(CONFIG, Facts(index=7, interface_ipv6=False)) == {"0.0.0.0/0": "unicast", "::/0": "unreachable"}


def test_a_kernel_without_ipv6_gets_no_ipv6_steps() -> None:
    steps, warnings = desired(CONFIG, Facts(index=7, ipv6=False, interface_ipv6=False))
    assert not any("-6" in line for step in steps for line in step.commands())
    assert warnings == ["no IPv6 through the tunnel: IPv6 is disabled on this machine"]


def test_an_mtu_too_small_for_ipv6_leaves_ipv4() -> None:
    steps, warnings = desired(replace(CONFIG, mtu=1279), Facts(index=7))
    assert warnings == ["no IPv6 through the tunnel: the MTU is below 1280"]
    assert [step.kind for step in steps if isinstance(step, Route) and step.table == 7400] == ["unicast", "unreachable"]


def test_a_tunnel_of_a_few_networks_comes_before_one_that_takes_everything() -> None:
    def priorities(config: MachineConfig) -> set[int]:
        return {step.priority for step in desired(config, Facts(index=7))[0] if isinstance(step, Rule) and step.mark}

    assert max(priorities(replace(CONFIG, routes=networks("10.99.0.0/24", "fd99::/64")))) < min(priorities(CONFIG))
    assert max(priorities(CONFIG)) < 32766


def test_a_route_comes_from_the_inner_address_of_its_family() -> None:
    steps, _ = desired(CONFIG, Facts(index=7))
    assert [str(step.source) for step in steps if isinstance(step, Route) and step.interface] == [
        "10.88.0.1",
        "fd88::1",
    ]


def test_a_second_table_holds_what_the_first_one_lets_fall() -> None:
    """O18: it hangs on no device, spares what stays outside, and its rule comes right after the first one's."""
    config = replace(CONFIG, routes=networks("0.0.0.0/0"), blocked=frozenset({6}), exclude=networks("192.0.2.0/24"))
    steps, _ = desired(config, Facts(index=7))
    behind = {str(step.destination): step.kind for step in steps if isinstance(step, Route) and step.table == 7464}
    assert behind == {"0.0.0.0/0": "unreachable", "192.0.2.0/24": "throw", "::/0": "unreachable"}
    rules = [(step.version, step.priority, step.table) for step in steps if isinstance(step, Rule) and step.mark]
    assert rules == [(4, 20011, 7464), (4, 20010, 7400), (6, 20011, 7464), (6, 20010, 7400)]


@pytest.mark.parametrize(
    ("filters", "change", "needed"),
    [
        ({1}, {}, True),
        ({2}, {}, False),
        ({1, 2}, {}, True),
        (set(), {}, False),
        ({1}, {"routes": networks("10.99.0.0/24")}, False),
        ({1}, {"exclude": networks("203.0.113.0/24")}, False),
        ({1}, {"gateway": (ip_address("2001:db8::7"),)}, False),
        ({2}, {"routes": networks("::/0"), "blocked": frozenset({4})}, True),
        ({2}, {"routes": networks("203.0.113.0/24"), "blocked": frozenset({4})}, False),
    ],
)
def test_the_way_back_is_opened_only_where_a_filter_would_close_it(
    filters: set[int], change: dict[str, object], needed: bool
) -> None:
    config = replace(CONFIG, **change)  # type: ignore[arg-type]
    steps, _ = desired(config, Facts(index=7, reverse_path=frozenset(filters)))
    assert any(isinstance(step, Rule) and step.source_port == 4500 for step in steps) == needed


def test_unknown_ports_behind_a_filter_are_worth_a_warning() -> None:
    _, warnings = desired(replace(CONFIG, ports=()), Facts(index=7, reverse_path=frozenset({1})))
    assert warnings == ["reverse path filtering may drop what the gateway sends"]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.0.2.10/32", "this machine has it"),
        ("127.0.0.1/32", "no address of a host"),
        ("0.0.0.0/0", "no address of a host"),
        ("224.0.0.1/32", "no address of a host"),
        ("::1/128", "no address of a host"),
        ("ff02::1/128", "no address of a host"),
        ("192.168.7.77/32", "192.168.7.0/24"),
        ("192.168.7.255/32", "192.168.7.0/24"),
        ("fd12::77/128", "fd12::/64"),
        ("203.0.113.254/32", "default router"),
    ],
)
def test_an_inner_address_that_would_cut_the_machine_off_is_refused(address: str, why: str) -> None:
    """K12: the gateway's own choice, and rules of ours drop what comes to it from elsewhere."""
    config = replace(CONFIG, addresses=(ip_interface(address),))
    own, router = ip_address("192.0.2.10"), ip_address("203.0.113.254")
    with pytest.raises(NegotiationRefused, match="cannot be used") as caught:
        desired(config, Facts(index=7, lan=LAN, taken=frozenset({own}), routers=frozenset({router})))
    assert why in str(caught.value.reason)
    assert caught.value.exit_code == 6


def test_an_address_in_a_network_of_containers_may_be_an_inner_one() -> None:
    """K12."""
    bridge = ip_network("10.88.0.0/16")
    steps, _ = desired(CONFIG, Facts(index=7, lan=(bridge,), inside=frozenset({bridge})))
    assert any(isinstance(step, Address) for step in steps)


OWN = replace(CONFIG, addresses=(), own=(ip_address("192.0.2.10"), ip_address("2001:db8::10")))


def test_where_no_address_was_assigned_packets_come_from_our_own_which_stays_where_it_is() -> None:
    """K22: nothing guards it, so the LAN goes on reaching this machine."""
    steps, warnings = desired(OWN, Facts(index=7, taken=frozenset(OWN.own)))
    assert warnings == []
    assert {str(step.source) for step in steps if isinstance(step, Route) and step.interface} == {
        "192.0.2.10",
        "2001:db8::10",
    }
    assert not any(isinstance(step, Address | LocalRuleLast) for step in steps)
    assert [step.priority for step in steps if isinstance(step, Rule)] == [20011, 20010] * 2


def test_own_packets_to_a_gateway_that_is_in_the_tunnel_itself_are_told_by_their_mark() -> None:
    """K22: host to host."""
    config = replace(OWN, routes=networks("203.0.113.7/32"))
    steps, _ = desired(config, Facts(index=7))
    assert [str(step.destination) for step in steps if isinstance(step, Route) and step.interface] == ["203.0.113.7/32"]
    assert [step.mark for step in steps if isinstance(step, Rule)] == [0x1CE] * 2


FACTS = Facts(
    index=7,
    lan=LAN,
    taken=frozenset(map(ip_address, ("192.168.7.10", "2001:db8::10"))),
    routers=frozenset(map(ip_address, ("192.168.7.1", "203.0.113.254"))),
)


@pytest.mark.parametrize(
    ("tunnel", "exclude_lan", "server", "used"),
    [
        (["10.99.0.0/24"], False, "10.99.0.53", True),
        (["0.0.0.0/0"], False, "192.168.7.53", True),  # into the tunnel, as everything
        (["0.0.0.0/0"], True, "192.168.7.53", False),
        (["10.99.0.0/24"], False, "192.168.7.53", False),
        (["10.99.0.0/24"], False, "192.168.7.1", False),
        (["10.99.0.0/24"], False, "203.0.113.254", False),
        (["10.99.0.0/24"], False, "9.9.9.9", True),  # pulled into the tunnel by a route of its own
        (["0.0.0.0/0"], False, "192.168.7.10", False),  # this machine's
        (["0.0.0.0/0"], False, "172.30.0.1", False),
        (["0.0.0.0/0"], False, "192.168.7.255", False),  # broadcast: the kernel's local table comes first
        (["192.168.7.0/24"], True, "192.168.7.53", True),  # agreed on by name
        (["::/0"], False, "2001:db8::10", False),
        (["fd99::/64"], False, "fd12::53", False),
    ],
)
def test_a_name_server_of_the_lan_is_asked_only_where_it_is_in_the_tunnel(
    tunnel: list[str], exclude_lan: bool, server: str, used: bool
) -> None:
    """K14: questions for names inside must not be answered by a neighbour."""
    addresses = (ip_interface("172.30.0.1/32"), ip_interface("fd88::1/128"))
    config = replace(CONFIG, addresses=addresses, routes=networks(*tunnel), exclude_lan=exclude_lan)
    servers, warnings = usable_servers(config, FACTS, (ip_address(server),))
    assert servers == ((ip_address(server),) if used else ())
    assert [server in warning for warning in warnings] == ([] if used else [True])


def test_the_kernel_is_asked_about_addresses_that_are_in_the_tunnel_and_nowhere_else() -> None:
    config = replace(
        CONFIG, routes=networks("0.0.0.0/0", "10.99.0.0/24", "fd99::/128"), exclude=networks("100.64.0.0/10")
    )
    steps, _ = desired(config, Facts(index=7))
    asked = {version: list(addresses) for version, addresses in samples(config, steps).items()}
    assert asked[6] == [ip_address("fd99::")]
    assert ip_address("198.18.0.1") in asked[4]
    assert ip_address("10.99.0.1") in asked[4]
    assert not any(address in ip_network("100.64.0.0/10") for address in asked[4])
    assert samples(replace(config, routes=config.exclude), []) == {}
    blocked = replace(config, routes=networks("10.99.0.0/24"), blocked=frozenset({4, 6}))
    assert ip_address("10.99.0.1") in samples(blocked, desired(blocked, Facts(index=7))[0])[4]
