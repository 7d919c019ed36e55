"""What is in flight, and what is known of it: acknowledged selectively, lost, sent again (RFC 6675 section 3).

A record is a range that was sent in one frame, often many segments. It is split where the peer has got a part of it, at
boundaries of segments only, so that a peer that acknowledges single bytes makes no more records than there are
segments. Neighbours that were both acknowledged, or are both lost, become one again.

The records follow each other without gaps from SND.UNA to SND.NXT.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter


class Sent:
    """A range in flight: from `start` to `end`, sent last at the time `at` in segments of `size`.

    `sacked` and `lost` exclude each other. `again` says that it was sent more than once, or taken for lost before it
    was acknowledged: in neither case the time says how long it took.
    """

    __slots__ = ("again", "at", "end", "lost", "sacked", "size", "start")

    def __init__(self, start: int, end: int, at: float, size: int) -> None:
        self.start, self.end, self.at, self.size = start, end, at, size
        self.sacked = self.lost = self.again = False

    def __repr__(self) -> str:
        kind = "sacked" if self.sacked else "lost" if self.lost else "again" if self.again else "sent"
        return f"<{self.start}-{self.end} {kind} {self.at:.3f}>"

    def cut(self, at: int) -> Sent:
        """Keep what is before, return the rest."""
        rest = Sent(at, self.end, self.at, self.size)
        rest.sacked, rest.lost, rest.again = self.sacked, self.lost, self.again
        self.end = at
        return rest


_start = attrgetter("start")

MOST_RECORDS = 1024  # none is split any more then, so that no peer makes us look through more at each acknowledgement


class Scoreboard:
    """The records in order of their positions.

    - `in_flight`: bytes neither acknowledged nor lost ("pipe").
    - `sacked`, `lost`: bytes of each kind; `highest` the end of the highest that was acknowledged selectively.
    """

    __slots__ = ("highest", "in_flight", "lost", "records", "sacked")

    def __init__(self) -> None:
        self.records: list[Sent] = []
        self.in_flight = self.sacked = self.lost = 0
        self.highest = 0

    def add(self, start: int, end: int, at: float, size: int) -> None:
        """Add what was sent for the first time."""
        self.records.append(Sent(start, end, at, size))
        self.in_flight += end - start

    def advance(self, position: int) -> Sent | None:
        """As `acknowledge`, while nothing is lost or selected: the last record that has arrived to its end."""
        records, last, done = self.records, None, 0
        for record in records:
            if record.end > position:
                break
            last = record
            done += 1
        if last is not None:
            self.in_flight -= last.end - records[0].start
            del records[:done]
        if records:
            record = records[0]
            if record.start < position:
                self.in_flight -= position - record.start
                record.start = position
        return last

    def acknowledge(self, position: int) -> list[Sent]:
        """Everything before the position has arrived; return the records that this is news of, oldest first."""
        records = self.records
        done = 0
        news: list[Sent] = []
        for record in records:
            if record.end > position:
                if record.start < position:
                    self._arrived_in_order(record, position - record.start, news)
                    record.start = position
                break
            self._arrived_in_order(record, record.end - record.start, news)
            done += 1
        if done:
            del records[:done]
        return news

    def _arrived_in_order(self, record: Sent, size: int, news: list[Sent]) -> None:
        if record.sacked:
            self.sacked -= size
            return
        if record.lost:
            self.lost -= size
            record.again = True
        else:
            self.in_flight -= size
        news.append(record)

    def select(self, start: int, end: int) -> list[Sent]:
        """The peer has got this range; return the records that this is news of."""
        records = self.records
        if not records:
            return []
        index = max(bisect_right(records, start, key=_start) - 1, 0)
        news: list[Sent] = []
        while index < len(records):
            record = records[index]
            if record.start >= end:
                break
            if record.sacked or record.end <= start:
                index += 1
                continue
            first = record.start
            if len(records) >= MOST_RECORDS and (start > first or end < record.end):
                index += 1
                continue
            if start > first:  # round up to a boundary of segments
                first += -(-(start - first) // record.size) * record.size
                if first >= record.end:
                    index += 1
                    continue
            last = record.end
            if end < last:  # and down
                last = record.start + (end - record.start) // record.size * record.size
                if last <= first:
                    index += 1
                    continue
            if last < record.end:
                records.insert(index + 1, record.cut(last))
            if first > record.start:
                index += 1
                record = record.cut(first)
                records.insert(index, record)
            size = record.end - record.start
            if record.lost:
                self.lost -= size
                record.lost, record.again = False, True
            else:
                self.in_flight -= size
            record.sacked = True
            self.sacked += size
            if record.end > self.highest:
                self.highest = record.end
            news.append(record)
            index = self._join_sacked(index) + 1
        return news

    def _join_sacked(self, index: int) -> int:
        """Make neighbours that were acknowledged one; the record object that is news stays as it is."""
        records = self.records
        record = records[index]
        if index + 1 < len(records) and records[index + 1].sacked:
            following = records.pop(index + 1)
            joined = Sent(record.start, following.end, max(record.at, following.at), record.size)
            joined.sacked = True
            records[index] = record = joined
        if index and records[index - 1].sacked:
            before = records[index - 1]
            joined = Sent(before.start, record.end, max(record.at, before.at), record.size)
            joined.sacked = True
            records[index - 1 : index + 1] = [joined]
            index -= 1
        return index

    def lose(self, record: Sent) -> None:
        """This one, neither acknowledged nor lost yet, is lost."""
        record.lost = True
        size = record.end - record.start
        self.in_flight -= size
        self.lost += size

    def lose_first(self, size: int) -> bool:
        """The first segment that was not acknowledged is lost; false if it was already."""
        for index, record in enumerate(self.records):
            if not record.sacked:
                if record.lost:
                    return False
                if record.end - record.start > size:
                    self.records.insert(index + 1, record.cut(record.start + size))
                self.lose(record)
                return True
        return False

    def lose_longer(self, size: int) -> None:
        """What went out in segments longer than this is lost."""
        for record in self.records:
            if record.size > size and not record.sacked and not record.lost:
                self.lose(record)

    def clear(self) -> None:
        """Forget everything."""
        self.records.clear()
        self.in_flight = self.sacked = self.lost = 0

    def lose_all(self) -> None:
        """Whatever was not acknowledged is lost."""
        for record in self.records:
            if not record.sacked and not record.lost:
                self.lose(record)

    def lose_nothing(self) -> None:
        """What was taken for lost is in flight."""
        for record in self.records:
            if record.lost:
                record.lost = False
        self.in_flight += self.lost
        self.lost = 0

    def forget_selection(self) -> None:
        """The peer may have thrown away what it acknowledged selectively (RFC 2018 section 8)."""
        for record in self.records:
            if record.sacked:
                record.sacked = False
                size = record.end - record.start
                self.sacked -= size
                self.in_flight += size

    def first_lost(self, limit: int) -> tuple[int, int] | None:
        """The first range to be sent again, as long as it goes but for the limit."""
        records = iter(self.records)
        for record in records:
            if record.lost:
                start, end = record.start, record.end
                for following in records:
                    if end - start >= limit or not following.lost:
                        break
                    end = following.end
                return start, min(end, start + limit)
        return None

    def sent_again(self, start: int, end: int, at: float, size: int) -> None:
        """A range was sent again in one frame."""
        records = self.records
        index = bisect_right(records, start, key=_start) - 1
        if records[index].start < start:
            index += 1
            records.insert(index, records[index - 1].cut(start))
        after = index
        while after < len(records) and records[after].end <= end:
            after += 1
        if after < len(records) and records[after].start < end:
            records.insert(after + 1, records[after].cut(end))
            after += 1
        for record in records[index:after]:
            if record.lost:
                length = record.end - record.start
                self.lost -= length
                self.in_flight += length
        new = Sent(start, end, at, size)
        new.again = True
        records[index:after] = [new]

    def last(self, size: int) -> tuple[int, int] | None:
        """The last segment that was not acknowledged, to be sent as a probe."""
        for record in reversed(self.records):
            if not record.sacked:
                length = record.end - record.start
                whole = (length - 1) // record.size * record.size
                start = record.start + whole
                return (start, record.end) if record.end - start <= size else (record.end - size, record.end)
        return None
