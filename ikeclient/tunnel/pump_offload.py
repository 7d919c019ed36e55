"""The pump's fast lane: super-packets, and runs of datagrams that share one system call.

What decides the speed of a data plane in userspace is how many packets share one system call and one trip through the
interpreter. Everything unusual leaves the lane for the pump's ordinary one: packets above the inner MTU, TCP SYNs, and
headers that need a longer look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ikeclient.esp.mss import clamp, clamp_batch
from ikeclient.esp.offload import VNET_HEADER, examine, segment, survey
from ikeclient.esp.offload_send import MOST_SEGMENTS, SendRun
from ikeclient.esp.offload_slots import Slots
from ikeclient.esp.sa import InboundSa, OutboundSa, Packet, ReceivedRun
from ikeclient.esp.table import SaTable
from ikeclient.net.many import Arrival, Many
from ikeclient.tunnel.ports import Address, FrameDevice, RunSocket

Examined = tuple[int, int, int, int, bool]

_FRAME = VNET_HEADER + 65535
_BURST = 262_144  # bytes after which a call ends, so that the other direction and IKE get their turn
_MOST_RUNS = 8  # of as many SAs at a time, so that packets of several do not break up each other's runs
_LONGEST = 65536
_ARENA = 3 * _LONGEST
_SHORTEST_ESP = 8
_NO_HEADER = bytes(VNET_HEADER)


class Outbound:
    """From the TUN device to the socket.

    `send(run, size, count, tos)` sends sealed datagrams. `refuse(packet)` takes packets for the ordinary lane.
    """

    def __init__(
        self,
        table: SaTable,
        tun: FrameDevice,
        send: Callable[[memoryview, int, int, int], None],
        slowly: Callable[[list[Packet]], None],
    ) -> None:
        self._table = table
        self._tun = tun
        self._send = send
        self._slowly = slowly
        self._frame = bytearray(_FRAME)
        self._into = [self._frame]
        self._packet = memoryview(self._frame)[VNET_HEADER:]
        self._runs: dict[OutboundSa, SendRun] = {}  # in the making; empty between two calls of `drain`
        self._spare = [SendRun()]

    def drain(self, limit: int, mtu: int, *, path: bool) -> tuple[int, int]:
        """Carry what is waiting: how many frames were read, and how many packets had no path."""
        frames = size = homeless = 0
        read, into, frame, table = self._tun.read_into, self._into, self._frame, self._table
        while frames < limit and size < _BURST and (length := read(into)):
            frames += 1
            size += length
            examined = examine(frame, length)
            count, longest, _, _, look = examined
            if not path:
                homeless += count or 1
            elif look or longest > mtu:
                self.flush()
                self._slowly(self._split(length, examined))
            elif count and (sa := table.choose(self._packet, length - VNET_HEADER)) is not None:
                self._append(sa, length, examined)
            else:
                table.unrouted += count or 1
        self.flush()
        return frames, homeless

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

    `other(data, source)` takes each datagram that is not ESP of ours; `heard()` is called after genuine ESP;
    `segments()` are the MSS limits, or None where SYNs are left alone.
    """

    def __init__(
        self,
        table: SaTable,
        tun: FrameDevice,
        heard: Callable[[], None],
        segments: Callable[[], tuple[int, int] | None],
    ) -> None:
        self._table = table
        self._tun = tun
        self._heard = heard
        self._segments = segments
        self._slots = Slots(_ARENA)
        self._many = Many(self._slots.buffer)
        self._busy = False  # whether the last call found several; if not, the first one is not kept waiting for more
        self._out = memoryview(bytearray(_ARENA + _LONGEST))

    def drain(
        self, socket: RunSocket, limit: int, esp: Callable[[Address], bool], other: Callable[[bytes, Address], None]
    ) -> int:
        """Carry what is waiting; returns how many datagrams were read, merged ones counted as one."""
        view = self._slots.view
        reads = end = stride = tos = taken = 0
        source: Address | None = None
        merged = True  # whether datagrams seem to arrive merged: then one call for several has nothing to do
        while reads < limit and taken < _BURST:
            several = self._busy and not merged and source is not None
            arrivals = self._arrivals(socket, end, stride if several else 0, limit - reads)
            if not arrivals:
                break
            for data, length, size, sender, octet in arrivals:
                reads += length // size if several and data is None else 1
                taken += length
                merged = size != length and (data is not None or not several)
                fits = source is not None and end % stride == 0 and sender == source and octet == tos
                if source is None or not fits or size > stride or (size < stride and length > size):
                    if source is not None:
                        self._process(end, stride, source, tos, esp, other)
                    if end or data is not None:
                        view[:length] = view[end : end + length] if data is None else data
                    end, stride, source, tos = 0, max(size, 1), sender, octet
                elif data is not None:
                    view[end : end + length] = data
                if not length:
                    self._process(end, stride, sender, octet, esp, other)
                    other(b"", sender)
                    end, source = 0, None
                    continue
                end += length
                alone = reads == 1 and not self._busy
                if alone or end % stride or end >= MOST_SEGMENTS * stride or end > _ARENA - _LONGEST:
                    self._process(end, stride, sender, octet, esp, other)
                    end, source = 0, None
        if source is not None:
            self._process(end, stride, source, tos, esp, other)
        elif not reads:
            socket.drain_errors()
        self._busy = reads > 1
        return reads

    def _arrivals(self, socket: RunSocket, end: int, stride: int, most: int) -> Sequence[Arrival]:
        """The next datagrams, which lie at `end` if not in the arrival itself: merged ones, or several of `stride`."""
        if stride:
            return socket.receive_many(self._many, stride, end // stride, most)
        got = socket.receive_into(self._slots.view[end:])
        return () if got is None else ((None, *got),)

    def _process(
        self,
        end: int,
        stride: int,
        source: Address,
        tos: int,
        esp: Callable[[Address], bool],
        other: Callable[[bytes, Address], None],
    ) -> None:
        """Turn over a run of datagrams of one size from one source."""
        slots, lookup = self._slots, self._table.inbound.get
        accepted = esp(source)
        at = 0
        while at < end:
            count, sa = 1, None
            if accepted and stride >= _SHORTEST_ESP and end - at >= _SHORTEST_ESP:
                count, spi, low, rising = survey(slots.buffer, end, stride, at // stride)
                sa = lookup(spi)
            if sa is None:
                for begin in range(at, at + count * stride, stride):
                    other(bytes(slots.view[begin : min(begin + stride, end)]), source)
            elif count == 1:
                self._single(sa, bytes(slots.view[at : min(at + stride, end)]), tos & 3)
            else:
                before = sa.authenticated
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
                frames = sa.open_run(run, self._out, merge_udp=self._tun.merges_udp)
                if sa.authenticated != before:
                    self._heard()
                if frames:
                    self._write(frames)
            at += count * stride

    def _single(self, sa: InboundSa, datagram: bytes, ecn: int) -> None:
        """One datagram alone, such as a ping's: nothing to merge, so nothing is prepared for merging."""
        before = sa.authenticated
        packets = sa.open((datagram,), ecn)
        if sa.authenticated != before:
            self._heard()
        if packets:
            if (limits := self._segments()) is not None:
                clamp_batch(packets, *limits)
            self._tun.write_frames([b"".join((_NO_HEADER, packets[0]))])

    def _write(self, frames: list[tuple[int, int, int]]) -> None:
        out, limits = self._out, self._segments()
        ready: list[Packet] = []
        for start, end, packets in frames:
            frame: Packet = out[start:end]
            if limits is not None and packets == 1 and examine(frame, end - start)[4]:
                packet = out[start + VNET_HEADER : end]
                clamped = clamp(packet, limits[0] if packet[0] >> 4 == 4 else limits[1])
                if clamped is not packet:
                    frame = b"".join((_NO_HEADER, clamped))
            ready.append(frame)
        self._tun.write_frames(ready)
