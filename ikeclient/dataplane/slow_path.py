"""The slow path: packets one by one. It takes whatever the fast path does not, and must be as right as that.

Packets above the inner MTU are answered here with the ICMP error that a router would send. TCP SYNs come here, and
everything does where device or transport cannot carry runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from struct import Struct

from ikeclient.dataplane.bulk import HEAD, LONG, Bulk
from ikeclient.dataplane.interfaces import IKE_PORT, Address, Device, PumpCounters, Transport
from ikeclient.dataplane.limits import Limits
from ikeclient.dataplane.not_esp import ESP_HEADER
from ikeclient.dataplane.sender import Sender
from ikeclient.esp.packet.icmp import too_big
from ikeclient.esp.packet.mss import clamp_batch
from ikeclient.esp.sa.pair import InboundSa, Packet
from ikeclient.esp.sa.table import SaTable

_spi = Struct(">I").unpack_from


class SlowSend:
    """From the device to the gateway."""

    __slots__ = ("_counters", "_device", "_limits", "_sender", "_table")

    def __init__(self, table: SaTable, device: Device, sender: Sender, limits: Limits, counters: PumpCounters) -> None:
        self._table = table
        self._device = device
        self._sender = sender
        self._limits = limits
        self._counters = counters

    def drain(self, limit: int, bulk: Bulk) -> int:
        """Carry what is waiting; returns how many packets were read."""
        packets = list(self._device.read_batch(limit))
        if (long := next((packet for packet in packets if len(packet) >= LONG), None)) is not None:
            bulk.sent(bytes(long[:HEAD]), len(long))
        self.send(packets)
        return len(packets)

    def send(self, packets: list[Packet], *, probe: bool = False) -> None:
        """Send whole packets; those that are a `probe` of ours are not counted as traffic that wants an answer."""
        limits = self._limits
        if packets and max(map(len, packets)) > limits.mtu:
            packets = self._refuse_too_big(packets)
        if not self._sender.open:
            self._counters.no_path += self._table.hold(packets)
            return
        for outbound, accepted in self._table.route(packets):
            if limits.segments is not None:
                clamp_batch(accepted, *limits.segments)
            for tos, alike in groupby(accepted, traffic_class):
                self._sender.send_batch(outbound.seal(list(alike)), tos, probe=probe)

    def _refuse_too_big(self, packets: Iterable[Packet]) -> list[Packet]:
        """Answer packets above the inner MTU; those that may be fragmented pass, in fragmented outer packets."""
        passed: list[Packet] = []
        answers: list[Packet] = []
        for packet in packets:
            if len(packet) <= self._limits.mtu:
                passed.append(packet)
                continue
            longest = self._limits.longest.get(packet[0] >> 4, 0)
            if len(packet) <= longest:
                passed.append(packet)
            elif (answer := too_big(packet, longest)) is not None:
                self._counters.too_big += 1
                answers.append(answer)
            elif packet[0] >> 4 == 4 and not packet[6] & 0x40:
                passed.append(packet)
            else:
                self._counters.too_big += 1
        if answers:
            self._device.write_batch(answers)
        return passed


class SlowReceive:
    """From the gateway to the device.

    - `heard(sa)` is called after genuine ESP.
    - `other(data, source, local)` takes each datagram that is not ESP of ours, and the transport's own address.
    """

    __slots__ = ("_bulk", "_device", "_heard", "_limits", "_other", "_table")

    def __init__(
        self,
        table: SaTable,
        device: Device,
        heard: Callable[[InboundSa], None],
        other: Callable[[bytes | memoryview, Address, Address], None],
        limits: Limits,
        bulk: Bulk,
    ) -> None:
        self._table = table
        self._device = device
        self._heard = heard
        self._other = other
        self._limits = limits
        self._bulk = bulk

    def drain(self, transport: Transport, limit: int) -> int:
        """Carry what is waiting: runs of one SA and one ECN field at a time; returns how many datagrams were read."""
        datagrams = transport.receive_batch(limit)
        lookup = self._table.inbound.get
        current: InboundSa | None = None
        group: list[bytes | memoryview] = []
        mark = 0
        for data, source, tos in datagrams:
            if source[1] == IKE_PORT or len(data) < ESP_HEADER or (sa := lookup(_spi(data)[0])) is None:
                self._other(data, source, transport.local)
                continue
            if sa is not current or tos & 3 != mark:
                self._open(current, group, mark)
                current, group, mark = sa, [], tos & 3
            group.append(data)
        self._open(current, group, mark)
        return len(datagrams)

    def _open(self, sa: InboundSa | None, datagrams: Sequence[bytes | memoryview], ecn: int) -> None:
        if sa is None:
            return
        before = sa.authenticated
        packets = sa.open(datagrams, ecn)
        if sa.authenticated != before:
            self._heard(sa)
        if packets:
            if self._limits.segments is not None:
                clamp_batch(packets, *self._limits.segments)
            if (long := next((packet for packet in reversed(packets) if len(packet) >= LONG), None)) is not None:
                self._bulk.received(bytes(long[:HEAD]), len(long))
            self._device.write_batch(packets)


class SlowPath:
    """Both directions."""

    __slots__ = ("receive", "send")

    def __init__(self, send: SlowSend, receive: SlowReceive) -> None:
        self.send = send
        self.receive = receive


def traffic_class(packet: Packet) -> int:
    """The TOS or traffic class octet, which the outer header gets too (RFC 2983 section 3, RFC 6040 section 4.1)."""
    return packet[1] if packet[0] < 0x60 else (packet[0] & 15) << 4 | packet[1] >> 4
