"""The pump's fast lane: super-packets, and runs of datagrams that share one system call.

What decides the speed of a data plane in userspace is how many packets share one system call and one trip through the
interpreter. Everything unusual leaves the lane for the pump's ordinary one: packets above the inner MTU, TCP SYNs, and
headers that need a longer look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

from ikeclient.dataplane.bulk import LONG
from ikeclient.dataplane.interfaces import IKE_PORT, Address, FrameDevice, RunTransport
from ikeclient.esp.codec.choice import MAXIMUM_SLOTS, VNET_HEADER, examine, segment, survey
from ikeclient.esp.codec.send import SendRun
from ikeclient.esp.codec.slots import Slots
from ikeclient.esp.packet.mss import clamp_one
from ikeclient.esp.sa.inbound import Frame
from ikeclient.esp.sa.pair import InboundSa, OutboundSa, Packet, ReceivedRun
from ikeclient.esp.sa.table import SaTable
from ikeclient.net.transport.recvmmsg import Arrival, Many

Examined = tuple[int, int, int, int, bool]

_FRAME = VNET_HEADER + 65535
_BURST_OUT, _BURST_IN = 524_288, 262_144  # bytes after which a call ends, so that the other direction has its turn
_MOST_RUNS = 8  # of as many SAs at a time, so that packets of several do not break up each other's runs
_LONGEST = 65536
_ARENA = 4 * _LONGEST
_LONGEST_TRAILER = 257
_SHORTEST_ESP = 8
_MANY = 8  # datagrams, each by itself, after which it pays to wait for more at a time
_NO_HEADER = bytes(VNET_HEADER)
_spi = Struct(">I").unpack_from


class Outbound:
    """From the TUN device to the socket.

    `send(run, size, count, tos)` sends sealed datagrams. `slowly(packets)` takes packets for the ordinary lane.
    `bulk(packet, length)` sees the first frame of long packets of each call of `drain`.
    """

    def __init__(
        self,
        table: SaTable,
        tun: FrameDevice,
        send: Callable[[Packet, int, int, int], None],
        slowly: Callable[[list[Packet]], None],
        bulk: Callable[[Packet, int], None],
    ) -> None:
        self._table = table
        self._tun = tun
        self._bulk = bulk
        self._send = send
        self._slowly = slowly
        self._frame = bytearray(_FRAME)
        self._into = [self._frame]
        self._packet = memoryview(self._frame)[VNET_HEADER:]
        self._runs: dict[OutboundSa, SendRun] = {}  # in the making; empty between two calls of `drain`
        self._spare = [SendRun()]
        self._text = memoryview(bytearray(_LONGEST + _LONGEST_TRAILER))
        self._busy = False  # whether the last call found several; if not, the first one is not kept waiting for more

    def drain(self, limit: int, mtu: int, *, path: bool, again: bool) -> tuple[int, int]:
        """Carry what is waiting: how many frames were read, and how many packets had no path.

        Unless this is called `again`, the last call having left something, a packet alone is sent at once, and nobody
        looks for a second one.
        """
        frames = size = homeless = 0
        seen = False
        read, into, frame, table = self._tun.read_into, self._into, self._frame, self._table
        while frames < limit and size < _BURST_OUT and (length := read(into)):
            frames += 1
            size += length
            examined = examine(frame, length)
            count, longest, _, _, look = examined
            if longest >= LONG and not seen:
                seen = True
                self._bulk(self._packet, length - VNET_HEADER)
            if not path:
                if count and table.awaited is not None:
                    self._slowly(self._split(length, examined))
                else:
                    homeless += count or 1
            elif look or longest > mtu:
                self.flush()
                self._slowly(self._split(length, examined))
            elif not count or (sa := table.choose(self._packet, length - VNET_HEADER)) is None:
                if count and table.awaited is not None:
                    self._slowly(self._split(length, examined))
                else:
                    table.unrouted += count or 1
            elif frames == count == 1 and not again and not self._busy:
                self._alone(sa, length, examined)
                return 1, 0
            else:
                self._append(sa, length, examined)
        self.flush()
        self._busy = frames > 1
        return frames, homeless

    def _alone(self, sa: OutboundSa, length: int, examined: Examined) -> None:
        """Send one packet by itself: the short way."""
        layout, size = sa.layout, examined[1]
        end = layout.text_length(size)
        segment(self._frame, length, self._text, 0, end, 0, layout.alignment - 1, 0, 1)
        payload = sa.seal_text(self._text[:end], size)
        if payload is not None:
            self._send(payload, len(payload), 1, examined[3])

    def _append(self, sa: OutboundSa, length: int, examined: Examined) -> None:
        run = self._runs.get(sa)
        if run is None:
            if len(self._runs) == _MOST_RUNS:
                self.flush()
            run = self._runs[sa] = self._spare.pop() if self._spare else SendRun()
        done, frame = 0, self._frame
        while done < examined[0]:
            if not (added := run.add(sa, frame, length, examined, done)):
                self._seal(run)
            done += added

    def _split(self, length: int, examined: Examined) -> list[Packet]:
        """The packets of a frame, complete."""
        count, size, last, _, _ = examined
        stride = size + 8
        out = bytearray(count * stride)
        segment(self._frame, length, out, 0, stride, 0, 0, 0, count)
        starts = range(0, count * stride, stride)
        return [bytes(out[at : at + (size if i < count - 1 else last)]) for i, at in enumerate(starts)]

    def flush(self) -> None:
        """Seal and send what has been collected."""
        for run in self._runs.values():
            self._seal(run)
            self._spare.append(run)
        self._runs.clear()

    def _seal(self, run: SendRun) -> None:
        if run.count:
            payloads, count = run.seal()
            if count:
                self._send(payloads, run.stride, count, run.tos)


class Inbound:
    """From a socket to the TUN device.

    `other(data, source, local)` takes each datagram that is not ESP of ours, and the socket's own address; `heard()` is
    called after genuine ESP, and `missed()` when it tells that packets of ours got lost. `limits` are those of the MSS
    over IPv4 and IPv6, or None where SYNs are left alone. `bulk(packet, length)` sees the last frame of each run of
    long packets.

    `piecemeal` tells whether the last call found several datagrams that neither sender nor network had merged: the
    longer one waits then, the more of them share a call.
    """

    def __init__(
        self,
        table: SaTable,
        tun: FrameDevice,
        heard: Callable[[], None],
        missed: Callable[[], None],
        other: Callable[[bytes, Address, Address], None],
        limits: tuple[int, int] | None,
        bulk: Callable[[Packet, int], None],
    ) -> None:
        self.limits = limits
        self._bulk = bulk
        self.piecemeal = False
        self._table = table
        self._tun = tun
        self._heard = heard
        self._missed = missed
        self._other = other
        self._slots = Slots(_ARENA)
        self._many = Many(self._slots.buffer)
        self._busy = False  # whether the last call found several; if not, the first one is not kept waiting for more
        self._merged = True  # whether datagrams seem to arrive merged: then one call for several has nothing to do
        self._stride = 1  # of the longest datagrams of late
        self._out = memoryview(bytearray(_ARENA + _LONGEST))

    def drain(self, socket: RunTransport, limit: int, *, again: bool) -> int:
        """Carry what is waiting; returns how many datagrams were read, merged ones counted as one.

        Unless this is called `again`, the last call having left something, a datagram alone is carried at once, and
        nobody looks for a second one.
        """
        first: Arrival | None = None
        self.piecemeal = False
        self._busy |= again
        if not self._busy:
            got = socket.receive_into(self._slots.view)
            if got is None:
                socket.drain_errors()
                return 0
            if self._alone(*got):
                return 1
            first = None, *got
        reads = self._collect(socket, limit, first)
        self._busy = reads > 1
        return reads

    def _alone(self, length: int, size: int, source: Address, tos: int) -> bool:
        """Carry the datagram that was received by itself, the short way; false where it has to go another."""
        if size != length or length < _SHORTEST_ESP or source[1] == IKE_PORT:
            return False
        sa = self._table.inbound.get(_spi(self._slots.buffer)[0])
        if sa is None:
            return False
        self._single(sa, bytes(self._slots.view[:length]), tos & 3)
        return True

    def _collect(self, socket: RunTransport, limit: int, first: Arrival | None) -> int:
        """As `drain`, with runs made of datagrams that can share one; `first` has been received already."""
        view, local = self._slots.view, socket.local
        reads = loose = end = stride = widest = tos = taken = 0
        source: Address | None = None
        while reads < limit and taken < _BURST_IN:
            several = first is None and self._busy and not self._merged
            arrivals = (first,) if first is not None else self._arrivals(socket, several, end, stride, limit - reads)
            first = None
            for data, length, size, sender, octet in arrivals:
                self._merged = self._many.merged if several else size != length
                count = -(-length // size) if several and size and not self._merged else 1
                reads += count
                loose += 0 if self._merged else count
                taken += length
                fits = source is not None and end % stride == 0 and sender == source and octet == tos
                fits = fits and end + length <= _ARENA
                if not fits or size > stride or (size < stride and length > size):
                    if source is not None:
                        self._process(end, stride, source, tos, local)
                    if end or data is not None:
                        view[:length] = view[end : end + length] if data is None else data
                    end, stride, source, tos = 0, max(size, 1), sender, octet
                elif data is not None:
                    view[end : end + length] = data
                if not length:
                    self._process(end, stride, sender, octet, local)
                    self._other(b"", sender, local)
                    end, source = 0, None
                    continue
                end += length
                if end % stride or end >= MAXIMUM_SLOTS * stride or end > _ARENA - _LONGEST:
                    self._process(end, stride, sender, octet, local)
                    end, source = 0, None
                widest = max(widest, stride)
            if not arrivals or (several and self._many.exhausted):
                break
        if source is not None:
            self._process(end, stride, source, tos, local)
        elif not reads:
            socket.drain_errors()
        self._stride = widest or self._stride
        self.piecemeal = loose >= _MANY and 2 * loose > reads
        return reads

    def _arrivals(self, socket: RunTransport, several: bool, end: int, stride: int, most: int) -> Sequence[Arrival]:
        """The next datagrams, which lie at `end` if not in the arrival itself: merged ones, or `several`."""
        if several:
            stride = stride if end else self._stride
            return socket.receive_many(self._many, stride, end // stride, most)
        got = socket.receive_into(self._slots.view[end:])
        return () if got is None else ((None, *got),)

    def _process(self, end: int, stride: int, source: Address, tos: int, local: Address) -> None:
        """Turn over a run of datagrams of one size from one source."""
        slots, lookup = self._slots, self._table.inbound.get
        at = 0
        while at < end:
            count, sa = 1, None
            if source[1] != IKE_PORT and stride >= _SHORTEST_ESP and end - at >= _SHORTEST_ESP:
                count, spi, low, rising = survey(slots.buffer, end, stride, at // stride)
                sa = lookup(spi)
            if sa is None:
                for begin in range(at, at + count * stride, stride):
                    self._other(bytes(slots.view[begin : min(begin + stride, end)]), source, local)
            elif count == 1:
                self._single(sa, bytes(slots.view[at : min(at + stride, end)]), tos & 3)
            else:
                before, selective = sa.authenticated, sa.selective
                run = ReceivedRun(
                    slots=slots,
                    end=end,
                    stride=stride,
                    first=at // stride,
                    count=count,
                    low=low,
                    rising=rising,
                    ecn=tos & 3,
                )
                frames, look = sa.open_run(run, self._out, merge_udp=self._tun.merges_udp)
                if sa.authenticated != before:
                    self._heard()
                if sa.selective != selective:
                    self._missed()
                if frames:
                    if stride >= LONG:
                        start, finish, _, _ = frames[-1]
                        self._bulk(self._out[start + VNET_HEADER : finish], finish - start - VNET_HEADER)
                    self._write(frames, look)
            at += count * stride

    def _single(self, sa: InboundSa, datagram: bytes, ecn: int) -> None:
        """One datagram alone, such as a ping's: nothing to merge, so nothing is prepared for merging."""
        before = sa.authenticated
        packet = sa.open_one(datagram, ecn)
        if sa.authenticated != before:
            self._heard()
        if packet is not None:
            if self.limits is not None:
                packet = clamp_one(packet, *self.limits)
            if len(packet) >= LONG:
                self._bulk(packet, len(packet))
            self._tun.write_frame(b"".join((_NO_HEADER, packet)))

    def _write(self, frames: list[Frame], look: bool) -> None:
        out, limits = self._out, self.limits
        if not look or limits is None:
            self._tun.write_frames([out[start:end] for start, end, _, _ in frames])
            return
        ready: list[Packet] = []
        for start, end, packets, _ in frames:
            frame: Packet = out[start:end]
            if packets == 1:
                packet = out[start + VNET_HEADER : end]
                if (clamped := clamp_one(packet, *limits)) is not packet:
                    frame = b"".join((_NO_HEADER, clamped))
            ready.append(frame)
        self._tun.write_frames(ready)
