"""The addresses and default gateways of this machine, for people (`ikeclient doctor`).

They come from netifaces, or by netlink where that is not installed: it has no wheel for every Python.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Interface, IPv6Interface, ip_address

from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.model import VERSIONS, IPAddress, IPInterface, Version
from ikeclient.net.watch.netlink import Netlink


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address of an interface of this machine."""

    interface: str
    address: IPInterface


@dataclass(frozen=True, slots=True)
class DefaultGateway:
    """Where the main routing table sends what has no better route."""

    interface: str
    address: IPAddress


def local_addresses() -> list[LocalAddress]:
    """Every address that can be spoken from to another machine: neither loopback nor link-local."""
    return [
        found
        for found in _all_addresses()
        if not (found.address.is_loopback or found.address.is_link_local or found.address.is_multicast)
    ]


def _all_addresses() -> Iterator[LocalAddress]:
    try:
        import netifaces
    except ImportError:
        yield from _addresses_by_netlink()
        return
    for interface in netifaces.interfaces():
        try:
            families = netifaces.ifaddresses(interface)
        except ValueError:
            continue  # gone since it was listed
        for entry in families.get(netifaces.AF_INET, []):
            yield LocalAddress(interface, IPv4Interface(f"{entry['addr']}/{entry.get('netmask', '32')}"))
        for entry in families.get(netifaces.AF_INET6, []):
            # The mask is written in front of the prefix length: "ffff:ffff:ffff:ffff::/64".
            length = entry.get("netmask", "/128").rpartition("/")[2]
            yield LocalAddress(interface, IPv6Interface(f"{entry['addr'].partition('%')[0]}/{length}"))


def default_gateways() -> dict[Version, DefaultGateway]:
    """The default gateway of each family that has one."""
    try:
        import netifaces
    except ImportError:
        return _gateways_by_netlink()
    families: dict[Version, int] = {4: netifaces.AF_INET, 6: netifaces.AF_INET6}
    defaults = netifaces.gateways().get("default")
    if not isinstance(defaults, dict):
        return {}
    return {
        version: DefaultGateway(defaults[family][1], ip_address(defaults[family][0].partition("%")[0]))
        for version, family in families.items()
        if family in defaults
    }


def _addresses_by_netlink() -> Iterator[LocalAddress]:
    with closing(Netlink()) as netlink:
        for index, address, _ in netlink.interface_addresses():
            try:
                yield LocalAddress(socket.if_indextoname(index), address)
            except OSError:
                continue  # gone since it was listed


def _gateways_by_netlink() -> dict[Version, DefaultGateway]:
    found: dict[Version, DefaultGateway] = {}
    with closing(Netlink()) as netlink:
        defaults = sorted(netlink.snapshot().defaults, key=lambda route: route.metric)
    for version in VERSIONS:
        for route in defaults:
            if route.version == version and route.gateway is not None:
                found[version] = DefaultGateway(route.interface, route.gateway)
                break
    return found
