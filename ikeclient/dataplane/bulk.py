"""The flows of long packets through a tunnel: which of them stall, and what tells their senders to send shorter ones.

A path that suddenly carries less swallows long packets only, so pings and acknowledgements hide that it does. The
flows themselves show it. An upload sends the same TCP segment again and again; of a download nothing comes any more.
Either is a reason to look at the path's size, no proof. Once the path is known to carry less, the senders must hear of
it, because TCP else waits for its timer, which has grown meanwhile, and the far end of a download would never know:

- our own kernel gets the ICMP error that a router would send, for the last packet of each upload;
- the far end of each download gets one through the tunnel, of which this end is the last hop. It quotes the header of
  the last packet that came, with the sequence number that must come next, since only that one convinces the far end.

Only the first long packet of a batch is looked at, so this costs nothing under load, and stalled flows send alone.
"""

from __future__ import annotations

from collections.abc import Callable
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
_sequence = Struct(">I")

Packet = bytes | bytearray | memoryview
Key = tuple[bytes, bytes, int]


@dataclass(slots=True)
class _Flow:
    head: bytes
    length: int
    sequence: int | None
    at: float
    repeats: int = 0
    seen: int = 1
    longest: int = 0  # of the packets or frames of this flow; the last one may be its short end


class Bulk:
    """The flows of one tunnel; `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._out: dict[Key, _Flow] = {}
        self._in: dict[Key, _Flow] = {}
        self._last_in = float("-inf")
        self._asked = float("-inf")

    def sent(self, packet: Packet, length: int) -> None:
        """A packet, or several in one frame, in the first `length` bytes, leaves through the tunnel."""
        found = _parse(packet, length)
        if found is None:
            return
        key, flow = found
        flow.at = self._clock()
        before = self._out.pop(key, None)
        if before is not None and flow.sequence is not None and before.sequence == flow.sequence:
            flow.repeats = before.repeats + 1
        flow.longest = max(length, before.longest if before is not None else 0)
        _remember(self._out, key, flow)

    def received(self, packet: Packet, length: int) -> None:
        """The same for one that came out of it."""
        found = _parse(packet, length)
        if found is None:
            return
        key, flow = found
        flow.at = self._clock()
        before = self._in.pop(key, None)
        flow.seen = before.seen + 1 if before is not None else 1
        flow.longest = max(length, before.longest if before is not None else 0)
        if flow.seen >= ENOUGH:
            self._last_in = flow.at
        _remember(self._in, key, flow)

    def stalled(self) -> bool:
        """Whether an upload repeats itself, or a download has just ceased; of the latter only once."""
        now = self._clock()
        if any(flow.repeats >= REPEATED and now - flow.at <= CEASED for flow in self._out.values()):
            return True
        if CEASED <= now - self._last_in <= CEASED_LATEST and self._asked < self._last_in:
            self._asked = now
            return True
        return False

    def shrink(self, inner: int) -> tuple[list[bytes], list[bytes]]:
        """The errors that make flows fit an inner MTU: those for our own kernel, and those for the far end."""
        now = self._clock()
        limits = {4: inner, 6: interface_mtu(inner, ipv6=True)}
        ours = [
            answer
            for flow in self._out.values()
            if now - flow.at <= LIVELY and (answer := _error(flow, flow.head, limits)) is not None
        ]
        theirs = [
            answer
            for flow in self._in.values()
            if now - flow.at <= LIVELY and (answer := _error(flow, _following(flow), limits)) is not None
        ]
        self._out.clear()
        self._in.clear()
        return ours, theirs


def _remember(flows: dict[Key, _Flow], key: Key, flow: _Flow) -> None:
    if len(flows) >= _MOST:
        del flows[next(iter(flows))]
    flows[key] = flow


def _parse(packet: Packet, length: int) -> tuple[Key, _Flow] | None:
    """Which flow a packet belongs to; None where it cannot be said, and for TCP without data."""
    head = bytes(packet[: min(length, _HEAD)])
    protocol, offset = locate_transport(head)
    if offset < 0 or len(head) < offset + 8:
        return None
    addresses = head[12:20] if head[0] >> 4 == 4 else head[8:40]
    key = addresses, head[offset : offset + _TCP_PORTS], protocol
    if protocol != TCP:
        return key, _Flow(head, length, None, 0.0)
    if len(head) < offset + 20 or head[offset + _TCP_FLAGS] & _FIN_SYN_RST:
        return None
    text = length - offset - (head[offset + _TCP_LENGTH] >> 4) * 4
    return (key, _Flow(head, length, _sequence.unpack_from(head, offset + 4)[0], 0.0)) if text > 0 else None


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
