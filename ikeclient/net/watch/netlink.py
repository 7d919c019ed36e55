"""rtnetlink(7): snapshots, route lookups, many changes at once, and a bell that rings when something changes.

Written out instead of taken from pyroute2, because these questions are asked from inside an event loop, at once and all
day: pyroute2 brings a loop of its own, which would need a thread for every look, 5 MiB in every tunnel, and keeps a
queue of parsed notifications, of which only the fact that they came is wanted here.

The kernel's answer lies in the socket as soon as the request is sent, so nothing in here waits. The kernel is trusted
to write well-formed messages; what is not understood is left out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from itertools import count
from struct import Struct

from ikeclient.net.model import VERSIONS, IPAddress, IPInterface, IPNetwork, Version
from ikeclient.net.watch.snapshot import DefaultRoute, Interface, OuterAddress, RouteTo, Snapshot

_HEADER = Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_LINK = Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ADDRESS = Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE = Struct("=BBBBBBBBI")  # rtmsg: family, two prefix lengths, TOS, table, protocol, scope, type, flags
_NEXT_HOP = Struct("=HBBi")  # rtnexthop: length, flags, weight, index
_ATTRIBUTE = Struct("=HH")  # rtattr: length, type
_NEIGHBOUR = Struct("=BxxxiHBB")  # ndmsg: family, index, state, flags, type
_NUMBER = Struct("=I")
_ERROR = Struct("=i")

_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP_INTR, _NLM_F_DUMP, _NLM_F_CREATE = 0x1, 0x4, 0x10, 0x300, 0x400
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_NEWNEIGH, _RTM_GETNEIGH = 28, 30
_NDA_DST, _NDA_LLADDR = 1, 2
_NTF_USE = 0x01
_UNUSABLE = 0x01 | 0x20 | 0x40  # incomplete, failed, without a link-layer address
_SOL_NETLINK, _GET_STRICT_CHECK = 270, 12

# Links, addresses, routes and rules of both families, as bits: group n is bit n - 1 (linux/rtnetlink.h).
_GROUPS = sum(1 << (group - 1) for group in (1, 5, 7, 8, 9, 11, 19))

IFF_UP, IFF_LOOPBACK, IFF_POINTOPOINT = 0x1, 0x8, 0x10
# Up, ready, and with a carrier: the kernel notes a lost carrier at once and that it is not ready up to a second later.
_IFF_WORKING = 0x1 | 0x40 | 0x10000
_ETHERNET = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_EXT_MASK, _IFLA_CARRIER_UP_COUNT = 3, 4, 18, 29, 47
_IFLA_INFO_KIND = 1
_SKIP_STATISTICS = 8

_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_DEPRECATED, _TENTATIVE = 0x20, 0x40  # a duplicate stays tentative for ever
_LAST_ROUTABLE_SCOPE = 200  # "site"; behind it come link and host

_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MULTIPATH = 1, 2, 4, 5, 6, 7, 9
_RTA_TABLE, _RTA_MARK, _RTA_VIA = 15, 16, 18
_MAIN_TABLE = 254
_UNICAST, _LOCAL = 1, 2
_CLONED = 0x200

_FAMILIES: dict[Version, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSIONS: dict[int, Version] = {family: version for version, family in _FAMILIES.items()}
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ENOENT})

_ATTEMPTS = 4
_LONGEST = 1 << 17
_BATCH = 256
_TOGETHER = 64  # changes in one message: their answers fit into a socket's buffer

Attributes = dict[int, bytes]


def listen() -> socket.socket:
    """A non-blocking socket that becomes readable when a link, an address, a route or a rule changes; see `drain`.

    It belongs to the network namespace of the calling thread. Raises OSError where that is not permitted.
    """
    bell = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    try:
        bell.bind((0, _GROUPS))
    except OSError:
        bell.close()
        raise
    return bell


def drain(bell: socket.socket) -> None:
    """Throw away what `listen`'s socket holds, or as much as one turn should take; raises OSError when it is broken."""
    for _ in range(_BATCH):
        try:
            bell.recv(1)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # that only says that something was lost, so something changed
                raise


def concerns(bell: socket.socket, index: int, tables: Collection[int]) -> bool:
    """Empty `listen`'s socket, and tell whether any of it may be about this interface, these tables or a rule.

    Raises OSError when the socket is broken.
    """
    found = False
    for _ in range(_BATCH):
        try:
            data = bell.recv(_LONGEST)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            found = True  # something was lost
            continue
        found = found or any(
            _concerns(kind, message, index, tables) for kind, _, _, message in _messages(memoryview(data))
        )
    return True


def _concerns(kind: int, message: memoryview, index: int, tables: Collection[int]) -> bool:
    match kind & ~3:  # a new one and one deleted
        case _ if kind < _RTM_NEWLINK:
            return False
        case 16:
            return bool(_LINK.unpack_from(message)[2] == index)
        case 20:
            return bool(_ADDRESS.unpack_from(message)[4] == index)
        case 24:
            table = _number(attributes(message, _ROUTE.size).get(_RTA_TABLE, b"")) or message[4]
            return table in tables
    return True


class _RefusedError(OSError):
    """The kernel understood the question, and its answer is an error."""


class Netlink:
    """Questions to the kernel about the network namespace that the calling thread was in when this was made.

    Every method raises OSError when the kernel refuses to answer.
    """

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._sequence = count(1)
        self._socket.settimeout(1.0)
        # Lets the kernel choose routes by table. Before Linux 4.20 it sends all of them, with the same result.
        with contextlib.suppress(OSError):
            self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHECK, 1)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def snapshot(self, *, ignore: Collection[str] = (), remotes: Iterable[IPAddress] = (), mark: int = 0) -> Snapshot:
        """The network as it is now, without the interfaces named in `ignore`.

        `remotes` are addresses to ask the way to, for packets that carry the firewall mark `mark`.
        """
        interfaces = tuple(i for i in self._interfaces() if i.name not in ignore)
        working = {interface.index: interface.name for interface in interfaces if interface.working}
        return Snapshot(
            interfaces=interfaces,
            addresses=tuple(self._addresses(working)),
            defaults=tuple(route for version in VERSIONS for route in self.defaults(version, working)),
            routes=tuple(route for remote in remotes if (route := self.route_to(remote, mark=mark))),
        )

    def route_to(
        self, remote: IPAddress, *, mark: int = 0, source: IPAddress | None = None, interface: int = 0
    ) -> RouteTo | None:
        """Which way packets to `remote` would take, rules and all; None where no way leads there.

        `mark` is the firewall mark of the packets. With `source` the answer is for packets from that address, and None
        where IPv4 knows it is not ours. With `interface`, an index, it is for packets of a socket bound to that one,
        which the kernel sends out there even if no route says so. Needs no rights and sends nothing.
        """
        length = remote.max_prefixlen
        body = _ROUTE.pack(_FAMILIES[remote.version], length, length if source else 0, 0, 0, 0, 0, 0, 0)
        body += attribute(_RTA_DST, remote.packed)
        if source is not None:
            body += attribute(_RTA_SRC, source.packed)
        if mark:
            body += attribute(_RTA_MARK, _NUMBER.pack(mark))
        if interface:
            body += attribute(_RTA_OIF, _NUMBER.pack(interface))
        try:
            message = self._one(_RTM_GETROUTE, body)
        except _RefusedError:
            return None  # unreachable, prohibited, no such family: the kernel has a number for each
        kind = _ROUTE.unpack_from(message)[7]
        found = attributes(message, _ROUTE.size)
        preferred = source or _ip(found.get(_RTA_PREFSRC, b""))
        if kind not in (_UNICAST, _LOCAL) or _RTA_OIF not in found or preferred is None:
            return None
        index = _number(found[_RTA_OIF])
        return RouteTo(
            remote=remote, index=index, interface=self._name(index), source=preferred, gateway=_gateway(found)
        )

    def _name(self, index: int) -> str:
        try:
            message = self._one(_RTM_GETLINK, _link_request(index))
        except _RefusedError:
            return ""  # gone since
        return _text(attributes(message, _LINK.size).get(_IFLA_IFNAME, b""))

    def _interfaces(self) -> Iterator[Interface]:
        return (interface for flags, interface in self.links() if not flags & IFF_LOOPBACK)

    def links(self) -> Iterator[tuple[int, Interface]]:
        """Every interface with its flags (`IFF_`), loopback included."""
        for kind, message in self.dump(_RTM_GETLINK, _link_request(0)):
            _, link_type, index, flags, _ = _LINK.unpack_from(message)
            if kind != _RTM_NEWLINK:
                continue
            found = attributes(message, _LINK.size)
            virtual = _text(attributes(found.get(_IFLA_LINKINFO, b""), 0).get(_IFLA_INFO_KIND, b""))
            interface = Interface(
                index=index,
                name=_text(found.get(_IFLA_IFNAME, b"")),
                kind="tap" if virtual == "tun" and link_type == _ETHERNET else virtual,
                working=flags & _IFF_WORKING == _IFF_WORKING,
                mtu=_number(found.get(_IFLA_MTU, b"")),
                carriers=_number(found.get(_IFLA_CARRIER_UP_COUNT, b"")),
            )
            yield flags, interface

    def _addresses(self, working: dict[int, str]) -> Iterator[OuterAddress]:
        for kind, message in self.dump(_RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
            _, _, flags, scope, index = _ADDRESS.unpack_from(message)
            if kind != _RTM_NEWADDR or index not in working or scope > _LAST_ROUTABLE_SCOPE:
                continue
            found = attributes(message, _ADDRESS.size)
            flags = _number(found[_IFA_FLAGS]) if _IFA_FLAGS in found else flags
            address = _ip(found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b""))
            if address is None or address.is_link_local or address.is_loopback or flags & _TENTATIVE:
                continue
            yield OuterAddress(
                index=index, interface=working[index], address=address, deprecated=bool(flags & _DEPRECATED)
            )

    def defaults(self, version: Version, names: Mapping[int, str]) -> Iterator[DefaultRoute]:
        """The default routes of the main table by way of the interfaces in `names`, which are by index."""
        request = _ROUTE.pack(_FAMILIES[version], 0, 0, 0, _MAIN_TABLE, 0, 0, _UNICAST, 0)
        try:
            messages = self.dump(_RTM_GETROUTE, request)
        except OSError as error:
            if error.errno in _NO_SUCH_FAMILY:
                return
            raise
        for kind, message in messages:
            family, length, _, _, table, _, _, route_type, flags = _ROUTE.unpack_from(message)
            if kind != _RTM_NEWROUTE or length or route_type != _UNICAST or flags & _CLONED:
                continue
            if _VERSIONS.get(family) != version or table != _MAIN_TABLE:
                continue
            found = attributes(message, _ROUTE.size)
            metric = _number(found.get(_RTA_PRIORITY, b""))
            for index, gateway in _next_hops(found):
                if index in names:
                    yield DefaultRoute(
                        version=version, index=index, interface=names[index], gateway=gateway, metric=metric
                    )

    def device(self, index: int) -> tuple[bool, int, frozenset[IPAddress]] | None:
        """Whether an interface is up, its MTU and its addresses; None if it does not exist."""
        try:
            message = self._one(_RTM_GETLINK, _link_request(index))
        except _RefusedError:
            return None
        flags = _LINK.unpack_from(message)[3]
        mtu = _number(attributes(message, _LINK.size).get(_IFLA_MTU, b""))
        addresses = frozenset(address.ip for of, address, _ in self.interface_addresses() if of == index)
        return bool(flags & IFF_UP), mtu, addresses

    def working_links(self) -> set[int]:
        """The indexes of the interfaces that are up and have a carrier; a TUN device has one while it is open."""
        return {interface.index for interface in self._interfaces() if interface.working}

    def own_addresses(self) -> set[str]:
        """Every address of this network namespace, as text."""
        return {str(address.ip) for _, address, _ in self.interface_addresses()}

    def neighbours(self, version: Version, index: int) -> dict[IPAddress, str]:
        """The link-layer addresses that are known on an interface, `02:00:5e:10:00:01`, by IP address."""
        found: dict[IPAddress, str] = {}
        for kind, message in self.dump(_RTM_GETNEIGH, _NEIGHBOUR.pack(_FAMILIES[version], 0, 0, 0, 0)):
            _, on, state, _, _ = _NEIGHBOUR.unpack_from(message)
            values = attributes(message, _NEIGHBOUR.size)
            address, lower = _ip(values.get(_NDA_DST, b"")), values.get(_NDA_LLADDR, b"")
            if kind == _RTM_NEWNEIGH and on == index and address is not None and lower and not state & _UNUSABLE:
                found[address] = lower.hex(":")
        return found

    def solicit(self, address: IPAddress, index: int) -> bool:
        """Have the kernel ask for a neighbour's link-layer address; false if it refuses: it takes CAP_NET_ADMIN.

        Raises OSError.
        """
        body = _NEIGHBOUR.pack(_FAMILIES[address.version], index, 0, _NTF_USE, 0)
        [code] = self.change([(_RTM_NEWNEIGH, _NLM_F_CREATE, body + attribute(_NDA_DST, address.packed))])
        return code == 0

    def interface_addresses(self) -> Iterator[tuple[int, IPInterface, IPNetwork]]:
        """Index of the interface, address and network of every address of this network namespace.

        The network of a point-to-point address is where its peer is.
        """
        for kind, message in self.dump(_RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
            found = attributes(message, _ADDRESS.size)
            address = _ip(found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b""))
            if kind == _RTM_NEWADDR and address is not None:
                _, length, _, _, index = _ADDRESS.unpack_from(message)
                peer = _ip(found.get(_IFA_ADDRESS, b"")) or address
                yield index, ip_interface((address, length)), ip_network((peer, length), strict=False)

    def change(self, requests: Sequence[tuple[int, int, bytes]]) -> list[int]:
        """Send requests, each of type, flags and body, and return for each 0 or the number of the kernel's refusal.

        Every one is tried, in order. Raises OSError when the socket itself fails.
        """
        results = []
        for start in range(0, len(requests), _TOGETHER):
            batch = requests[start : start + _TOGETHER]
            pending = {next(self._sequence) & 0xFFFFFFFF: number for number in range(len(batch))}
            data = bytearray()
            for sequence, (kind, flags, body) in zip(pending, batch, strict=True):
                header = (_HEADER.size + len(body), kind, flags | _NLM_F_REQUEST | _NLM_F_ACK, sequence, 0)
                data += _HEADER.pack(*header) + body
            self._socket.sendto(data, (0, 0))
            codes = [0] * len(batch)
            while pending:
                answer, sender = self._socket.recvfrom(_LONGEST)
                for kind, _, sequence, message in _messages(memoryview(answer)) if not sender[0] else ():
                    if kind == _NLMSG_ERROR and sequence in pending:
                        codes[pending.pop(sequence)] = -_ERROR.unpack_from(message)[0]
            results += codes
        return results

    def send_batch(self, requests: Sequence[tuple[int, int, bytes]]) -> None:
        """Send requests, each of type, flags and body, in one message that the kernel takes whole (nfnetlink)."""
        data = bytearray()
        for kind, flags, body in requests:
            header = (_HEADER.size + len(body), kind, flags | _NLM_F_REQUEST, next(self._sequence) & 0xFFFFFFFF, 0)
            data += _HEADER.pack(*header) + body
        self._socket.sendto(data, (0, 0))

    def _one(self, kind: int, body: bytes) -> memoryview:
        for _, message in self._ask(kind, 0, body):
            return message
        raise _RefusedError(errno.ENODATA, os.strerror(errno.ENODATA))

    def dump(self, kind: int, body: bytes) -> list[tuple[int, memoryview]]:
        """All answers to a request for everything; asked again when the kernel says that it changed in between."""
        for _ in range(_ATTEMPTS):
            try:
                return list(self._ask(kind, _NLM_F_DUMP, body))
            except InterruptedError:
                continue
        raise OSError(errno.EBUSY, "the network changes faster than it can be read")

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, memoryview]]:
        """The kernel's answers to one request; raises InterruptedError when a dump is not of one piece."""
        sequence = next(self._sequence) & 0xFFFFFFFF
        length = _HEADER.size + len(body)
        self._socket.sendto(_HEADER.pack(length, kind, flags | _NLM_F_REQUEST, sequence, 0) + body, (0, 0))
        interrupted = False
        while True:
            data, sender = self._socket.recvfrom(_LONGEST)
            if sender[0]:
                continue  # not the kernel
            for answer, answer_flags, answer_sequence, message in _messages(memoryview(data)):
                if answer_sequence != sequence:
                    continue  # the rest of an earlier answer that was given up
                interrupted = interrupted or bool(answer_flags & _NLM_F_DUMP_INTR)
                if answer in (_NLMSG_ERROR, _NLMSG_DONE):
                    number = -_ERROR.unpack_from(message)[0] if len(message) >= _ERROR.size else 0
                    if number:
                        raise _RefusedError(number, os.strerror(number))
                    if interrupted:
                        raise InterruptedError(errno.EINTR, "the network changed during the dump")
                    return
                yield answer, message
                if not flags & _NLM_F_DUMP:
                    return


def _link_request(index: int) -> bytes:
    return _LINK.pack(0, 0, index, 0, 0) + attribute(_IFLA_EXT_MASK, _NUMBER.pack(_SKIP_STATISTICS))


def _messages(data: memoryview) -> Iterator[tuple[int, int, int, memoryview]]:
    """Type, flags, sequence number and body of each message of a datagram."""
    while len(data) >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            return
        yield kind, flags, sequence, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def attributes(data: memoryview | bytes, offset: int) -> Attributes:
    """The attributes that stand behind the first `offset` bytes of a message."""
    found: Attributes = {}
    end = len(data)
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if not _ATTRIBUTE.size <= length <= end - offset:
            break
        found[kind & 0x3FFF] = bytes(data[offset + _ATTRIBUTE.size : offset + length])
        offset += (length + 3) & ~3
    return found


def parts(data: bytes) -> list[bytes]:
    """The attributes of a nest, each with its head and padding: a list has many of one type."""
    found = []
    while len(data) >= _ATTRIBUTE.size:
        length = (_ATTRIBUTE.unpack_from(data)[0] + 3) & ~3
        found.append(data[: max(length, _ATTRIBUTE.size)])
        data = data[max(length, _ATTRIBUTE.size) :]
    return found


def _next_hops(found: Attributes) -> Iterator[tuple[int, IPAddress | None]]:
    """Interface and gateway of every way that a route offers."""
    if _RTA_OIF in found:
        yield _number(found[_RTA_OIF]), _gateway(found)
    hops = found.get(_RTA_MULTIPATH, b"")
    while len(hops) >= _NEXT_HOP.size:
        length, _, _, index = _NEXT_HOP.unpack_from(hops)
        if not _NEXT_HOP.size <= length <= len(hops):
            return
        yield index, _gateway(attributes(hops[:length], _NEXT_HOP.size))
        hops = hops[(length + 3) & ~3 :]


def _gateway(found: Attributes) -> IPAddress | None:
    # An IPv4 route by way of an IPv6 neighbour has the family in front of the address (struct rtvia).
    return _ip(found[_RTA_VIA][2:] if _RTA_VIA in found else found.get(_RTA_GATEWAY, b""))


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to its boundary."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _ip(packed: bytes) -> IPAddress | None:
    match len(packed):
        case 4:
            return IPv4Address(packed)
        case 16:
            return IPv6Address(packed)
    return None


def _number(packed: bytes) -> int:
    return int(_NUMBER.unpack(packed)[0]) if len(packed) == _NUMBER.size else 0


def _text(packed: bytes) -> str:
    return packed.rstrip(b"\0").decode("utf-8", "replace")
