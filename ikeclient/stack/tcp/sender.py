"""The sending half: what goes out next, and what an acknowledgement changes (RFC 9293 section 3.10.7.4).

One range is sent at a time, of as many segments as the windows allow and one super-packet holds. If only a few could go
and something is in flight, they wait for the next acknowledgement, so that super-packets do not wither to segments.
"""

from __future__ import annotations

from ikeclient.stack.interfaces import LONGEST_PACKET, MOST_SEGMENTS
from ikeclient.stack.tcp.peer_window import PeerWindow
from ikeclient.stack.tcp.recovery import Range, Recovery
from ikeclient.stack.tcp.rtt import RoundTrip
from ikeclient.stack.tcp.send_buffer import Chunk, SendBuffer
from ikeclient.stack.tcp.send_timer import Kind, SendTimer
from ikeclient.stack.tcp.shares import SMALLEST, Share, Shares
from ikeclient.stack.tcp.tail_probe import TailProbe

DEFAULT_MSS = 536

_LONGEST = LONGEST_PACKET - 120  # leaves room for the longest headers
_SMALLEST_ROOM, _LARGEST_ROOM = 256 * 1024, 16 * 1024 * 1024
_QUEUED = 4  # times the shortest round trip; then three of four bytes in flight are in queues
_SHARE = 8  # of the window that a super-packet waits to fill


class Sender:
    """Positions: `una` is SND.UNA, `nxt` SND.NXT.

    `mss` is data in a segment, timestamps taken off; `agreed` what it was when the connection was opened.
    """

    __slots__ = (
        "_fin",
        "_forced",
        "_limited",
        "_sent_at",
        "_share",
        "agreed",
        "buffer",
        "mss",
        "nxt",
        "peer",
        "recovery",
        "timer",
        "trip",
        "una",
    )

    def __init__(self, position: int, shares: Shares) -> None:
        self.una = self.nxt = position
        self.mss = self.agreed = DEFAULT_MSS
        self.peer = PeerWindow()
        self.trip = RoundTrip()
        self.recovery = Recovery(self.trip, DEFAULT_MSS)
        self.buffer = SendBuffer(position)
        self.timer = SendTimer()
        self._share = Share(shares)
        self._fin = False
        self._forced = False  # one segment goes out whatever the congestion window says: a tail probe
        self._limited = position  # up to here the congestion window held us up
        self._sent_at = 0.0

    def open(self, mss: int, window: int, scale: int, sequence: int, *, selective: bool) -> None:
        """The peer's SYN has come: what it can take, and its sequence number."""
        self.peer.open(window, scale, sequence, self.una)
        self.recovery.open(mss, selective=selective)
        self.mss = self.agreed = mss

    # What the user does

    @property
    def room(self) -> int:
        """How many bytes may be added."""
        most = min(max(2 * self.recovery.congestion.window, _SMALLEST_ROOM), _LARGEST_ROOM)
        return most - (self.buffer.end - self.buffer.start)

    @property
    def enough(self) -> int:
        """How much room is worth telling the user of."""
        return min(self.recovery.congestion.window, _SMALLEST_ROOM) // 2

    def append(self, data: Chunk) -> None:
        """Add data."""
        self.buffer.append(data)

    @property
    def finishing(self) -> bool:
        """Whether nothing may be added."""
        return self._fin

    def clear(self) -> None:
        """Forget everything."""
        self.buffer.clear()
        self.recovery.board.clear()
        self.timer.stop()

    def finish(self) -> None:
        """Send FIN behind everything."""
        self._fin = True

    # What goes out

    @property
    def limit(self) -> int:
        """Where what is to be sent ends; a FIN counts one."""
        return self.buffer.end + self._fin

    @property
    def unsent(self) -> bool:
        """Whether something was never sent."""
        return self.nxt < self.buffer.end + self._fin

    @property
    def has_work(self) -> bool:
        """Whether anything is there to be sent, for the first time or again."""
        return self.nxt < self.buffer.end + self._fin or self._forced or self.recovery.board.lost > 0

    @property
    def may_send(self) -> bool:
        """Whether it is worth while to ask for the next range."""
        recovery = self.recovery
        if recovery.board.lost:
            return True
        left = self.buffer.end + self._fin - self.nxt
        if left <= 0:
            return False
        window, pipe = recovery.congestion.window, recovery.pipe
        room = window - pipe
        if not pipe or room >= left or recovery.doubtful:
            return True
        if room < min(window // _SHARE, _LONGEST - self.mss, MOST_SEGMENTS * self.mss):
            self._limited = self.nxt
            return False
        return True

    @property
    def fin_acknowledged(self) -> bool:
        """Whether our FIN has arrived."""
        return self._fin and self.una > self.buffer.end

    def next_range(self, mss: int, now: float) -> Range | None:
        """What to send now in segments of at most `mss` bytes, or None. `sent` must follow."""
        recovery, start = self.recovery, self.nxt
        if self._forced:
            self._forced = False
            return self._probe(mss)
        congestion, pipe = recovery.congestion, recovery.pipe
        most = min(MOST_SEGMENTS, _LONGEST // mss) * mss
        room = congestion.window - pipe
        if recovery.board.lost:
            if room < mss and pipe and not recovery.urgent:
                return None
            return recovery.board.first_lost(min(most, max(room // mss, 1) * mss))
        end = self.buffer.end
        available = end - start
        if available <= 0:
            return (start, start + 1) if self._fin and start == end and self._open(start) else None
        if not pipe and now - self._sent_at > self.trip.timeout and start > self._limited:
            congestion.rest(now - self._sent_at, self.trip.timeout)
            room = congestion.window
        window = self.una + self.peer.size - start
        length = available if available < most else most
        if length > room:
            self._limited = start
            length = room
            if pipe and length < min(most, mss if recovery.doubtful else congestion.window // _SHARE):
                return None
        if length > window:
            length = window
        if length < available:
            if length >= mss:
                length -= length % mss
            elif pipe or length < min(available, self.peer.largest // 2) or length <= 0:
                return None  # silly window avoidance (section 3.8.6.2.1)
        finish = start + length
        if self._fin and finish == end and window > length:
            finish += 1
        return start, finish

    def _open(self, start: int) -> bool:
        return self.una + self.peer.size > start

    def _probe(self, mss: int) -> Range | None:
        start, end = self.nxt, self.limit
        window = self.una + self.peer.size - start
        if end > start and window > 0:
            return start, start + min(end - start, window, mss)
        return self.recovery.board.last(mss)

    def sent(self, start: int, end: int, mss: int, now: float) -> None:
        """The range is on its way."""
        if start < self.nxt:
            self.recovery.sent_again(start, end, mss, now)
        else:
            self.recovery.sent(start, end, mss, now)
            self.nxt = end
        self._sent_at = now
        timer = self.timer
        if timer.kind is Kind.PERSIST or timer.at is None or timer.kind is Kind.PROBE:
            self._arm(now)

    # What comes back

    def advance(self, position: int, now: float) -> None:
        """As `acknowledge` if `Recovery.is_plain`, for one that moves SND.UNA and says nothing else."""
        before, recovery = self.una, self.recovery
        recovery.advance(before, position, self.nxt, now)
        self.una = position
        self.buffer.release(position)
        if before <= self._limited:
            self._grow(position - before, now)
        self.timer.answered()
        self._arm(now)

    def acknowledge(self, position: int, blocks: list[Range], echo: float | None, now: float) -> bool:
        """An acknowledgement between SND.UNA and SND.NXT; whether it moves anything."""
        before, recovery = self.una, self.recovery
        advanced = position > before
        delivered = recovery.acknowledge(before, position, self.nxt, blocks, echo, now)
        if advanced:
            self.una = position
            self.buffer.release(position)
            if before <= self._limited and recovery.may_grow:
                self._grow(position - before, now)
            self.timer.answered()
        if delivered:
            self._arm(now)
        return delivered > 0

    def _grow(self, size: int, now: float) -> None:
        """So many bytes were acknowledged while the congestion window held us up: let it grow.

        CUBIC would go on until a queue overflows. If most of what is in flight waits in one already, a window grows no
        further than to its share, and one that is larger shrinks by what is not sent in the place of these bytes.
        """
        congestion, trip = self.recovery.congestion, self.trip
        window = congestion.window
        if window > SMALLEST:
            room = max(self._share.size(now), SMALLEST) - window
            if trip.latest > _QUEUED * trip.minimum:
                if room < 0:
                    congestion.follow(window - min(size, -room))
                    return
                size = min(size, room)
        congestion.acknowledged(size, trip.smoothed, now)

    def duplicate_acknowledgement(self) -> None:
        """The same acknowledgement again, without a reason to be seen."""
        self.recovery.duplicate_acknowledgement(self.una, self.nxt)

    def congested(self) -> bool:
        """The peer tells that the network marks; whether the window is reduced for it."""
        return self.recovery.congested(self.una, self.nxt)

    @property
    def proven(self) -> bool:
        """Whether a segment as long as they are now has arrived."""
        return self.recovery.proven >= self.mss

    def set_mss(self, mss: int) -> None:
        """Segments are of this size from now on."""
        self.mss = mss
        self.recovery.congestion.set_mss(mss)

    def shrink(self, mss: int, now: float) -> None:
        """What is in flight in longer segments than this was dropped on its way."""
        self.set_mss(mss)
        self.recovery.board.lose_longer(mss)
        self._arm(now)

    # The timer

    def _arm(self, now: float) -> None:
        timer, recovery = self.timer, self.recovery
        if not recovery.board.records:
            if not self.unsent or self._open(self.nxt):
                timer.stop()
            else:
                timer.start(Kind.PERSIST, now + timer.interval(self.trip))
            return
        timeout = timer.interval(self.trip) if timer.backoffs else self.trip.timeout
        if recovery.reorder and recovery.reorder < timeout:
            timer.start(Kind.REORDER, now + recovery.reorder)
        elif recovery.selective and recovery.at_ease and recovery.probe.end is None and self.trip.smoothed:
            single = recovery.board.in_flight <= self.mss
            wait = TailProbe.interval(self.trip.smoothed, single=single)
            timer.start(Kind.PROBE if wait < timeout else Kind.RETRANSMIT, now + min(wait, timeout))
        else:
            timer.start(Kind.RETRANSMIT, now + timeout)

    def check_window(self, now: float) -> None:
        """Nothing could be sent: if that is because of the peer's window, probe it after a while."""
        timer = self.timer
        if timer.at is None and self.unsent and not self.recovery.board.records:
            timer.start(Kind.PERSIST, now + timer.interval(self.trip))

    def opened(self, now: float) -> None:
        """The peer's window has changed."""
        if self.timer.kind is Kind.PERSIST:
            self.timer.answered()
            self.timer.stop()
            self.check_window(now)

    def expire(self, now: float) -> Kind:
        """The timer has run out: what for. NONE: the peer has not answered for too long."""
        timer, recovery = self.timer, self.recovery
        kind = timer.kind
        if kind is Kind.PROBE:
            self._forced = True
            recovery.probe.sent(self.nxt, again=not self.unsent or not self._open(self.nxt))
            timer.start(Kind.RETRANSMIT, now + timer.interval(self.trip))
        elif kind is Kind.REORDER:
            recovery.look_again(self.una, self.nxt, now)
            self._arm(now)
        elif kind is Kind.PERSIST:
            timer.back_off()
            timer.start(Kind.PERSIST, now + timer.interval(self.trip))
            if self._open(self.nxt):
                self._forced = True  # it is open, but so little that it was not worth while (section 3.8.6.2.1)
                return Kind.PROBE
        elif kind is Kind.RETRANSMIT:
            recovery.time_out(self.una, self.nxt, again=timer.backoffs > 0)
            if not timer.back_off():
                timer.stop()
                return Kind.NONE
            timer.start(Kind.RETRANSMIT, now + timer.interval(self.trip))
        return kind

    def hurry(self, now: float) -> None:
        """The path works again: do not wait until a timeout ends that was backed off."""
        timer = self.timer
        if timer.backoffs and timer.kind in (Kind.RETRANSMIT, Kind.PERSIST):
            timer.answered()
            timer.start(timer.kind, now)
