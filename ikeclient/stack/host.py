"""One host inside the tunnel: its addresses, TCP, UDP and ICMP, and what of them wants to leave.

No socket, no clock, no event loop: frames come in, frames are asked for, and a deadline comes out. Whoever drives it
calls `expire` at the deadline, and asks for frames while it is `waiting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct

from ikeclient.errors import IkeclientError
from ikeclient.esp.codec.sums import fold, ones_sum
from ikeclient.esp.packet.inner import IPV4_HEADER
from ikeclient.lazy_dataclass import dataclass
from ikeclient.stack.control import Control
from ikeclient.stack.interfaces import FRAME_HEADER, Entropy, Handler, Inbound, Quoted, Sends, Stream
from ikeclient.stack.ip import icmp
from ikeclient.stack.ip.header import (
    DONT_FRAGMENT,
    FRAGMENT,
    ICMP,
    ICMPV6,
    LONGEST,
    TCP,
    UDP,
    Packet,
    Parsed,
    header,
    presentation,
    pseudo_sum,
)
from ikeclient.stack.ip.path_mtu import PathMtus, least_mtu
from ikeclient.stack.ip.reassembly import Fragment, Reassembly
from ikeclient.stack.ping import Done
from ikeclient.stack.ready import Ready
from ikeclient.stack.resolver import Done as Found
from ikeclient.stack.resolver import Resolver
from ikeclient.stack.routes import Network, Routes
from ikeclient.stack.tcp.table import Tcp
from ikeclient.stack.udp import HEADER as UDP_HEADER
from ikeclient.stack.udp import Association, End, Udp

_CHECKED = 3  # VIRTIO_NET_HDR_F_NEEDS_CSUM, _DATA_VALID: the checksum is whoever's work who merged or cut
_TCP_HEADER = 20
# Of a frame that holds TCP, without options in the IP header or fragments: version, type of service, length, and flow.
_plain4 = Struct(">10xBBH2xHxBxx12s").unpack_from
_plain6 = Struct(">10xIHBx36s").unpack_from
_TCP4_AT, _TCP6_AT = FRAME_HEADER + 20, FRAME_HEADER + 40
_LEAST = _TCP6_AT + 4  # bytes that both can be read of


class NoRoute(IkeclientError):
    """The tunnel does not lead to a destination."""


@dataclass(slots=True, kw_only=True)
class HostCounters:
    """Packets that came and were dropped: `malformed` or with a wrong checksum, `foreign` if for another address."""

    malformed: int = 0
    foreign: int = 0


class Host:
    """The host. `tcp` has the listeners, `resolver` the name servers; for what users want else there are methods."""

    def __init__(self, entropy: Entropy) -> None:
        self.counters = HostCounters()
        self.tcp = Tcp(self, entropy)
        self.resolver = Resolver(self, entropy)
        self._udp = Udp(self, entropy)
        self._ready = Ready()
        self._routes = Routes()
        self._mtus = PathMtus()
        self._control = Control(entropy, self.ready, self._mtus)
        self._fragments = Reassembly()
        self._parsed, self._inbound = Parsed(), Inbound()
        self._now = 0.0

    # What the tunnel says

    def configure(self, addresses: Iterable[bytes], networks: Iterable[Network], mtu: int, now: float) -> None:
        """Have these addresses, the networks that they reach, and the longest packet in bytes.

        The connections of an address that is gone end.
        """
        self._now = now
        before = self._routes.addresses
        self._routes = Routes(tuple(addresses), networks)
        narrower = mtu < self._mtus.limit
        self._mtus.set_limit(mtu)
        if narrower:
            self.tcp.mtu_changed(now)
        gone = before - self._routes.addresses
        for address in gone:
            self.tcp.forget(address)
        if gone:
            self._fragments.clear()
        self._ready.touched()

    def path_restored(self, now: float) -> None:
        """The tunnel carries packets again after it did not: what waits to be sent again is sent now."""
        self._now = now
        self.tcp.path_restored(now)
        self._ready.touched()

    @property
    def now(self) -> float:
        """The time, as it was told last."""
        return self._now

    @property
    def addresses(self) -> list[str]:
        """Its addresses, as text."""
        return [presentation(address) for address in self._routes.addresses]

    def has(self, version: int) -> bool:
        """Whether it has an address of this IP version."""
        return (4 if version == 4 else 16) in self._routes.sources

    # What users want

    def connect(self, remote: bytes, port: int, handler: Handler, now: float) -> Stream:
        """Begin a TCP connection. Raises NoRoute, and OSError if no port is free."""
        self._reach(remote)
        self._now = now
        return self.tcp.connect(remote, port, handler, now)

    def open_udp(self, port: int = 0, peer: End | None = None) -> Association:
        """An association for datagrams. Raises NoRoute and NoPort."""
        if peer is not None:
            self._reach(peer[0])
        return self._udp.open(port, peer)

    def ping(self, remote: bytes, timeout: float, done: Done, now: float, *, size: int = 56) -> bool:
        """Send an echo request; see `Pings.ping`. Raises NoRoute."""
        self._now = now
        return self._control.pings.ping(self._reach(remote), remote, now, timeout, done, size=size)

    def resolve(self, name: str, done: Found, now: float) -> None:
        """Find the addresses of a name; see `Resolver.lookup`."""
        self._now = now
        self.resolver.lookup(name, done)

    def _reach(self, remote: bytes) -> bytes:
        local = self._routes.local(remote)
        if local is not None:
            return local
        name = presentation(remote)
        if len(remote) not in self._routes.sources:
            version = "IPv4" if len(remote) == 4 else "IPv6"
            raise NoRoute(f"{name} cannot be reached", reason=f"the tunnel has no {version} address")
        if remote in self._routes.addresses:
            raise NoRoute(f"{name} cannot be reached", reason="it is our own address in the tunnel")
        raise NoRoute(f"{name} cannot be reached", reason="the tunnel does not lead there")

    # Outlet

    def ready(self, source: Sends) -> None:
        """See `interfaces.Outlet`."""
        self._ready.add(source)

    def mtu(self, remote: bytes) -> int:
        """See `interfaces.Outlet`."""
        return self._mtus.mtu(remote, self._now)

    def local(self, remote: bytes) -> bytes | None:
        """See `interfaces.Outlet`."""
        return self._routes.local(remote)

    # Frames

    def listen(self, touched: Callable[[], None] | None) -> None:
        """Have this called when something may have changed what it waits for; None: nothing."""
        self._ready.listen(touched)

    @property
    def waiting(self) -> bool:
        """Whether something may want to leave."""
        return bool(self._ready)

    def read_frame(self, frame: memoryview, now: float) -> int:
        """Write the next frame that leaves; returns its length, or 0."""
        self._now = now
        return self._ready.fill(frame, now)

    def write_frame(self, frame: Packet, now: float) -> None:
        """Take a frame, a virtio header and a packet, that came out of the tunnel."""
        if len(frame) > FRAME_HEADER:
            view, checked = memoryview(frame), bool(frame[0] & _CHECKED)
            size = frame[4] | frame[5] << 8 if frame[1] & 0x7F else 0
            if not self._take_plain(view, now, size, checked):
                self._take(view[FRAME_HEADER:], now, size, checked)

    def write_packet(self, packet: Packet, now: float) -> None:
        """Take a packet that came out of the tunnel, complete and alone."""
        self._take(memoryview(packet), now, 0, False)

    def deadline(self) -> float | None:
        """When to call `expire` at the latest."""
        times = (each.deadline() for each in (self.tcp, self.resolver, self._control.pings, self._fragments))
        return min((time for time in times if time is not None), default=None)

    def expire(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        for each in (self.tcp, self.resolver, self._control.pings, self._fragments):
            each.expire(now)

    def _take_plain(self, frame: memoryview, now: float, size: int, checked: bool) -> bool:
        """Take a segment of a connection that is there, with a plain header and right checksums; most are such."""
        length = len(frame)
        if length < _LEAST:
            return False
        if frame[FRAME_HEADER] == 0x45:
            _, tos, total, place, protocol, flow = _plain4(frame)
            if protocol != TCP or place & ~DONT_FRAGMENT or total != length - FRAME_HEADER:
                return False
            if not checked and int.from_bytes(frame[FRAME_HEADER:_TCP4_AT], "big") % 0xFFFF:
                return False
            at, addresses_at = _TCP4_AT, _TCP4_AT - 8
        else:
            word, total, protocol, flow = _plain6(frame)
            if protocol != TCP or word >> 28 != 6 or total != length - _TCP6_AT:
                return False
            at, addresses_at, tos = _TCP6_AT, _TCP6_AT - 32, word >> 20
        # Addresses and segment lie side by side, and are all but the end of what the checksum is of.
        if not checked and (ones_sum(frame[addresses_at:]) + TCP + length - at) % 0xFFFF:
            return False
        self._now = now
        return self.tcp.deliver_known(flow, frame[at:], tos & 3, size, now)

    def _take(self, packet: memoryview, now: float, size: int, checked: bool) -> None:
        self._now = now
        parsed = self._parsed
        if not parsed.read(packet):
            self.counters.malformed += 1
            return
        if parsed.destination not in self._routes.addresses:
            self.counters.foreign += 1
            return
        segment = packet[parsed.offset : parsed.end]
        if parsed.fragment is None:
            self._demultiplex(packet[: parsed.end], segment, parsed.tos, size, checked)
            return
        at, more, name = parsed.fragment
        key = parsed.source, parsed.destination, parsed.protocol, name
        whole = self._fragments.add(Fragment(key=key, at=at, more=more, data=bytes(segment), tos=parsed.tos), now)
        if whole is not None:
            self._take_whole(*whole)

    def _take_whole(self, data: bytes, tos: int) -> None:
        """Take a packet that came in fragments, of which the last one was parsed, as one that came whole.

        Its further extension headers are read, and what an error quotes of it is its beginning.
        """
        parsed = self._parsed
        nested = parsed.protocol == FRAGMENT and len(parsed.source) == 16
        if nested or (len(parsed.source) == 4 and IPV4_HEADER + len(data) > LONGEST):
            self.counters.malformed += 1
            return
        head = header(parsed.source, parsed.destination, parsed.protocol, len(data), tos=tos, flags=0)
        self._take(memoryview(head + data), self._now, 0, False)

    def _demultiplex(self, packet: memoryview, segment: memoryview, tos: int, size: int, checked: bool) -> None:
        """Hand over what is behind the header; `packet` is what an error would quote."""
        parsed = self._parsed
        source, destination, protocol = parsed.source, parsed.destination, parsed.protocol
        if protocol == TCP:
            if len(segment) < _TCP_HEADER or not (checked or _right(source, destination, TCP, segment)):
                self.counters.malformed += 1
                return
            inbound = self._inbound
            inbound.fill(source + destination + bytes(segment[:4]), segment, tos & 3, size)
            self.tcp.deliver(inbound, self._now)
        elif protocol == UDP:
            self._datagram(packet, segment, size, checked)
        elif protocol == (ICMP if len(source) == 4 else ICMPV6):
            self._icmp(segment, tos)
        else:
            self._refuse(packet, port=False)

    def _datagram(self, packet: memoryview, segment: memoryview, size: int, checked: bool) -> None:
        source, destination = self._parsed.source, self._parsed.destination
        length = segment[4] << 8 | segment[5] if len(segment) >= UDP_HEADER else 0
        if not UDP_HEADER <= length <= len(segment):
            self.counters.malformed += 1
            return
        segment = segment[:length]
        if not checked:
            bare = not segment[6] and not segment[7]
            if (bare and len(source) == 16) or not (bare or _right(source, destination, UDP, segment)):
                self.counters.malformed += 1
                return
        if not self._udp.deliver(segment, source, size):
            self._refuse(packet, port=True)

    # ICMP

    def _refuse(self, packet: memoryview, *, port: bool) -> None:
        self._control.refuse(packet, self._parsed.source, self._parsed.destination, self._now, port=port)

    def _icmp(self, message: memoryview, tos: int) -> None:
        source, destination = self._parsed.source, self._parsed.destination
        if not icmp.checksum_right(source, destination, message):
            self.counters.malformed += 1
            return
        error = self._control.take(message, source, destination, tos, self._now)
        if error is not None and error.source in self._routes.addresses:
            self._hear(error)

    def _hear(self, error: icmp.IcmpError) -> None:
        """Hand an error to whoever sent what it quotes; a path MTU is believed if they say that they did."""
        remote = error.destination
        too_big = error.kind is icmp.Kind.TOO_BIG
        if too_big and not least_mtu(remote) <= error.mtu < error.length:
            return
        genuine = False
        if error.protocol == TCP:
            ports = error.quoted[2:4] + error.quoted[:2]
            quoted = Quoted(flow=remote + error.source + ports, sequence=int.from_bytes(error.quoted[4:8], "big"))
            if too_big:
                genuine = self.tcp.too_big(quoted, error.mtu, self._now)
            else:
                self.tcp.unreachable(quoted, hard=error.kind is not icmp.Kind.EXPIRED)
        elif error.protocol == UDP:
            genuine = self._udp.failed(error)
        elif error.protocol in (ICMP, ICMPV6):
            genuine = self._control.pings.failed(error)
        if too_big and genuine:
            self._mtus.lower(remote, error.mtu, self._now)


def _right(source: bytes, destination: bytes, protocol: int, segment: memoryview) -> bool:
    return fold(pseudo_sum(source, destination, protocol, len(segment)) + ones_sum(segment)) == 0xFFFF
