"""CFG_REQUEST and CFG_REPLY (RFC 7296 sections 2.19 and 3.15, RFC 7651, RFC 8598).

What the gateway assigns is authenticated but not trusted: addresses that would hurt the machine, names that are not
host names, and floods are refused item by item, each with a notice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import TypeVar

from ikeclient.errors import NegotiationRefused
from ikeclient.ike.events import Configuration, IPAddress
from ikeclient.wire.config import ConfigAttribute, ConfigPayload
from ikeclient.wire.registry import ConfigAttributeType, ConfigType
from ikeclient.wire.text import printable

MAX_ADDRESSES = 16
MAX_SERVERS = 16
MAX_DOMAINS = 64
MAX_SUBNETS = 256
MAX_NOTICES = 16

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SEPARATORS = re.compile(r"[ ,]+")  # some gateways put several names into one attribute
_UNITY_ENTRY, _UNITY_SHORT_ENTRY = 14, 8
_BROADCAST = IPv4Address("255.255.255.255")
_THIS_NETWORK = IPv4Network("0.0.0.0/8")

T = TypeVar("T")
_T = ConfigAttributeType

_REQUESTS: dict[str, tuple[ConfigAttributeType, ...]] = {
    "ipv4": (_T.INTERNAL_IP4_ADDRESS, _T.INTERNAL_IP4_SUBNET),
    "ipv6": (_T.INTERNAL_IP6_ADDRESS, _T.INTERNAL_IP6_SUBNET),
    "dns": (_T.INTERNAL_DNS_DOMAIN,),
}
# What is asked for in the families that addresses are asked for in, in both without addresses. Operators' gateways
# know the numbers of RFC 7651 or those that were in use before.
_BY_FAMILY: dict[str, dict[str, tuple[ConfigAttributeType, ...]]] = {
    "dns": {"ipv4": (_T.INTERNAL_IP4_DNS,), "ipv6": (_T.INTERNAL_IP6_DNS,)},
    "p-cscf": {
        "ipv4": (_T.P_CSCF_IP4_ADDRESS, _T.PRIVATE_P_CSCF_IP4_ADDRESS),
        "ipv6": (_T.P_CSCF_IP6_ADDRESS, _T.PRIVATE_P_CSCF_IP6_ADDRESS),
    },
}


def request(wanted: frozenset[str], had: Sequence[IPv4Interface | IPv6Interface] = ()) -> tuple[ConfigPayload, ...]:
    """The CFG_REQUEST for what the profile asks for; empty when it asks for nothing.

    `had` are the addresses of a connection that was lost: asking for them lets the gateway give them again.

    Domains are asked for together with servers (RFC 8598 section 3.1).
    """
    types = [t for kind, kinds in _REQUESTS.items() if kind in wanted for t in kinds]
    families = wanted & {"ipv4", "ipv6"} or {"ipv4", "ipv6"}
    for kind, by_family in _BY_FAMILY.items():
        if kind in wanted:
            types += [t for family, kinds in by_family.items() if family in families for t in kinds]
    if not types:
        return ()
    before = {_T.INTERNAL_IP4_ADDRESS: 4, _T.INTERNAL_IP6_ADDRESS: 6}
    attributes = (
        ConfigAttribute(type=t, value=next((_value(a) for a in had if a.version == before.get(t)), b"")) for t in types
    )
    return (ConfigPayload(type=ConfigType.REQUEST, attributes=tuple(attributes)),)


def _value(address: IPv4Interface | IPv6Interface) -> bytes:
    """An address as its attribute carries it; IPv6 has a prefix length behind it."""
    return address.packed if address.version == 4 else address.packed + bytes((128,))


def valid_domain(name: str) -> bool:
    """Whether `name` is a host name that is safe to hand to a resolver (letters, digits, hyphen, underscore, dots)."""
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))


def _unusable(address: IPAddress) -> str | None:
    """What is wrong with an address that no host can have."""
    plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
    if plain.is_unspecified or plain in _THIS_NETWORK:
        return "unspecified"
    if plain.is_loopback:
        return "a loopback address"
    if plain.is_multicast:
        return "a multicast address"
    if plain == _BROADCAST:
        return "the broadcast address"
    if plain != address:
        return "an IPv4 address in IPv6 notation"
    return None


def _ipv4(value: bytes) -> IPv4Address:
    if len(value) != 4:
        raise ValueError(f"an IPv4 address of {len(value)} bytes")
    return IPv4Address(value)


def _ipv6(value: bytes) -> IPv6Address:
    if len(value) != 16:
        raise ValueError(f"an IPv6 address of {len(value)} bytes")
    return IPv6Address(value)


def _mask_length(value: bytes) -> int:
    mask = int(_ipv4(value))
    length = mask.bit_count()
    if mask != (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF:
        raise ValueError(f"{IPv4Address(value)} is not a netmask")
    return length


def _prefix_length(value: int) -> int:
    if value > 128:
        raise ValueError(f"a prefix length of {value}")
    return value


def _unity_networks(value: bytes) -> list[IPv4Network]:
    if len(value) % _UNITY_ENTRY not in (0, _UNITY_SHORT_ENTRY):
        raise ValueError(f"a list of networks of {len(value)} bytes")
    entries = [value[at : at + _UNITY_SHORT_ENTRY] for at in range(0, len(value), _UNITY_ENTRY)]
    return [IPv4Network((entry[:4], _mask_length(entry[4:])), strict=False) for entry in entries]


class _Reply:
    """Collects the usable items of one CFG_REPLY, and a notice for each of the others."""

    def __init__(self, gateway: IPAddress | None) -> None:
        self._gateway = gateway
        # Dictionaries as ordered sets.
        self.addresses: dict[IPv4Interface | IPv6Interface, None] = {}
        self.servers: dict[IPAddress, None] = {}
        self.domains: dict[str, None] = {}
        self.subnets: dict[IPv4Network | IPv6Network, None] = {}
        self.excluded: dict[IPv4Network | IPv6Network, None] = {}
        self.exclude_lan = False
        self.p_cscf: dict[IPAddress, None] = {}
        self.notices: dict[str, None] = {}

    def notice(self, text: str) -> None:
        if len(self.notices) < MAX_NOTICES:
            self.notices[text] = None

    def _keep(self, items: dict[T, None], item: T, limit: int, what: str) -> None:
        if len(items) < limit or item in items:
            items[item] = None
        else:
            self.notice(f"the gateway sent more than {limit} {what}: the others are ignored")

    # The prefix length or netmask describes the gateway's network; the address that is ours is one.

    def address4(self, value: bytes) -> None:
        self._assign(IPv4Interface(_ipv4(value)))

    def netmask(self, value: bytes) -> None:
        _mask_length(value)

    def address6(self, value: bytes) -> None:
        if len(value) == 17:
            _prefix_length(value[16])
            value = value[:16]
        self._assign(IPv6Interface(_ipv6(value)))

    def _assign(self, address: IPv4Interface | IPv6Interface) -> None:
        bad = "the gateway's own address" if address.ip == self._gateway else _unusable(address.ip)
        if address.ip.is_link_local:  # nothing for such an address comes out of the tunnel (`esp/sa/selectors.py`)
            bad = "a link-local address"
        if bad:
            raise NegotiationRefused(
                f"the gateway assigned the address {address.ip}",
                reason=f"that is {bad}",
                hint="the gateway's address pool is misconfigured: ask its administrator",
            )
        self._keep(self.addresses, address, MAX_ADDRESSES, "addresses")

    def server4(self, value: bytes) -> None:
        self._server(self.servers, _ipv4(value), "DNS server")

    def server6(self, value: bytes) -> None:
        self._server(self.servers, _ipv6(value), "DNS server")

    def p_cscf4(self, value: bytes) -> None:
        self._server(self.p_cscf, _ipv4(value), "P-CSCF server")

    def p_cscf6(self, value: bytes) -> None:
        self._server(self.p_cscf, _ipv6(value), "P-CSCF server")

    def _server(self, known: dict[IPAddress, None], server: IPAddress, what: str) -> None:
        bad = "link-local" if server.is_link_local else _unusable(server)
        if bad:
            raise ValueError(f"{what} {server} is {bad}")
        self._keep(known, server, MAX_SERVERS, f"{what}s")

    def domain(self, value: bytes) -> None:
        for name in _SEPARATORS.split(value.decode("ascii", "replace").strip(" ,")):
            plain = name.rstrip(".").lower()
            if valid_domain(plain):
                self._keep(self.domains, plain, MAX_DOMAINS, "DNS domains")
            elif name:
                self.notice(f"refused DNS domain '{printable(name, 64)}' from the gateway")

    def subnet4(self, value: bytes) -> None:
        if len(value) != 8:
            raise ValueError(f"an IPv4 subnet of {len(value)} bytes")
        self._subnet(IPv4Network((value[:4], _mask_length(value[4:])), strict=False))

    def subnet6(self, value: bytes) -> None:
        if len(value) != 17:
            raise ValueError(f"an IPv6 subnet of {len(value)} bytes")
        self._subnet(IPv6Network((value[:16], _prefix_length(value[16])), strict=False))

    # Cisco's lists, which other vendors send as well: entries of address, mask and six bytes that may be missing from
    # the last one.

    def split_include(self, value: bytes) -> None:
        for subnet in _unity_networks(value):
            self._subnet(subnet)

    def local_lan(self, value: bytes) -> None:
        for subnet in _unity_networks(value):
            if subnet.network_address.is_unspecified:  # without an address: wherever the client is
                self.exclude_lan = True
            else:
                self._keep(self.excluded, subnet, MAX_SUBNETS, "networks to exclude")

    def _subnet(self, subnet: IPv4Network | IPv6Network) -> None:
        if subnet.is_loopback or subnet.is_multicast:
            raise ValueError(f"{subnet} is no network to route")
        self._keep(self.subnets, subnet, MAX_SUBNETS, "subnets")


_Handler = Callable[[_Reply, bytes], None]

_HANDLERS: dict[ConfigAttributeType, tuple[_Handler, str]] = {  # with what has to be asked for
    _T.INTERNAL_IP4_ADDRESS: (_Reply.address4, "ipv4"),
    _T.INTERNAL_IP4_NETMASK: (_Reply.netmask, "ipv4"),
    _T.INTERNAL_IP6_ADDRESS: (_Reply.address6, "ipv6"),
    _T.INTERNAL_IP4_DNS: (_Reply.server4, "dns"),
    _T.INTERNAL_IP6_DNS: (_Reply.server6, "dns"),
    _T.P_CSCF_IP4_ADDRESS: (_Reply.p_cscf4, "p-cscf"),
    _T.P_CSCF_IP6_ADDRESS: (_Reply.p_cscf6, "p-cscf"),
    _T.PRIVATE_P_CSCF_IP4_ADDRESS: (_Reply.p_cscf4, "p-cscf"),
    _T.PRIVATE_P_CSCF_IP6_ADDRESS: (_Reply.p_cscf6, "p-cscf"),
    _T.INTERNAL_DNS_DOMAIN: (_Reply.domain, "dns"),
    _T.UNITY_DEF_DOMAIN: (_Reply.domain, "dns"),
    _T.UNITY_SPLITDNS_NAME: (_Reply.domain, "dns"),
    _T.INTERNAL_IP4_SUBNET: (_Reply.subnet4, "ipv4"),
    _T.INTERNAL_IP6_SUBNET: (_Reply.subnet6, "ipv6"),
    _T.UNITY_SPLIT_INCLUDE: (_Reply.split_include, "ipv4"),
    _T.UNITY_LOCAL_LAN: (_Reply.local_lan, "ipv4"),
}
_EVERYTHING = frozenset({"ipv4", "ipv6", "dns", "p-cscf"})


def reply(
    payload: ConfigPayload | None, *, gateway: IPAddress | None = None, wanted: frozenset[str] = _EVERYTHING
) -> tuple[Configuration, tuple[str, ...]]:
    """What a CFG_REPLY assigns of what was `wanted`, and a notice for each item that was refused.

    `gateway` is the gateway's outer address, which it cannot give away. Raises `NegotiationRefused` for an inner
    address that nobody can have.
    """
    collected = _Reply(gateway)
    if payload is not None and payload.type == ConfigType.REPLY:
        for attribute in payload.attributes:
            handler, kind = _HANDLERS.get(attribute.type, (None, ""))
            if handler is None or kind not in wanted or not attribute.value:
                continue
            try:
                handler(collected, attribute.value)
            except ValueError as error:
                collected.notice(f"refused {attribute.type} from the gateway: {error}")
    configuration = Configuration(
        addresses=tuple(collected.addresses),
        dns_servers=tuple(collected.servers),
        dns_domains=tuple(collected.domains),
        subnets=tuple(collected.subnets),
        excluded=tuple(collected.excluded),
        exclude_lan=collected.exclude_lan,
        p_cscf=tuple(collected.p_cscf),
    )
    return configuration, tuple(collected.notices)
