"""Which routes and rules a configuration means; the cases that need no kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from ikeclient.errors import PlatformError
from ikeclient.net.desired import Facts, desired
from ikeclient.net.interfaces import IPNetwork, MachineConfig
from ikeclient.net.steps import Route, Rule

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
    config = replace(CONFIG, routes=networks("0.0.0.0/0", "192.168.7.0/24", "10.99.0.0/24", "::/0"), exclude_lan=True)
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
    assert [step.kind for step in steps if isinstance(step, Route)] == ["unicast", "unreachable"]


def test_a_tunnel_of_a_few_networks_comes_before_one_that_takes_everything() -> None:
    def priorities(config: MachineConfig) -> set[int]:
        return {step.priority for step in desired(config, Facts(index=7))[0] if isinstance(step, Rule) and step.mark}

    assert max(priorities(replace(CONFIG, routes=networks("10.99.0.0/24", "fd99::/64")))) < min(priorities(CONFIG))
    assert max(priorities(CONFIG)) < 32766


def test_a_route_comes_from_the_inner_address_of_its_family() -> None:
    steps, _ = desired(CONFIG, Facts(index=7))
    assert [str(step.source) for step in steps if isinstance(step, Route)] == ["10.88.0.1", "fd88::1"]


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
    "address", ["192.0.2.10/32", "127.0.0.1/32", "0.0.0.0/0", "224.0.0.1/32", "::1/128", "ff02::1/128"]
)
def test_an_inner_address_that_would_cut_the_machine_off_is_refused(address: str) -> None:
    """K12: the gateway's own choice, and rules of ours drop what comes to it from elsewhere."""
    config = replace(CONFIG, addresses=(ip_interface(address),))
    with pytest.raises(PlatformError, match="cannot be used"):
        desired(config, Facts(index=7, taken=frozenset({ip_address("192.0.2.10")})))
