"""What has arrived behind a gap: islands, each of pieces without a gap between them (RFC 9293 section 3.10.7.4).

The blocks of a selective acknowledgement are the islands (RFC 2018 section 4): the one that was added to last comes
first, then those that no acknowledgement has told of, then others.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter

_PIECE = 256  # what an object costs besides its bytes, so that tiny pieces cannot take much memory

Range = tuple[int, int]


class _Island:
    __slots__ = ("end", "pieces", "start", "untold")

    def __init__(self, start: int, end: int, pieces: list[bytes]) -> None:
        self.start, self.end, self.pieces = start, end, pieces
        self.untold = True


_start, _end = attrgetter("start"), attrgetter("end")


class Reassembly:
    """Islands by position. `cost` counts bytes and what the objects take, `untold` islands."""

    __slots__ = ("_islands", "_recent", "cost", "untold")

    def __init__(self) -> None:
        self._islands: list[_Island] = []
        self._recent: dict[_Island, None] = {}  # the latest is last
        self.cost = self.untold = 0

    def __bool__(self) -> bool:
        return bool(self._islands)

    @property
    def end(self) -> int:
        """Where the last island ends; 0 without one."""
        return self._islands[-1].end if self._islands else 0

    def insert(self, start: int, data: memoryview, budget: int) -> Range | None:
        """Copy what is new of the data; return the first range that was here already (RFC 2883).

        Data that would bring the cost above the budget is dropped, as if it had been lost.
        """
        end, islands = start + len(data), self._islands
        if self.cost + len(data) + _PIECE > budget:
            return None
        first = bisect_left(islands, start, key=_end)
        after, at = first, start
        pieces: list[bytes] = []
        duplicate: Range | None = None
        while after < len(islands) and (island := islands[after]).start <= end:
            if island.start > at:
                pieces.append(self._copy(data[at - start : island.start - start]))
            if duplicate is None and max(island.start, start) < min(island.end, end):
                duplicate = max(island.start, start), min(island.end, end)
            at = max(at, island.end)
            if after == first and not pieces:
                pieces = island.pieces  # most often it grows at its end
            else:
                pieces += island.pieces
            self._forget(island)
            after += 1
        if at < end:
            pieces.append(self._copy(data[at - start :]))
        joined = _Island(start, end, pieces)
        if after > first:
            joined.start = min(start, islands[first].start)
            joined.end = max(end, at)
        islands[first:after] = [joined]
        self._recent[joined] = None
        self.untold += 1
        return duplicate

    def _copy(self, data: memoryview) -> bytes:
        self.cost += len(data) + _PIECE
        return bytes(data)

    def _forget(self, island: _Island) -> None:
        del self._recent[island]
        self.untold -= island.untold

    def take(self, position: int) -> list[memoryview]:
        """Remove everything that follows the position without a gap; and what lies before it."""
        islands = self._islands
        taken: list[memoryview] = []
        while islands and islands[0].start <= position:
            island = islands.pop(0)
            self._forget(island)
            skip = position - island.start
            for piece in island.pieces:
                self.cost -= len(piece) + _PIECE
                if skip < len(piece):
                    taken.append(memoryview(piece)[skip:])
                    skip = 0
                else:
                    skip -= len(piece)
            position = max(position, island.end)
        return taken

    def blocks(self, limit: int) -> list[Range]:
        """At most so many islands, which have then been told of."""
        chosen: list[_Island] = []
        if self.untold:
            for island in reversed(self._recent):
                if island.untold:
                    island.untold = False
                    self.untold -= 1
                    chosen.append(island)
                    if len(chosen) == limit or not self.untold:
                        break
        if len(chosen) < limit:
            for island in reversed(self._recent):
                if len(chosen) == limit:
                    break
                if island not in chosen:
                    chosen.append(island)
        return [(island.start, island.end) for island in chosen]
