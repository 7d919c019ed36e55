"""Whom to ask for a packet through the tunnel."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from ikeclient.tunnel.data_keeper import targets
from ikeclient.wire.selector import TrafficSelector

GATEWAY = ip_address("203.0.113.7")


def selectors(*networks: str) -> list[TrafficSelector]:
    return [TrafficSelector.from_network(ip_network(network)) for network in networks]


@pytest.mark.parametrize(
    ("networks", "dns", "expected"),
    [
        (["10.99.0.0/24"], [], [("10.99.0.1", 1)]),
        (["10.99.0.7/32"], [], [("10.99.0.7", 1)]),
        (["10.99.0.0/24", "fd99::/64"], ["10.99.0.53"], [("10.99.0.53", 64), ("10.99.0.1", 1), ("fd99::1", 1)]),
        (["10.99.0.0/24"], ["192.0.2.53"], [("10.99.0.1", 1)]),
        (["0.0.0.0/0"], [], [("203.0.113.7", 64), ("0.0.0.1", 1)]),
        ([], ["10.99.0.53"], []),
    ],
)
def test_only_who_is_inside_is_asked_and_strangers_no_further_than_the_gateway(
    networks: list[str], dns: list[str], expected: list[tuple[str, int]]
) -> None:
    """S20: what lives beyond the first hop gets nothing that nobody sent, but for the gateway's name servers."""
    found = targets(selectors(*networks), [ip_address(server) for server in dns], GATEWAY)
    assert found == [(ip_address(address), hops) for address, hops in expected]
