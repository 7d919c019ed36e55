"""What people and MOBIKE are told about the machine's addresses, against a namespace whose addresses are known."""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_interface

import pytest
from net_lab import Lan, inside, sh

from ikeclient.net.machine.listing import DefaultGateway, LocalAddress, default_gateways, local_addresses


@pytest.mark.lab
@pytest.mark.parametrize("library", ["netifaces", "none"])
@inside
def test_addresses_and_gateways_of_both_families_are_found(lan: Lan, library: str) -> None:
    """With netifaces, and without it, as where that has no wheel."""
    if library == "none":
        sys.modules["netifaces"] = None  # type: ignore[assignment]  # in a child process
    assert local_addresses() == [
        LocalAddress("v0", ip_interface("192.0.2.10/24")),
        LocalAddress("v0", ip_interface("2001:db8::10/64")),
    ]
    assert default_gateways() == {
        4: DefaultGateway("v0", ip_address("192.0.2.1")),
        6: DefaultGateway("v0", ip_address("2001:db8::1")),
    }
    sh("ip -6 route replace default via fe80::1 dev v0")
    assert default_gateways()[6] == DefaultGateway("v0", ip_address("fe80::1"))
    sh("ip route delete default; ip -6 route delete default")
    assert default_gateways() == {}
    sh("ip address flush dev v0")
    assert local_addresses() == []
