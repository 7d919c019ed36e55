"""Receive datagrams as runs, in whichever of three ways costs least at the moment.

- The kernel has merged them (UDP_GRO): one plain call receives a run.
- Nobody has, and there are several: recvmmsg(2) receives them into the slots of one stride (`net.transport.recvmmsg`).
- One is alone, such as a ping's: a plain call receives it, and nobody looks for a second one.

Whatever the way, datagrams of one source and TOS octet that follow each other become one run, if they have one size, or
came with one recvmmsg(2), which knows the length of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ikeclient.dataplane.interfaces import Address, RunTransport
from ikeclient.esp.codec.choice import MAXIMUM_SLOTS
from ikeclient.esp.codec.run import Run
from ikeclient.esp.codec.slots import Slots
from ikeclient.net.transport.recvmmsg import Arrival, Recvmmsg

LONGEST = 65536  # of what one call receives
SHORTEST_ESP = 8
ARENA = 4 * LONGEST
# Bytes after which a call ends, so that the other direction has its turn: more than come while a call waits for several
# (`event_loop.COALESCING_DELAY`), at a gigabit per second, and while they are carried.
BURST = 262_144
# As much as two runs have. An in-process stack that has taken this acknowledges it, mostly all of a flow at once.
LONG_BURST = 2 * ARENA - LONGEST
_ALONE = 2  # datagrams in a row that nobody had merged, after which recvmmsg pays; one ends a burst that was merged
_MANY = 8  # datagrams, each by itself, after which it pays to wait for more at a time


class Receiver:
    """Receives into one buffer.

    `take(run, local)` is called with a run, and the transport's own address. A run without a byte is an empty datagram.

    `unmerged` tells whether the last call found several datagrams that neither sender nor network had merged: the
    longer one waits then, the more of them share a call. While it is `busy`, the last call having found several, the
    first one is not kept waiting for more. After `burst` bytes a call ends.
    """

    def __init__(self, take: Callable[[Run, Address], None], burst: int = BURST) -> None:
        self.slots = Slots(ARENA)
        self.unmerged = False
        self._take = take
        self._burst = burst
        self._run = Run(self.slots)
        self._lengths: list[int] = []  # of the datagrams in the first slots, if some are shorter
        self._recvmmsg = Recvmmsg(self.slots.buffer, SHORTEST_ESP)
        self.busy = False
        self._alone = 0  # datagrams in a row that nobody had merged
        self._stride = 1  # of the longest datagrams of late

    def drain(self, transport: RunTransport, limit: int, first: Arrival | None = None, *, again: bool = False) -> int:
        """Hand over what is waiting; returns how many datagrams were read, merged ones counted as one.

        `first` has been received already. `again` says that the last call left something.
        """
        self.busy |= again
        reads = self._collect(transport, limit, first)
        self.busy = reads > 1
        return reads

    def _collect(self, transport: RunTransport, limit: int, first: Arrival | None) -> int:
        """As `drain`, with runs made of datagrams that can share one."""
        view, local = self.slots.view, transport.local
        reads = loose = widest = taken = end = 0
        stride, tos = 1, 0
        source: Address | None = None  # None while the run is empty
        while reads < limit and taken < self._burst:
            several = first is None and self.busy and self._alone >= _ALONE
            arrivals = (first,) if first is not None else self._arrivals(transport, several, end, stride, limit - reads)
            first = None
            for data, length, size, sender, octet in arrivals:
                merged = self._recvmmsg.merged if several else size != length
                self._alone = 0 if merged else self._alone + 1
                count = -(-length // size) if several and size and not merged else 1
                reads += count
                loose += 0 if merged else count
                taken += length
                lengths = self._recvmmsg.lengths if several else []
                fits = source is not None and end % stride == 0 and sender == source and octet == tos
                fits = fits and end + length <= ARENA
                if not fits or size > stride or (size < stride and length > size):
                    if source is not None:
                        self._hand_over(end, stride, source, tos, local)
                    if end or data is not None:
                        view[:length] = view[end : end + length] if data is None else data
                    end, stride, source, tos = 0, max(size, 1), sender, octet
                elif data is not None:
                    view[end : end + length] = data
                if lengths:
                    self._fill_up(end, stride)
                    self._lengths += lengths
                end += length
                if not length and end:  # an empty datagram comes by itself
                    self._hand_over(end, stride, sender, octet, local)
                    end = 0
                if not length or end % stride or end >= MAXIMUM_SLOTS * stride or end > ARENA - LONGEST:
                    self._hand_over(end, stride, sender, octet, local)
                    end, source = 0, None
                if length:
                    widest = max(widest, max(lengths, default=stride))
            if not arrivals or (several and self._recvmmsg.exhausted):
                break
        if source is not None:
            self._hand_over(end, stride, source, tos, local)
        elif not reads:
            transport.drain_errors()
        self._stride = widest or self._stride
        self.unmerged = loose >= _MANY and 2 * loose > reads
        return reads

    def _fill_up(self, end: int, stride: int) -> None:
        """Say the lengths of those up to `end` that are alike."""
        whole, rest = divmod(end, stride)
        self._lengths += [stride] * (whole - len(self._lengths))
        if rest:
            self._lengths.append(rest)

    def _hand_over(self, end: int, stride: int, source: Address, tos: int, local: Address) -> None:
        if self._lengths:
            self._fill_up(end, stride)
        self._run.fill(end, stride, source, tos, self._lengths)
        self._lengths = []
        self._take(self._run, local)

    def _arrivals(self, transport: RunTransport, several: bool, end: int, stride: int, most: int) -> Sequence[Arrival]:
        """The next datagrams, which lie at `end` if not in the arrival itself: merged ones, or `several`."""
        if several:
            stride = stride if end else self._stride
            return transport.recvmmsg(self._recvmmsg, stride, end // stride, most)
        got = transport.receive_into(self.slots.view[end:])
        return () if got is None else ((None, *got),)
