"""The addresses and default gateways of this machine, for people (`ikeclient doctor`) and as candidates for MOBIKE."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_address

from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.model import IPAddress, IPInterface, Version


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
    import netifaces

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
    import netifaces

    families: dict[Version, int] = {4: netifaces.AF_INET, 6: netifaces.AF_INET6}
    defaults = netifaces.gateways().get("default")
    if not isinstance(defaults, dict):
        return {}
    return {
        version: DefaultGateway(defaults[family][1], ip_address(defaults[family][0].partition("%")[0]))
        for version, family in families.items()
        if family in defaults
    }
