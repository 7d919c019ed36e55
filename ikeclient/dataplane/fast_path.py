"""The fast path: super-packets, and runs of datagrams that share one system call.

What decides the speed of a data plane in userspace is how many packets share one system call and one trip through the
interpreter. Everything unusual takes the slow path: packets above the inner MTU, TCP SYNs, and headers that need
a longer look. A packet that comes alone is carried by itself (`single`), because a ping finds every cache cold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Any, NamedTuple

from ikeclient.dataplane.bulk import HEAD, LONG, Bulk
from ikeclient.dataplane.interfaces import IKE_PORT, Address, FrameDevice, PumpCounters, RunTransport
from ikeclient.dataplane.limits import Limits
from ikeclient.dataplane.receiver import ARENA, BURST, LONG_BURST, LONGEST, SHORTEST_ESP, Receiver
from ikeclient.dataplane.sender import Sender
from ikeclient.esp.codec.choice import VNET_HEADER, examine, segment, survey
from ikeclient.esp.codec.run import Run
from ikeclient.esp.codec.send import SendRun
from ikeclient.esp.codec.single import CARRIED, NOTHING, UNOPENED, Received, Sent, frame_writer
from ikeclient.esp.packet.mss import clamp_one
from ikeclient.esp.sa.inbound import Frame
from ikeclient.esp.sa.pair import InboundSa, OutboundSa, Packet
from ikeclient.esp.sa.table import SaTable
from ikeclient.net.transport import sockaddr
from ikeclient.net.transport.recvmmsg import Arrival

Examined = tuple[int, int, int, int, bool]

_FRAME = VNET_HEADER + 65535
_FRAME_HEAD = VNET_HEADER + HEAD
_LONG_FRAME = 16_384  # bytes of one that makes a run by itself, if those behind it cannot be read with the same call
# Bytes after which a call ends, so that the other direction has its turn: more go in that time with one compiled call.
_BURST, _COMPILED_BURST = 131_072, 524_288
_MOST_RUNS = 8  # of as many SAs at a time, so that packets of several do not break up each other's runs
_LONGEST_TRAILER = 257
_NO_HEADER = bytes(VNET_HEADER)
_SEGMENT_SIZE = 4  # where it is in a frame's header (linux/virtio_net.h)
_segment_size = Struct("<H").unpack_from
_spi = Struct(">I").unpack_from


class Prepared(NamedTuple):
    """A packet alone, before it comes by a descriptor.

    `call()` carries it as far as one call does. `finish(result)` goes on from there, and returns how many came; it has
    to be called in any case, with None if `call` was not.
    """

    descriptor: int
    call: Callable[[], Any]
    finish: Callable[[Any], int]


class FastSend:
    """From the device to the gateway.

    `slow_path(packets)` takes packets that are unusual in some way. `bulk` sees the first frame of long packets of each
    call of `drain`.
    """

    def __init__(
        self,
        table: SaTable,
        device: FrameDevice,
        sender: Sender,
        slow_path: Callable[[list[Packet]], None],
        limits: Limits,
        counters: PumpCounters,
        bulk: Bulk,
    ) -> None:
        self._table = table
        self._device = device
        self._sender = sender
        self._slow_path = slow_path
        self._limits = limits
        self._counters = counters
        self._bulk = bulk
        self._frame = bytearray(_FRAME)
        self._packet = memoryview(self._frame)[VNET_HEADER:]
        self._runs: dict[OutboundSa, SendRun] = {}  # in the making; empty between two calls of `drain`
        self._spare = [SendRun()]
        self._sealed = SendRun()  # what one call makes of frames
        self._text = memoryview(bytearray(LONGEST + _LONGEST_TRAILER))
        self._busy = False  # whether the last call found several; if not, the first one is not kept waiting for more

    def drain(self, limit: int, *, again: bool) -> int:
        """Carry what is waiting; returns how many frames were read.

        Unless this is called `again`, the last call having left something, a packet alone is sent at once, and nobody
        looks for a second one.
        """
        if not again and (prepared := self.prepare(limit)) is not None:
            return prepared.finish(prepared.call())
        return self._drain(limit, 0, alone=not (again or self._busy))

    def _drain(self, limit: int, first: int, *, alone: bool) -> int:
        frames = self._collect(limit, first, alone=alone)
        self._busy = frames > 1
        return frames

    def prepare(self, limit: int) -> Prepared | None:
        """Prepare to send the packet of the next frame by itself; None if no call does that, or several came."""
        table, sender = self._table, self._sender
        sa = table.newest
        if self._busy or sa is None or (sealer := sa.frames) is None or not sender.open:
            return None
        number = sa.take_number()
        if not number:
            return None
        device = self._device.descriptor
        length = 0 if device >= 0 else self._device.read_into((self._frame,))
        mtu, transport, name = self._limits.mtu, sender.descriptor, sender.name
        return Prepared(
            device,
            partial(sealer.single, number, self._frame, length, mtu, device, transport, name),
            partial(self._sent, sa, number, limit),
        )

    def _sent(self, sa: OutboundSa, number: int, limit: int, sent: Sent | None) -> int:
        if sent is None:
            sa.give_back(number)
            return 0
        what, length, payload, tos = sent
        if what == UNOPENED:
            sa.give_back(number)
            return self._drain(limit, length, alone=True)
        sa.count_frame(length)
        if what == CARRIED:
            self._sender.note_sent()
        else:
            self._sender.send_single(payload, tos)
        if length >= LONG + VNET_HEADER:
            self._bulk.sent(self._frame[VNET_HEADER:_FRAME_HEAD], length - VNET_HEADER)
        return 1

    def _collect(self, limit: int, first: int, *, alone: bool) -> int:
        """As `drain`, with runs; the frame of `first` bytes has been read already. `alone`: as long as there is one."""
        frames = size = 0
        seen = False
        growing: SendRun | None = None  # what the last packet was appended to
        read, into, frame, table = self._device.read_into, (self._frame,), self._frame, self._table
        path, mtu, newest = self._sender.open, self._limits.mtu, table.newest
        sealing = newest if path and newest is not None and newest.frames is not None else None
        waiting = self._device.descriptor >= 0  # others are read with the same call
        while first or (frames < limit and size < _BURST):  # what has been read has to go
            length, first = first or read(into), 0
            if not length:
                break
            if sealing is not None and (waiting or length >= _LONG_FRAME):
                if sealing in self._runs:
                    self.flush()
                if length >= LONG + VNET_HEADER and not seen:
                    seen = True
                    self._bulk.sent(frame[VNET_HEADER:_FRAME_HEAD], length - VNET_HEADER)
                most, room = max(limit - frames, 1), _COMPILED_BURST - size
                more, taken, first = self._send_frames(sealing, length, mtu, most, room)
                if more:
                    frames += more
                    size += taken
                    growing = None
                    if first < 0:
                        break
                    continue
            frames += 1
            size += length
            if growing is not None and growing.grow(frame, length, mtu):
                continue
            growing = None
            examined = examine(frame, length)
            count, longest, _, _, look = examined
            if longest >= LONG and not seen:
                seen = True
                self._bulk.sent(frame[VNET_HEADER:_FRAME_HEAD], length - VNET_HEADER)
            if path and (look or longest > mtu):
                self.flush()
                self._slow_path(self._split(length, examined))
            elif not path or not count or (sa := table.choose(self._packet, length - VNET_HEADER)) is None:
                self._keep_or_count(length, examined, path=path)
            elif frames == count == 1 and alone:
                self._single(sa, length, examined)
                return 1
            else:
                run = self._append(sa, length, examined)
                growing = run if sa is newest else None
        self.flush()
        return frames

    def _keep_or_count(self, length: int, examined: Examined, *, path: bool) -> None:
        """Have packets that cannot be sent wait for a Child SA, if one can be made for them, or count them."""
        count = examined[0]
        if count and self._table.awaited is not None:
            self._slow_path(self._split(length, examined))
        elif path:
            self._table.miss(count or 1)
        else:
            self._counters.no_path += count or 1

    def _send_frames(self, sa: OutboundSa, length: int, mtu: int, most: int, room: int) -> tuple[int, int, int]:
        """Send a frame, and at most so many frames and bytes with those that wait behind it, as runs of their own.

        Returns how many frames and bytes that were, none if the first one needs a look; and the length of the frame
        that was read behind them, 0 if none was, -1 if none is waiting.
        """
        run, sender = self._sealed, self._sender
        runs, waited = most, True
        if sender.pacing:
            runs = 1
            segment_size = _segment_size(self._frame, _SEGMENT_SIZE)[0]
            if waited := sender.wait_for_turn(length // segment_size if segment_size else 1):
                most = 1
        descriptors = self._device.descriptor, sender.run_descriptor, sender.name
        count, frames, taken, left, unsent = sa.send_frames(
            self._frame, length, mtu, run.slots, descriptors, (most, room, runs)
        )
        if not count:
            return 0, 0, 0
        if unsent is None or count > unsent[0]:
            sender.note_sent()
        if unsent is not None:
            run.hold(unsent)
            try:
                sender.send_run(run)
            finally:
                run.clear()
        if not waited:  # nobody knew before how many they are
            sender.wait_for_turn(count)
        return frames, taken, left

    def _single(self, sa: OutboundSa, length: int, examined: Examined) -> None:
        """Send one packet by itself."""
        layout, size = sa.layout, examined[1]
        end = layout.text_length(size)
        segment(self._frame, length, self._text, 0, end, 0, layout.alignment - 1, 0, 1)
        payload = sa.seal_text(self._text[:end], size)
        if payload is not None:
            self._sender.send_single(payload, examined[3])

    def _append(self, sa: OutboundSa, length: int, examined: Examined) -> SendRun:
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
        return run

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
            try:
                if run.seal():
                    self._sender.wait_for_turn(run.count)
                    self._sender.send_run(run)
            finally:
                run.clear()


class FastReceive:
    """From a transport to the device: a datagram alone, or what `receiver` makes runs of.

    - `heard(sa)` is called after genuine ESP, and `missed()` when it tells that packets of ours got lost.
    - `other(data, source, local)` takes each datagram that is not ESP of ours, and the transport's own address.
    - `bulk` sees the last long frame of each run.
    """

    def __init__(
        self,
        table: SaTable,
        device: FrameDevice,
        heard: Callable[[InboundSa], None],
        missed: Callable[[], None],
        other: Callable[[bytes, Address, Address], None],
        limits: Limits,
        bulk: Bulk,
    ) -> None:
        self.receiver = Receiver(self._take, LONG_BURST if device.descriptor < 0 else BURST)
        self._bulk = bulk
        self._table = table
        self._device = device
        self._heard = heard
        self._missed = missed
        self._other = other
        self._limits = limits
        self._view = self.receiver.slots.view
        self._buffer = self.receiver.slots.buffer
        self._out = memoryview(bytearray(ARENA + LONGEST))
        self._write_frames = frame_writer()

    def drain(self, transport: RunTransport, limit: int, *, again: bool) -> int:
        """Carry what is waiting; returns how many datagrams were read, merged ones counted as one.

        Unless this is called `again`, the last call having left something, a datagram alone is carried at once, and
        nobody looks for a second one.
        """
        receiver = self.receiver
        if again or receiver.busy:
            return receiver.drain(transport, limit, again=again)
        if (prepared := self.prepare(transport, limit)) is not None:
            return prepared.finish(prepared.call())
        return self._receive_first(transport, limit)

    def prepare(self, transport: RunTransport, limit: int) -> Prepared | None:
        """Prepare to carry the next datagram by itself; None if no call does that, or several came."""
        sa, descriptor = self._table.newest_inbound, transport.descriptor
        if self.receiver.busy or sa is None or descriptor < 0:
            return None
        clamp = self._limits.segments is not None
        receive = sa.receiver(self._buffer, descriptor, self._device.descriptor, clamp=clamp)
        if receive is None:
            return None
        return Prepared(descriptor, receive, partial(self._received, sa, transport, limit))

    def _received(self, sa: InboundSa, transport: RunTransport, limit: int, received: Received | None) -> int:
        if received is None:
            return 0
        what, opened, length, size, tos, name = received
        if what == NOTHING:
            return self._receive_first(transport, limit)
        if what == UNOPENED:
            return self._take_first(transport, limit, (None, length, size, sockaddr.unpack(name), tos))
        before = sa.authenticated
        packet = sa.received(what, opened, tos)
        self._opened(sa, before, packet, written=what == CARRIED)
        return 1

    def _receive_first(self, transport: RunTransport, limit: int) -> int:
        """Receive a datagram as all transports can."""
        got = transport.receive_into(self._view)
        if got is None:
            transport.drain_errors()
            return 0
        return self._take_first(transport, limit, (None, *got))

    def _take_first(self, transport: RunTransport, limit: int, first: Arrival) -> int:
        """Carry what has been received: by itself, or in a run with what waits behind it."""
        _, length, size, source, tos = first
        if size == length and self._take_single(length, source, tos):
            return 1
        return self.receiver.drain(transport, limit, first)

    def _take_single(self, length: int, source: Address, tos: int) -> bool:
        """Carry the datagram that came alone; false if it is not ESP of ours."""
        if length < SHORTEST_ESP or source[1] == IKE_PORT:
            return False
        sa = self._table.inbound.get(_spi(self._view)[0])
        if sa is None:
            return False
        self._single(sa, 0, length, tos & 3)
        return True

    def _take(self, run: Run, local: Address) -> None:
        """Carry a run: one SA after the other."""
        view, lookup, stride, end, source = self._view, self._table.inbound.get, run.stride, run.end, run.source
        assert source is not None
        if not end:
            self._other(b"", source, local)
        slot = 0
        while (at := slot * stride) < end:
            count, sa = 1, None
            if source[1] != IKE_PORT and stride >= SHORTEST_ESP and end - at >= SHORTEST_ESP:
                count, spi, low, rising = survey(run.slots.buffer, end, stride, slot)
                sa = lookup(spi)
                if sa is not None and not sa.mixes:
                    count = run.alike(slot, count)
            run.narrow(slot, count)
            slot += count
            if sa is None:
                for i in range(count):
                    begin = at + i * stride
                    self._other(bytes(view[begin : begin + run.length(i)]), source, local)
            elif count == 1:
                self._single(sa, at, run.last, run.tos & 3)
            else:
                before, selective = sa.authenticated, sa.selective
                frames, look = sa.open_run(run, self._out, low=low, rising=rising, merge_udp=self._device.merges_udp)
                if sa.authenticated != before:
                    self._heard(sa)
                if sa.selective != selective:
                    self._missed()
                if frames:
                    if stride >= LONG:
                        self._note(frames)
                    self._write(frames, look)

    def _note(self, frames: list[Frame]) -> None:
        """Show the last long frame to `bulk`; a run may end with a short packet of another flow."""
        for begin, finish, _, _ in reversed(frames):
            if finish - begin >= LONG + VNET_HEADER:
                begin += VNET_HEADER
                self._bulk.received(bytes(self._out[begin : min(begin + HEAD, finish)]), finish - begin)
                return

    def _single(self, sa: InboundSa, at: int, length: int, ecn: int) -> None:
        """One datagram alone, such as a ping's: nothing to merge, so nothing is prepared for merging."""
        before = sa.authenticated
        self._opened(sa, before, sa.open_at(self._buffer, at, length, ecn), written=False)

    def _opened(self, sa: InboundSa, before: int, packet: Packet | None, *, written: bool) -> None:
        """Hand over the packet of an SA that had `before` genuine ones, unless the device has it already."""
        if sa.authenticated != before:
            self._heard(sa)
        if packet is None:
            return
        if not written and (segments := self._limits.segments) is not None:
            packet = clamp_one(packet, *segments)
        if len(packet) >= LONG:
            self._bulk.received(packet if type(packet) is bytes else bytes(packet), len(packet))
        if not written:
            self._device.write_frame(b"".join((_NO_HEADER, packet)))

    def _write(self, frames: list[Frame], look: bool) -> None:
        out, segments = self._out, self._limits.segments
        if not look or segments is None:
            self._write_all(frames)
            return
        ready: list[Packet] = []
        for start, end, packets, _ in frames:
            frame: Packet = out[start:end]
            if packets == 1:
                packet = out[start + VNET_HEADER : end]
                if (clamped := clamp_one(packet, *segments)) is not packet:
                    frame = b"".join((_NO_HEADER, clamped))
            ready.append(frame)
        self._device.write_frames(ready)

    def _write_all(self, frames: list[Frame]) -> None:
        out, device, write, at = self._out, self._device, self._write_frames, 0
        if write is None or device.descriptor < 0:
            device.write_frames([out[start:end] for start, end, _, _ in frames])
            return
        while (at := write(device.descriptor, out, frames, at)) < len(frames):
            start, end, _, _ = frames[at]
            device.write_frame(out[start:end])  # which asks again what the kernel has to say of it
            at += 1


class FastPath:
    """Both directions between one device and the transports of a pump that can carry runs."""

    __slots__ = ("device", "receive", "send")

    def __init__(self, device: FrameDevice, send: FastSend, receive: FastReceive) -> None:
        self.device = device
        self.send = send
        self.receive = receive

    def prepare(self, transport: RunTransport, limit: int) -> list[Prepared]:
        """Prepare for a packet that comes alone, in either direction, by a descriptor."""
        if self.device.descriptor < 0:
            return []
        found = self.send.prepare(limit), self.receive.prepare(transport, limit)
        return [prepared for prepared in found if prepared is not None]
