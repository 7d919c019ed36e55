"""What a gateway grants, and what a profile wants of the network, for tests of what is made of it."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from ikeclient.ike.events import Configuration
from ikeclient.net.model import IPNetwork
from ikeclient.profile.compiled import NetworkSettings
from ikeclient.wire.selector import TrafficSelector


def settings(**changes: Any) -> NetworkSettings:
    values: dict[str, Any] = {
        "request": frozenset({"ipv4", "ipv6", "dns"}),
        "routes": "gateway",
        "exclude": (),
        "exclude_lan": False,
        "dns": "auto",
        "mtu": 0,
        "interface": "ike%d",
    }
    return NetworkSettings(**(values | changes))


def selectors(*networks: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.from_network(ip_network(n)) for n in networks)


def networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(text) for text in texts)


def granted(*addresses: str, servers: tuple[str, ...] = (), domains: tuple[str, ...] = ()) -> Configuration:
    return Configuration(
        addresses=tuple(ip_interface(a) for a in addresses),
        dns_servers=tuple(ip_address(s) for s in servers),
        dns_domains=domains,
    )
