"""The flows of long packets through a tunnel: which of them stall, and what tells their senders to send shorter ones.

A path that suddenly carries less swallows long packets only, so pings and acknowledgements hide that it does. The
flows themselves show it. An upload sends the same TCP segment again and again; of a download nothing comes any more.
Either is a reason to look at the path's size, no proof. Once the path is known to carry less, the senders must hear of
it, because TCP else waits for its timer, which has grown meanwhile, and the far end of a download would never know:

- our own kernel gets the ICMP error that a router would send, for the last packet of each upload;
- the far end of each download gets some through the tunnel, of which this end is the last hop. They quote the header of
  the last long packet that came, with sequence numbers from the one that follows it, since only one that is under way
  convinces the far end (RFC 5927 section 4.1). Short packets may have come since, as if the receiver's window was
  nearly full. They are not looked at, so the numbers go on in steps that are shorter than what got lost. The errors
  may get lost themselves, so they are sent again until something long comes.

Only one long packet of a batch is looked at, and of that one little is read before it matters: this is on the way of
every packet. Stalled flows send alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct

from ikeclient.esp.packet.icmp import too_big
from ikeclient.esp.packet.inner import TCP, locate_transport
from ikeclient.esp.sa.mtu import interface_mtu
from ikeclient.lazy_dataclass import dataclass

LONG = 900  # bytes; shorter packets pass nearly every path
REPEATED = 2  # times that a segment was sent again, which makes an upload one that stalls
CEASED, CEASED_LATEST = 1.5, 20.0  # seconds of nothing after the long packets of a download
ENOUGH = 3 * LONG  # bytes of the packets or frames looked at that make a download
LIVELY = 60.0  # seconds after its last long packet in which a flow is told
QUOTES, STEP = 16, 512  # sequence numbers that the far end of a download is told, and from one to the next
REMINDERS = 3
_MOST = 64  # flows of either direction
HEAD = 128
_TCP_LENGTH, _TCP_FLAGS = 12, 13
_FIN_SYN_RST = 7
_SIX = 0x60
_sequence = Struct(">I")

Head = bytes | bytearray
_ADDRESSES = {True: slice(12, 24), False: slice(8, 44)}  # and ports, over IPv4 and over IPv6


@dataclass(slots=True)
class _Flow:
    """`head` is that of its last packet, or all of it, and so are `length`, TCP sequence number, and time."""

    four: bool  # whether it is IPv4
    place: slice  # where in a packet `key` is
    key: bytes
    number: slice | None  # where the sequence number is; None if it does not matter, and for all but TCP
    head: Head = b""
    length: int = 0
    sequence: Head = b""
    at: float = 0.0
    repeats: int = 0
    seen: int = 0  # bytes, up to `ENOUGH`
    longest: int = 0  # of the packets or frames of this flow; the last one may be its short end


class _Flows:
    """Those of one direction, by addresses and ports; the latest last.

    Only the first packet of a flow is read with care. What follows it has the same bytes in the same places.
    """

    __slots__ = ("_clock", "_flows", "_latest", "_repeating")

    def __init__(self, clock: Callable[[], float], *, repeating: bool) -> None:
        self._clock = clock
        self._repeating = repeating  # whether packets that are sent again are counted
        self._flows: dict[bytes, _Flow] = {}
        self._latest: _Flow | None = None

    def note(self, head: Head, length: int) -> None:
        """Note a packet, or several in one frame, of `length` bytes; the first `HEAD` bytes of it are enough.

        `head` is kept, so it must not be a buffer that changes.
        """
        flow = self._latest
        if flow is None or head[flow.place] != flow.key or (head[0] < _SIX) is not flow.four:
            flow = self._promote(head, length)
            if flow is None:
                return
        if (number := flow.number) is not None:
            sequence = head[number]
            flow.repeats = flow.repeats + 1 if sequence == flow.sequence else 0
            flow.sequence = sequence
        flow.head, flow.length, flow.at = head, length, self._clock()
        if flow.seen < ENOUGH:
            flow.seen += length
        if length > flow.longest:
            flow.longest = length

    def _promote(self, head: Head, length: int) -> _Flow | None:
        """Make the packet's flow the latest; a new one, which the oldest gives way to. None if there is no flow."""
        if not head:
            return None
        flows = self._flows
        four = head[0] < _SIX
        place = _ADDRESSES[four]
        key = bytes(head[place])
        flow = flows.pop(key, None)
        if flow is None:
            offset = _sequence_at(bytes(head[:HEAD]), length)
            if offset < 0:
                return None
            if len(flows) >= _MOST:
                del flows[next(iter(flows))]
            flow = _Flow(four, place, key, slice(offset, offset + 4) if offset and self._repeating else None)
        flows[key] = self._latest = flow
        return flow

    def take(self) -> dict[bytes, _Flow]:
        """Those of late, which are forgotten."""
        earliest = self._clock() - LIVELY
        taken = {key: flow for key, flow in self._flows.items() if flow.at >= earliest}
        self._flows.clear()
        self._latest = None
        return taken

    def __contains__(self, key: bytes) -> bool:
        return key in self._flows

    def values(self) -> Iterable[_Flow]:
        """All of them."""
        return self._flows.values()


class Bulk:
    """The flows of one tunnel; `clock` is in seconds.

    `sent(head, length)` is to be called for a long packet, or several in one frame, that leaves through the tunnel,
    `received` for one that came out of it; `HEAD` bytes of it are enough.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._out, self._in = _Flows(clock, repeating=True), _Flows(clock, repeating=False)
        self.sent, self.received = self._out.note, self._in.note
        self._last_in = float("-inf")
        self._told: dict[bytes, _Flow] = {}
        self._reminders = 0

    def stalled(self) -> bool:
        """Whether an upload repeats itself, or a download has ceased.

        The latter is so for a while: a receiver that pauses may go on into a path that is narrower by then, out of
        which nothing long comes that could begin another stall.
        """
        now = self._clock()
        if any(flow.repeats >= REPEATED and now - flow.at <= CEASED for flow in self._out.values()):
            return True
        self._note_downloads()
        return CEASED <= now - self._last_in <= CEASED_LATEST

    def _note_downloads(self) -> None:
        for flow in self._in.values():
            if flow.seen >= ENOUGH and flow.at > self._last_in:
                self._last_in = flow.at

    def shrink(self, inner: int) -> tuple[list[bytes], list[bytes]]:
        """The errors that make flows fit an inner MTU: those for our own kernel, and those for the far end."""
        limits = _limits(inner)
        self._note_downloads()
        ours = (_error(flow, bytes(flow.head[:HEAD]), limits) for flow in self._out.take().values())
        taken = self._in.take()
        self._told, self._reminders = self._ceased() | taken, REMINDERS
        return [error for error in ours if error is not None], _for_far_end(taken, limits)

    def remind(self, inner: int) -> list[bytes]:
        """The errors for the far end of downloads that `shrink` told about, of which nothing long has come since."""
        if not self._told:
            return []
        self._told = self._ceased()
        errors = _for_far_end(self._told, _limits(inner))
        self._reminders -= 1
        if not self._reminders:
            self._told = {}
        return errors

    def _ceased(self) -> dict[bytes, _Flow]:
        return {key: flow for key, flow in self._told.items() if key not in self._in}


def _limits(inner: int) -> dict[int, int]:
    return {4: inner, 6: interface_mtu(inner, ipv6=True)}


def _sequence_at(head: bytes, length: int) -> int:
    """Where the TCP sequence number of a packet is; 0 for other flows, -1 if there is no flow, or no data in it."""
    head = head[:length]
    protocol, offset = locate_transport(head)
    if offset < 0 or len(head) < offset + 8:
        return -1
    if protocol != TCP:
        return 0
    if len(head) < offset + 20 or head[offset + _TCP_FLAGS] & _FIN_SYN_RST:
        return -1
    text = length - offset - (head[offset + _TCP_LENGTH] >> 4) * 4
    return offset + 4 if text > 0 else -1


def _following(flow: _Flow) -> list[bytes]:
    """The heads of what may come next, one of which got lost."""
    head = bytes(flow.head[:HEAD])
    at = _sequence_at(head, flow.length)
    if at <= 0:
        return [head]
    text = flow.length - at + 4 - (head[at - 4 + _TCP_LENGTH] >> 4) * 4
    first = _sequence.unpack_from(head, at)[0] + text
    numbers = ((first + STEP * quote) & 0xFFFFFFFF for quote in range(QUOTES))
    return [head[:at] + _sequence.pack(number) + head[at + 4 :] for number in numbers]


def _for_far_end(flows: dict[bytes, _Flow], limits: dict[int, int]) -> list[bytes]:
    errors = (_error(flow, head, limits) for flow in flows.values() for head in _following(flow))
    return [error for error in errors if error is not None]


def _error(flow: _Flow, head: bytes, limits: dict[int, int]) -> bytes | None:
    limit = limits.get(head[0] >> 4)
    if limit is None or flow.longest <= limit or _sequence_at(bytes(flow.head[:HEAD]), flow.length) < 0:
        return None
    return too_big(head[: flow.length], limit)
