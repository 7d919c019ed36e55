"""The flows of long packets through a tunnel: which of them stall, and what tells their senders to send shorter ones.

A path that suddenly carries less swallows long packets only, so pings and acknowledgements hide that it does. The
flows themselves show it. An upload sends the same TCP segment again and again; of a download nothing comes any more.
Either is a reason to look at the path's size, no proof. Once the path is known to carry less, the senders must hear of
it, because TCP else waits for its timer, which has grown meanwhile, and the far end of a download would never know:

- our own kernel gets the ICMP error that a router would send, for the last packet of each upload;
- the far end of each download gets one through the tunnel, of which this end is the last hop. It quotes the header of
  the last packet that came, with the sequence number that must come next, since only that one convinces the far end.

Only one long packet of a batch is looked at, and of that one little is read before it matters: this is on the way of
every packet. Stalled flows send alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from struct import Struct

from ikeclient.esp.packet.icmp import too_big
from ikeclient.esp.packet.inner import TCP, locate_transport
from ikeclient.esp.sa.mtu import interface_mtu

LONG = 900  # bytes; shorter packets pass nearly every path
REPEATED = 2  # times that a segment was sent again, which makes an upload one that stalls
CEASED, CEASED_LATEST = 1.5, 6.0  # seconds of nothing after the long packets of a download
ENOUGH = 3  # long packets looked at that make a download
LIVELY = 60.0  # seconds after its last long packet in which a flow is told
_MOST = 64  # flows of either direction
_HEAD = 128
_TCP_PORTS, _TCP_LENGTH, _TCP_FLAGS = 4, 12, 13
_FIN_SYN_RST = 7
_PLAIN_IPV4, _FRAGMENT = 0x45, 0x3FFF
_plain_ipv4 = Struct(">6xHxBxx12sI5xB").unpack_from  # fragment, protocol, addresses and ports, TCP: sequence, flags
_plain_ipv6 = Struct(">6xBx36sI5xB").unpack_from  # the same without the first
_sequence = Struct(">I")

Packet = bytes | bytearray | memoryview


@dataclass(slots=True)
class _Flow:
    """`head` is that of its last packet, and so are `length`, TCP sequence number, and time."""

    head: bytes = b""
    length: int = 0
    sequence: int | None = None
    at: float = 0.0
    repeats: int = 0
    seen: int = 0
    longest: int = 0  # of the packets or frames of this flow; the last one may be its short end


class _Flows:
    """Those of one direction, by addresses and ports; the latest last."""

    __slots__ = ("_clock", "_flows", "_latest")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._flows: dict[bytes, _Flow] = {}
        self._latest: _Flow | None = None

    def note(self, packet: Packet, length: int) -> None:
        """A packet, or several in one frame, in the first `length` bytes, passes."""
        first = packet[0] if length > _HEAD <= len(packet) else 0
        fragment = protocol = flags = 0
        if first == _PLAIN_IPV4:
            fragment, protocol, key, sequence, flags = _plain_ipv4(packet)
        elif first >> 4 == 6:
            protocol, key, sequence, flags = _plain_ipv6(packet)
        if protocol == TCP and not fragment & _FRAGMENT and not flags & _FIN_SYN_RST:
            pass  # as nearly always
        elif (found := _parse(packet, length)) is not None:
            key, sequence = found
        else:
            return
        flow = self._flows.get(key)
        if flow is None or flow is not self._latest:
            flow = self._promote(key, flow)
        flow.repeats = flow.repeats + 1 if flow.sequence == sequence is not None else 0
        flow.head, flow.length, flow.sequence, flow.at = bytes(packet[:_HEAD]), length, sequence, self._clock()
        flow.seen += 1
        if length > flow.longest:
            flow.longest = length

    def _promote(self, key: bytes, flow: _Flow | None) -> _Flow:
        """Make a flow the latest; a new one if it is None, which the oldest gives way to."""
        flows = self._flows
        if flow is not None:
            del flows[key]
        elif len(flows) >= _MOST:
            del flows[next(iter(flows))]
        flows[key] = self._latest = flow or _Flow()
        return flows[key]

    def take(self) -> list[_Flow]:
        """Those of late, which are forgotten."""
        earliest = self._clock() - LIVELY
        taken = [flow for flow in self._flows.values() if flow.at >= earliest]
        self._flows.clear()
        self._latest = None
        return taken

    def values(self) -> Iterable[_Flow]:
        """All of them."""
        return self._flows.values()


class Bulk:
    """The flows of one tunnel; `clock` is in seconds.

    `sent(packet, length)` is to be called for a long packet, or several in one frame, that leaves through the tunnel,
    `received` for one that came out of it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._out, self._in = _Flows(clock), _Flows(clock)
        self.sent, self.received = self._out.note, self._in.note
        self._last_in = float("-inf")
        self._asked = float("-inf")

    def stalled(self) -> bool:
        """Whether an upload repeats itself, or a download has just ceased; of the latter only once."""
        now = self._clock()
        if any(flow.repeats >= REPEATED and now - flow.at <= CEASED for flow in self._out.values()):
            return True
        self._note_downloads()
        if CEASED <= now - self._last_in <= CEASED_LATEST and self._asked < self._last_in:
            self._asked = now
            return True
        return False

    def _note_downloads(self) -> None:
        for flow in self._in.values():
            if flow.seen >= ENOUGH and flow.at > self._last_in:
                self._last_in = flow.at

    def shrink(self, inner: int) -> tuple[list[bytes], list[bytes]]:
        """The errors that make flows fit an inner MTU: those for our own kernel, and those for the far end."""
        limits = {4: inner, 6: interface_mtu(inner, ipv6=True)}
        self._note_downloads()
        ours = (_error(flow, flow.head, limits) for flow in self._out.take())
        theirs = (_error(flow, _following(flow), limits) for flow in self._in.take())
        return [error for error in ours if error is not None], [error for error in theirs if error is not None]


def _parse(packet: Packet, length: int) -> tuple[bytes, int | None] | None:
    """The flow a packet with unusual headers belongs to, and its sequence number if it is TCP.

    None if that cannot be said, and for TCP without data.
    """
    head = bytes(packet[: min(length, _HEAD)])
    protocol, offset = locate_transport(head)
    if offset < 0 or len(head) < offset + 8:
        return None
    key = (head[12:20] if head[0] >> 4 == 4 else head[8:40]) + head[offset : offset + _TCP_PORTS]
    if protocol != TCP:
        return key, None
    if len(head) < offset + 20 or head[offset + _TCP_FLAGS] & _FIN_SYN_RST:
        return None
    text = length - offset - (head[offset + _TCP_LENGTH] >> 4) * 4
    return (key, _sequence.unpack_from(head, offset + 4)[0]) if text > 0 else None


def _following(flow: _Flow) -> bytes:
    """The head of the packet that must come next, which is the one that got lost."""
    if flow.sequence is None:
        return flow.head
    _, offset = locate_transport(flow.head)
    text = flow.length - offset - (flow.head[offset + _TCP_LENGTH] >> 4) * 4
    following = _sequence.pack((flow.sequence + text) & 0xFFFFFFFF)
    return flow.head[: offset + 4] + following + flow.head[offset + 8 :]


def _error(flow: _Flow, head: bytes, limits: dict[int, int]) -> bytes | None:
    limit = limits.get(head[0] >> 4)
    return None if limit is None or flow.longest <= limit else too_big(head, limit)
