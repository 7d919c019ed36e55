"""What acknowledgements tell of loss, and how the congestion window answers (RFC 5681, RFC 6675, RFC 8985).

With selective acknowledgements RACK decides what is lost; without, three duplicates and partial acknowledgements do
(RFC 6582). A recovery lasts until everything is acknowledged that was in flight when it began.
"""

from __future__ import annotations

from ikeclient.stack.tcp.cubic import Before, Cubic
from ikeclient.stack.tcp.rack import Rack
from ikeclient.stack.tcp.reduction import Reduction, Undo
from ikeclient.stack.tcp.rtt import RoundTrip
from ikeclient.stack.tcp.scoreboard import Scoreboard, Sent
from ikeclient.stack.tcp.tail_probe import TailProbe

_DUPLICATES = 3
Range = tuple[int, int]


class Recovery:
    """`point` is where the recovery in progress ends, None without one; `reorder` seconds until RACK looks again.

    `proven` is the size of the longest segments that are known to have arrived. `urgent`: the first lost segment is
    sent again whatever the window says.
    """

    __slots__ = (
        "_duplicates",
        "_rack",
        "_reduction",
        "_trip",
        "_undo",
        "board",
        "congestion",
        "point",
        "probe",
        "proven",
        "reorder",
        "selective",
        "urgent",
    )

    def __init__(self, trip: RoundTrip, mss: int) -> None:
        self.board = Scoreboard()
        self.congestion = Cubic(mss)
        self.selective = False
        self.proven = 0
        self.probe = TailProbe()
        self.point: int | None = None
        self.reorder = 0.0
        self.urgent = False
        self._trip = trip
        self._rack = Rack()
        self._reduction: Reduction | None = None
        self._undo: Undo | None = None
        self._duplicates = 0

    def open(self, mss: int, *, selective: bool) -> None:
        """The peer's SYN has come."""
        self.congestion.set_mss(mss)
        self.selective = selective

    @property
    def pipe(self) -> int:
        """Bytes in flight, as far as is known."""
        if self._duplicates:
            return max(self.board.in_flight - self._duplicates * self.congestion.mss, 0)
        return self.board.in_flight

    @property
    def doubtful(self) -> bool:
        """Whether something may be lost: then new segments go out singly, to have more said of it (RFC 3042)."""
        return self.point is None and bool(self._duplicates or self.board.sacked)

    @property
    def at_ease(self) -> bool:
        """Whether nothing is known to be lost or out of order."""
        return self.point is None and not self.board.sacked

    def sent_again(self, start: int, end: int, size: int, now: float) -> None:
        """A range was sent again."""
        self.board.sent_again(start, end, now, size)
        self.urgent = False
        if self._undo is not None:
            self._undo.sent_again(end - start, now)
        if self._reduction is not None:
            self._reduction.sent(end - start)

    def sent(self, start: int, end: int, size: int, now: float) -> None:
        """A range was sent for the first time."""
        self.board.add(start, end, now, size)
        if self._reduction is not None:
            self._reduction.sent(end - start)

    @property
    def is_plain(self) -> bool:
        """Whether `advance` will do."""
        board = self.board
        return (
            self.point is None
            and not board.sacked
            and not board.lost
            and self.probe.end is None
            and not self._duplicates
        )

    def advance(self, acknowledged: int, position: int, following: int, now: float) -> None:
        """As `acknowledge` for what is plain: most of what a sender hears."""
        last = self.board.advance(position)
        if last is None:
            return
        if position - acknowledged >= last.size > self.proven:
            self.proven = last.size
        sample = self._rack.arrived(last, last.end, now, self._trip.minimum)
        if sample is not None:
            self._trip.measure(sample, now)
            if self.congestion.in_slow_start:
                self.congestion.measured(sample, position, following)

    def acknowledge(
        self, acknowledged: int, position: int, following: int, blocks: list[Range], echo: float | None, now: float
    ) -> int:
        """Take an acknowledgement that moves SND.UNA from `acknowledged` to `position`; `following` is SND.NXT.

        `echo` is the time that its timestamp echoes, None without one. Returns how many bytes are news.
        """
        board, rack = self.board, self._rack
        before = board.sacked
        news = board.acknowledge(position) if position > acknowledged else []
        repeated = False
        again = False
        plain: float | None = None
        for record in news:
            again = again or record.again
            plain = _least(plain, self._arrived(record, min(record.end, position), now))
        if blocks:
            duplicate = _duplicate(blocks, position)
            if duplicate is not None:
                blocks = blocks[1:]
                repeated = True
                rack.duplicate(position, following)
                if self._undo is not None and self._undo.duplicate(*duplicate):
                    self._return()
            for start, end in sorted(blocks):
                if position <= start < end <= following:
                    for record in board.select(start, end):
                        plain = _least(plain, self._arrived(record, record.end, now))
        if plain is None and again and echo is not None and self._reduction is not None:
            # After a timeout it says little: the acknowledgement of an earlier transmission may have been lost.
            plain = now - echo
        if plain is not None:
            self._trip.measure(plain, now)
            if self.congestion.in_slow_start:
                self.congestion.measured(plain, position, following)
        if again and echo is not None and self._undo is not None and self._undo.echoed(echo):
            self._return()
        delivered = position - acknowledged + board.sacked - before
        self._respond(position, following, delivered, position > acknowledged, repeated, now)
        return delivered

    def _arrived(self, record: Sent, end: int, now: float) -> float | None:
        if record.size > self.proven and end - record.start >= record.size:
            self.proven = record.size
        return self._rack.arrived(record, end, now, self._trip.minimum)

    def _respond(
        self, position: int, following: int, delivered: int, advanced: bool, repeated: bool, now: float
    ) -> None:
        if self.point is not None and position >= self.point:
            self._end()
        probe = self.probe
        if probe.end is not None and probe.acknowledged(position, duplicate=repeated, news=delivered > 0):
            self._begin(position, following)
        if not self.selective and advanced:
            self._duplicates = 0
            if self.point is not None:
                self.urgent = self.board.lose_first(self.congestion.mss)  # a partial acknowledgement
        lost = False
        self.reorder = 0.0
        if not self.at_ease:
            lost = self._detect(now)
        if lost and self.point is None:
            self._begin(position, following)
        if self._reduction is not None:
            window = self._reduction.window(self.pipe, delivered, self.congestion.mss, safe=advanced and not lost)
            self.congestion.follow(window)

    def duplicate_acknowledgement(self, position: int, following: int) -> None:
        """The peer repeats an acknowledgement and does not say why (RFC 5681 section 3.2, RFC 3042)."""
        if self.selective or not self.board.records:
            return
        self._duplicates += 1
        if self._duplicates == _DUPLICATES and self.point is None:
            self.urgent = self.board.lose_first(self.congestion.mss)
            self._begin(position, following)
            self._reduction = None

    def look_again(self, position: int, following: int, now: float) -> None:
        """The reordering timer has run out."""
        if self._detect(now) and self.point is None:
            self._begin(position, following)

    def _detect(self, now: float) -> bool:
        if not self.selective:
            return False
        lost, self.reorder = self._rack.detect(
            self.board, self._trip, now, recovering=self.point is not None, size=self.congestion.mss
        )
        return lost

    def congested(self, position: int, following: int) -> bool:
        """The network marks instead of dropping (RFC 3168 section 6.1.2); whether the window is reduced for it."""
        if self.point is not None:
            return False
        self._begin(position, following)
        self._undo = None
        return True

    def _begin(self, position: int, following: int) -> None:
        flight = self.board.in_flight + self.board.lost + self.board.sacked
        self._set_out(self.congestion.reduce(flight), position, following)
        self._reduction = Reduction(flight, self.congestion.window)

    def _set_out(self, before: Before, position: int, following: int) -> None:
        self.point = following
        self._undo = Undo(before, position)
        self.probe.stop()

    def time_out(self, position: int, following: int, *, again: bool) -> None:
        """The retransmission timer ran out, perhaps `again` (RFC 6298 section 5, RFC 8985 section 6.3)."""
        board = self.board
        if board.records and board.records[0].sacked:
            board.forget_selection()  # the peer acknowledges less than it said it has
        before = self.congestion.timed_out(board.in_flight + board.lost, again=again)
        if not again and self.point is None:
            self._set_out(before, position, following)
        self.point = following
        self._reduction = None
        self._duplicates = 0
        self.reorder = 0.0
        self.probe.stop()
        board.lose_all()

    def _end(self) -> None:
        self.point = None
        self._rack.recovered()
        if self._reduction is not None:
            self._reduction = None
            self.congestion.settle()

    def _return(self) -> None:
        assert self._undo is not None
        self.congestion.undo(self._undo.before)
        self._undo = None
        self._reduction = None
        self.point = None
        self.board.lose_nothing()

    @property
    def may_grow(self) -> bool:
        """Whether acknowledgements let the window grow: not in a recovery, but for that of a timeout."""
        return self.point is None or (self._reduction is None and self.congestion.in_slow_start)


def _least(first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


def _duplicate(blocks: list[Range], position: int) -> Range | None:
    """The first block if it reports a duplicate (RFC 2883 section 4)."""
    start, end = blocks[0]
    if start < end and end <= position:
        return blocks[0]
    if len(blocks) > 1 and blocks[1][0] <= start < end <= blocks[1][1]:
        return blocks[0]
    return None
