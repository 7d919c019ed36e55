"""UDP (RFC 768): associations, each with a port of its own and bounded queues in both directions.

Datagrams of one size that leave for one destination share a frame, which the codec cuts. What is longer than the path
carries leaves in fragments. A full queue loses the datagram, as any network may.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from struct import Struct

from ikeclient.errors import IkeclientError
from ikeclient.esp.codec.sums import fold
from ikeclient.lazy_dataclass import dataclass
from ikeclient.stack.interfaces import (
    FRAME_HEADER,
    LONGEST_PACKET,
    MOST_SEGMENTS,
    NEEDS_CSUM,
    Entropy,
    Outlet,
)
from ikeclient.stack.ip.fragment import fragments
from ikeclient.stack.ip.header import LONGEST, UDP, header, pseudo_sum, transport_checksum
from ikeclient.stack.ip.icmp import IcmpError, Kind

HEADER = 8
QUEUE = 256 << 10  # bytes that wait in one association, in each direction
MOST_ASSOCIATIONS = 4096
FIRST_PORT, LAST_PORT = 32768, 60999
_GSO_UDP = 5  # VIRTIO_NET_HDR_GSO_UDP_L4
_COST = 128  # bytes that are counted for a datagram beyond its own
_PEERS = 64  # of late, whose errors are believed
_vnet = Struct("<BBHHHH").pack_into
_header = Struct(">HHHH")
_ATTEMPTS = 64

End = tuple[bytes, int]  # packed address, port


class NoPort(IkeclientError):
    """Every port, or the one that was wanted, is taken."""


@dataclass(slots=True)
class _Queue:
    """Datagrams with their ends, up to `QUEUE` bytes."""

    items: deque[tuple[bytes, End]]
    size: int = 0

    def add(self, data: bytes, end: End) -> bool:
        if self.size + len(data) + _COST > QUEUE:
            return False
        self.size += len(data) + _COST
        self.items.append((data, end))
        return True

    def take(self) -> tuple[bytes, End]:
        item = self.items.popleft()
        self.size -= len(item[0]) + _COST
        return item


class Association:
    """Datagrams to and from one port of ours; with `peer`, only from and to that one.

    `on_readable()` is called when a datagram comes into an empty queue, `on_error(kind, end)` after an ICMP error about
    a datagram to one of the latest destinations. `lost` counts what a full queue had no room for.
    """

    queued = True
    __slots__ = (
        "_close",
        "_in",
        "_out",
        "_outlet",
        "_parts",
        "_peers",
        "_random",
        "lost",
        "on_error",
        "on_readable",
        "peer",
        "port",
    )

    def __init__(
        self, outlet: Outlet, entropy: Entropy, port: int, peer: End | None, close: Callable[[Association], None]
    ) -> None:
        self.port = port
        self.peer = peer
        self.lost = 0
        self.on_readable: Callable[[], None] | None = None
        self.on_error: Callable[[Kind, End], None] | None = None
        self._outlet = outlet
        self._random = entropy
        self._close = close
        self._in, self._out = _Queue(deque()), _Queue(deque())
        self._parts: deque[bytes] = deque()  # fragments that are to leave before anything else
        self._peers: OrderedDict[End, None] = OrderedDict()

    def listen(self, on_readable: Callable[[], None], on_error: Callable[[Kind, End], None] | None = None) -> None:
        """Be told of datagrams and errors."""
        self.on_readable, self.on_error = on_readable, on_error

    def send(self, data: bytes, end: End | None = None) -> bool:
        """Send a datagram; false if it is lost here. Raises ValueError if it is longer than any may be."""
        end = end or self.peer
        if end is None or len(data) > LONGEST - HEADER - (20 if len(end[0]) == 4 else 0):
            raise ValueError("no destination, or too long for a datagram")
        if self._outlet.local(end[0]) is None or not self._out.add(data, end):
            self.lost += 1
            return False
        self._peers[end] = None
        self._peers.move_to_end(end)
        if len(self._peers) > _PEERS:
            self._peers.popitem(last=False)
        self._outlet.ready(self)
        return True

    def receive(self) -> tuple[bytes, End] | None:
        """The next datagram and where it came from; None if nothing is waiting."""
        return self._in.take() if self._in.items else None

    def close(self) -> None:
        """Give the port back; what has not left is lost."""
        self._out = _Queue(deque())
        self._parts.clear()
        self._close(self)

    def arrived(self, data: memoryview, size: int, end: End) -> None:
        """Take what came, one datagram or several of `size` bytes."""
        if self.peer is not None and end != self.peer:
            self.lost += 1
            return
        empty = not self._in.items
        for at in range(0, len(data) or 1, size or len(data) or 1):
            if not self._in.add(bytes(data[at : at + size] if size else data), end):
                self.lost += 1
        if empty and self._in.items and self.on_readable is not None:
            self.on_readable()

    def failed(self, error: IcmpError, end: End) -> bool:
        """Hear of an error about a datagram to `end`; whether one went there of late."""
        if end not in self._peers:
            return False
        if error.kind is not Kind.TOO_BIG and self.on_error is not None:
            self.on_error(error.kind, end)
        return True

    # Sends

    def fill(self, frame: memoryview, now: float) -> int:  # noqa: ARG002  the protocol's
        """Write the next datagrams that can share a frame."""
        if self._parts:
            return _write_whole(frame, self._parts.popleft())
        while self._out.items:
            data, end = self._out.take()
            remote = end[0]
            local = self._outlet.local(remote)
            if local is None:  # it is gone since
                self.lost += 1
                continue
            mtu = self._outlet.mtu(remote)
            if len(data) + HEADER + (20 if len(remote) == 4 else 40) <= mtu:
                return self._fill(frame, data, local, end)
            number = int.from_bytes(self._random(4), "big")
            self._parts.extend(fragments(self._packet(data, local, end), mtu, number))
            return _write_whole(frame, self._parts.popleft())
        return 0

    def _fill(self, frame: memoryview, data: bytes, local: bytes, end: End) -> int:
        remote, port = end
        start = 20 if len(remote) == 4 else 40
        size, at = len(data), FRAME_HEADER + start + HEADER
        frame[at : at + size] = data
        at += size
        count, items = 1, self._out.items
        while items and count < MOST_SEGMENTS and size:
            following, to = items[0]
            length = len(following)
            if to != end or not 0 < length <= size or at + length > LONGEST_PACKET:
                break
            self._out.take()
            frame[at : at + length] = following
            at += length
            count += 1
            if length < size:
                break
        whole = at - FRAME_HEADER - start
        frame[FRAME_HEADER : FRAME_HEADER + start] = header(local, remote, UDP, whole)
        partial = fold(pseudo_sum(local, remote, UDP, whole))
        _header.pack_into(frame, FRAME_HEADER + start, self.port, port, whole, partial)
        if count > 1:
            _vnet(frame, 0, NEEDS_CSUM, _GSO_UDP, start + HEADER, size, start, 6)
        else:
            _vnet(frame, 0, NEEDS_CSUM, 0, 0, 0, start, 6)
        return at

    def _packet(self, data: bytes, local: bytes, end: End) -> bytes:
        """A datagram as a whole packet that may be fragmented."""
        remote, port = end
        message = _header.pack(self.port, port, HEADER + len(data), 0) + data
        check = transport_checksum(local, remote, UDP, message) or 0xFFFF
        head = header(local, remote, UDP, len(message), flags=0)
        return b"".join((head, message[:6], check.to_bytes(2, "big"), message[HEADER:]))


class Udp:
    """The associations of one host, by port."""

    def __init__(self, outlet: Outlet, entropy: Entropy) -> None:
        self._outlet = outlet
        self._entropy = entropy
        self._associations: dict[int, Association] = {}

    def open(self, port: int = 0, peer: End | None = None) -> Association:
        """An association on this port, or on one that cannot be guessed (RFC 6056). Raises NoPort."""
        if port and port in self._associations:
            raise NoPort(f"port {port} of the inner address is in use")
        if len(self._associations) >= MOST_ASSOCIATIONS:
            raise NoPort("there are too many UDP associations")
        made = Association(self._outlet, self._entropy, port or self._free_port(), peer, self._closed)
        self._associations[made.port] = made
        return made

    def deliver(self, segment: memoryview, source: bytes, size: int) -> bool:
        """Take a datagram, or several of `size` bytes each, whose checksum is right; false if the port is closed."""
        association = self._associations.get(segment[2] << 8 | segment[3])
        if association is None:
            return False
        association.arrived(segment[HEADER:], size, (source, segment[0] << 8 | segment[1]))
        return True

    def failed(self, error: IcmpError) -> bool:
        """Hear of an ICMP error about a datagram; whether it is one of ours."""
        ours, theirs = (int.from_bytes(error.quoted[at : at + 2], "big") for at in (0, 2))
        association = self._associations.get(ours)
        return association is not None and association.failed(error, (error.destination, theirs))

    def _free_port(self) -> int:
        span = LAST_PORT - FIRST_PORT + 1
        for _ in range(_ATTEMPTS):
            port = FIRST_PORT + int.from_bytes(self._entropy(4), "big") % span
            if port not in self._associations:
                return port
        raise NoPort("no free UDP port was found")

    def _closed(self, association: Association) -> None:
        if self._associations.get(association.port) is association:
            del self._associations[association.port]


def _write_whole(frame: memoryview, packet: bytes) -> int:
    end = FRAME_HEADER + len(packet)
    frame[:FRAME_HEADER] = bytes(FRAME_HEADER)
    frame[FRAME_HEADER:end] = packet
    return end
