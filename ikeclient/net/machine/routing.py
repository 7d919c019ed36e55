"""Routes and rules of ours as messages of rtnetlink(7), in both directions.

Hundreds of routes may come at once, and what somebody else took away must be back within milliseconds, both inside the
event loop. So these messages are written here, and many are sent with one system call; a library would take a
millisecond for each. Reading back gives the very steps that were taken, or nothing for what is not shaped like ours.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from struct import Struct
from typing import NamedTuple

from ikeclient.net.changes.steps import KERNEL, Route, RouteKind, Rule
from ikeclient.net.model import VERSIONS, IPAddress, Version
from ikeclient.net.watch.netlink import Attributes, Netlink, attribute, attributes

CREATE, EXCLUSIVE, REPLACE = 0x400, 0x200, 0x100  # flags of a request to add
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
NEW_RULE, DELETE_RULE, GET_RULE = 32, 33, 34

_ROUTE = Struct("=BBBBBBBBI")  # rtmsg: family, two prefix lengths, TOS, table, protocol, scope, type, flags
_RULE = Struct("=BBBBBBBBI")  # fib_rule_hdr: family, two prefix lengths, TOS, table, 2 reserved, action, flags
_ADDRESS = Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_NEW_ADDRESS, _DELETE_ADDRESS, _IFA_LOCAL, _NO_DAD = 20, 21, 2, 0x02
_NUMBER, _PORTS = Struct("=I"), Struct("=HH")

_RTA_DST, _RTA_OIF, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 7, 15
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE = 1, 2, 3, 6, 10, 15
_FRA_SUPPRESS_PREFIXLEN, _FRA_FWMASK, _FRA_PAD, _FRA_PROTOCOL, _FRA_IP_PROTO, _FRA_SPORT_RANGE = 14, 16, 18, 21, 22, 23
_FRA_OIFNAME = 17
_FRA_SPORT_MASK = 28  # newer kernels add it, with every bit set
_OURS_HAVE = frozenset(
    {
        *(_FRA_DST, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_SUPPRESS_PREFIXLEN, _FRA_FWMASK),
        *(_FRA_PAD, _FRA_PROTOCOL, _FRA_IP_PROTO, _FRA_SPORT_RANGE, _FRA_SPORT_MASK),
    }
)
_SELECTORS = frozenset({_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_OIFNAME, _FRA_FWMARK})
_NO_SUPPRESSION = b"\xff\xff\xff\xff"

_TO_TABLE, _BLACKHOLE = 1, 6  # actions of a rule
_INVERT, _DETACHED = 0x2, 0x8  # its flags; detached: there is no interface of that name now
_LONG_TABLE = 252  # stands in the header for a table above 255
_TYPES: dict[RouteKind, int] = {"unicast": 1, "unreachable": 7, "throw": 9}
_KINDS = {number: kind for kind, number in _TYPES.items()}

_FAMILIES: dict[Version, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSIONS: dict[int, Version] = {family: version for version, family in _FAMILIES.items()}
_NOTHING = frozenset({errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP})  # no such table, no such family


def route_message(step: Route) -> bytes:
    """The body of a request about a route."""
    destination = step.destination
    table = step.table if step.table < 256 else _LONG_TABLE
    body = _ROUTE.pack(
        _FAMILIES[destination.version], destination.prefixlen, 0, 0, table, KERNEL, 0, _TYPES[step.kind], 0
    )
    body += attribute(_RTA_DST, destination.network_address.packed) + attribute(_RTA_TABLE, _NUMBER.pack(step.table))
    if step.interface:
        body += attribute(_RTA_OIF, _NUMBER.pack(step.index))
    if step.source is not None:
        body += attribute(_RTA_PREFSRC, step.source.packed)
    return body


def read_route(message: memoryview) -> Route | None:
    """The route of a table of ours that a message of the kernel tells of."""
    family, length, source_length, tos, table, protocol, _, kind, _ = _ROUTE.unpack_from(message)
    found = attributes(message, _ROUTE.size)
    version = _VERSIONS.get(family)
    if version is None or source_length or tos or protocol != KERNEL or kind not in _KINDS:
        return None
    index = _number(found, _RTA_OIF) if _KINDS[kind] == "unicast" else 0
    destination = _address(found.get(_RTA_DST, b"")) or ip_address(bytes(4 if version == 4 else 16))
    with contextlib.suppress(ValueError, OSError):  # not a table of ours; the interface is gone
        return Route(
            destination=ip_network((destination, length)),
            table=_number(found, _RTA_TABLE) or table,
            kind=_KINDS[kind],
            interface=socket.if_indextoname(index) if index else None,
            index=index,
            source=_address(found.get(_RTA_PREFSRC, b"")),
        )
    return None


def rule_message(step: Rule) -> bytes:
    """The body of a request about a rule."""
    length = step.destination.prefixlen if step.destination else 0
    action = _TO_TABLE if step.table else _BLACKHOLE
    table = step.table if step.table < 256 else _LONG_TABLE
    flags = _INVERT if step.mark else 0
    body = _RULE.pack(_FAMILIES[step.version], length, 0, 0, table, 0, 0, action, flags)
    body += attribute(_FRA_PRIORITY, _NUMBER.pack(step.priority)) + attribute(_FRA_PROTOCOL, bytes([step.protocol]))
    if step.table:
        body += attribute(_FRA_TABLE, _NUMBER.pack(step.table))
    if step.mark:
        body += attribute(_FRA_FWMARK, _NUMBER.pack(step.mark)) + attribute(_FRA_FWMASK, _NO_SUPPRESSION)
    if step.destination:
        body += attribute(_FRA_DST, step.destination.network_address.packed)
    if step.input_interface:
        body += attribute(_FRA_IIFNAME, step.input_interface.encode("ascii") + b"\0")
    if step.source_port:
        body += attribute(_FRA_IP_PROTO, bytes([socket.IPPROTO_UDP]))
        body += attribute(_FRA_SPORT_RANGE, _PORTS.pack(step.source_port, step.source_port))
    return body


def read_rule(message: memoryview) -> Rule | None:
    """The rule that a message of the kernel tells of, if it is shaped like ours."""
    family, length, source_length, tos, table, _, _, action, flags = _RULE.unpack_from(message)
    found = attributes(message, _RULE.size)
    version = _VERSIONS.get(family)
    first, last = _PORTS.unpack(found[_FRA_SPORT_RANGE]) if _FRA_SPORT_RANGE in found else (0, 0)
    mark = _number(found, _FRA_FWMARK)
    address = _address(found.get(_FRA_DST, b""))
    plain = not (source_length or tos or first != last or flags & ~(_INVERT | _DETACHED) or found.keys() - _OURS_HAVE)
    if version is None or not plain or found.get(_FRA_SUPPRESS_PREFIXLEN, _NO_SUPPRESSION) != _NO_SUPPRESSION:
        return None
    if bool(mark) != bool(flags & _INVERT) or (mark and found.get(_FRA_FWMASK, _NO_SUPPRESSION) != _NO_SUPPRESSION):
        return None
    if found.get(_FRA_SPORT_MASK, b"\xff\xff") != b"\xff\xff":
        return None
    if (found.get(_FRA_IP_PROTO, b"") == bytes([socket.IPPROTO_UDP])) != bool(first):
        return None
    number = {_TO_TABLE: _number(found, _FRA_TABLE) or table, _BLACKHOLE: 0}.get(action)
    if number is None:
        return None
    with contextlib.suppress(ValueError):
        return Rule(
            version=version,
            priority=_number(found, _FRA_PRIORITY),
            table=number,
            protocol=found.get(_FRA_PROTOCOL, b"\0")[0],
            mark=mark,
            destination=ip_network((address, length)) if address else None,
            input_interface=found[_FRA_IIFNAME].rstrip(b"\0").decode("ascii") if _FRA_IIFNAME in found else None,
            source_port=first,
        )
    return None


def forget_ipv6_routes() -> list[tuple[int, int, bytes]]:
    """Requests that make every socket look up its IPv6 route again.

    A connected socket keeps the route that it has found, and unlike in IPv4 neither a rule nor a route of another table
    makes it invalid: it would go on past what was closed. An address that comes or goes does, so one comes and goes, of
    the prefix that leads nowhere (RFC 6666).
    """
    body = _ADDRESS.pack(socket.AF_INET6, 128, _NO_DAD, 0, socket.if_nametoindex("lo"))
    body += attribute(_IFA_LOCAL, ip_address("100::1ce").packed)
    return [(_NEW_ADDRESS, CREATE, body), (_DELETE_ADDRESS, 0, body)]


class Seen(NamedTuple):
    """A rule of the kernel's, and whether it is for every packet; `rule` is None if it is not shaped like ours."""

    priority: int
    table: int
    protocol: int
    for_all: bool
    rule: Rule | None


def rules(netlink: Netlink, version: Version) -> Iterator[Seen]:
    """Every rule of a family, in the kernel's order. Raises OSError."""
    for message in _dump(netlink, GET_RULE, _RULE.pack(_FAMILIES[version], 0, 0, 0, 0, 0, 0, 0, 0)):
        found = attributes(message, _RULE.size)
        table = _number(found, _FRA_TABLE) or message[4]
        protocol = found.get(_FRA_PROTOCOL, b"\0")[0]
        for_all = found.keys().isdisjoint(_SELECTORS)
        yield Seen(_number(found, _FRA_PRIORITY), table, protocol, for_all, read_rule(message))


def routes(netlink: Netlink, *tables: int) -> Iterator[Route]:
    """The routes of ours in these tables, or in all. Raises OSError."""
    for version in VERSIONS:
        for table in tables or (0,):
            for message in _in_table(netlink, version, table):
                route = read_route(message)
                if route is not None and table in (0, route.table):
                    yield route


def is_used(netlink: Netlink, table: int) -> bool:
    """Whether there is any route in a table. Raises OSError."""
    for version in VERSIONS:
        for message in _in_table(netlink, version, table):
            # Kernels before Linux 4.20 send those of all tables.
            if (_number(attributes(message, _ROUTE.size), _RTA_TABLE) or message[4]) == table:
                return True
    return False


def _in_table(netlink: Netlink, version: Version, table: int) -> list[memoryview]:
    body = _ROUTE.pack(_FAMILIES[version], 0, 0, 0, 0, 0, 0, 0, 0)
    return _dump(netlink, GET_ROUTE, body + (attribute(_RTA_TABLE, _NUMBER.pack(table)) if table else b""))


def _dump(netlink: Netlink, kind: int, body: bytes) -> list[memoryview]:
    try:
        return [message for _, message in netlink.dump(kind, body)]
    except OSError as error:
        if error.errno in _NOTHING:
            return []
        raise


def _number(found: Attributes, kind: int) -> int:
    value = found.get(kind, b"")
    return int(_NUMBER.unpack(value)[0]) if len(value) == _NUMBER.size else 0


def _address(packed: bytes) -> IPAddress | None:
    return ip_address(packed) if packed else None
