"""The pump: packets from the TUN device into ESP datagrams, datagrams into packets for the TUN device and IKE messages.

Synchronous and clockless, so that it runs under any event loop: call `drain_tun` and `drain_udp` when a descriptor is
readable. Each call does a bounded amount of work, so that both directions and the timers of IKE get their turn; what
is left makes the descriptor readable again.

Nothing leaves in the clear: a packet that no Child SA accepts, or that comes while there is no path, is counted and
dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from struct import Struct

from ikeclient.control.status import ChildCounters, Drops, OffloadStatus
from ikeclient.dataplane.bulk import LONG, Bulk
from ikeclient.dataplane.fast_path import Inbound, Outbound
from ikeclient.dataplane.interfaces import (
    IKE_PORT,
    Address,
    Device,
    FrameDevice,
    PumpCounters,
    RunTransport,
    Transport,
)
from ikeclient.esp.codec.choice import ACTIVE
from ikeclient.esp.codec.run import Run
from ikeclient.esp.packet.ecn import PathMarks
from ikeclient.esp.packet.icmp import too_big
from ikeclient.esp.packet.mss import clamp_batch
from ikeclient.esp.sa.mtu import interface_mtu, segment_sizes
from ikeclient.esp.sa.pair import InboundSa, OutboundSa, Packet, SaPair
from ikeclient.esp.sa.selectors import PacketFilter
from ikeclient.esp.sa.table import SaTable

__all__ = ["Address", "Device", "Pump", "PumpCounters", "Transport"]

NON_ESP_MARKER = bytes(4)  # RFC 3948 section 2.2
KEEPALIVE = b"\xff"  # RFC 3948 section 2.3

_IKE_HEADER = 28
_ESP_HEADER = 8
MARKS_IGNORED = (
    "every packet from the gateway arrives with the mark of congestion (ECN CE), also those that cannot be marked: "
    "a device on the path is broken, and the marks are ignored"
)
DEAFNESS = 5.0  # longer than the pauses in which a request is repeated
IKE_BUDGET = 32  # IKE messages in one call, once a call has had more: timers and the other direction wait for it
_LONG_RUN = 20  # datagrams; a socket buffer of the usual size holds about ninety
_SPACED = 256  # long runs after a loss: a fraction of a second
_FIRST_SPI = 256  # smaller ones are reserved (RFC 4303 section 2.1)
_DEFAULT_MTU = 65535
_spi = Struct(">I").unpack_from


class Pump:
    """Join one device, the transports of one connection and its Child SAs.

    - `on_ike(data, source, local)`: an IKE message without marker, where it came from and the transport's own address;
      returns whether it was due. It may call back into the pump. `data` is not authenticated in any way.
    - `now`: the clock of `last_inbound` and the others, in seconds.
    - `entropy`: random bytes for the IVs of AES-CBC.
    - `offload`: use the fast path, if device and transport can; the attribute `fast` tells.
    - `pace`: called before each long run while packets get lost on their way; it may wait, so that runs are kept
      apart. A gateway that takes datagrams one by one has no room for several.
    - `on_waiting`: called when packets wait for a Child SA that `expect` has announced.
    - `warn`: called with a sentence for people.
    - `on_tun_lost`: called once when the interface is deleted under us; the descriptor must then leave the event loop.

    `last_inbound` is when genuine ESP last came, `last_outbound` when ESP was last sent, `last_sent` when anything
    was last sent to the remote end; None before the first time.
    """

    __slots__ = (
        "_batch",
        "_clamp",
        "_deaf_until",
        "_entropy",
        "_frames",
        "_has_path",
        "_ike_taken",
        "_inbound",
        "_longest",
        "_marks",
        "_now",
        "_offload",
        "_on_ike",
        "_on_tun_lost",
        "_on_waiting",
        "_outbound",
        "_overflowed",
        "_overflows_seen",
        "_pace",
        "_paced",
        "_segments",
        "_sending",
        "_sending_runs",
        "_to_pace",
        "_transports",
        "_tun",
        "_warn",
        "bulk",
        "counters",
        "fast",
        "last_inbound",
        "last_outbound",
        "last_sent",
        "mtu",
        "remote",
        "table",
    )  # more attributes than a dictionary of an instance is fast with

    def __init__(
        self,
        tun: Device,
        on_ike: Callable[[bytes, Address, Address], bool],
        now: Callable[[], float],
        *,
        entropy: Callable[[int], bytes],
        pace: Callable[[], None] = lambda: None,
        on_tun_lost: Callable[[], None] | None = None,
        on_waiting: Callable[[], None] = lambda: None,
        warn: Callable[[str], None] = lambda _: None,
        clamp_mss: bool = True,
        batch: int = 256,
        offload: bool = True,
    ) -> None:
        self.table = SaTable()
        self.bulk = Bulk(now)
        self.counters = PumpCounters()
        self.last_inbound: float | None = None
        self.last_outbound: float | None = None
        self.last_sent: float | None = None
        self.remote: Address | None = None
        self.fast = False
        self._offload = offload
        self._outbound: Outbound | None = None
        self._inbound: Inbound | None = None
        self._tun = tun
        self._on_ike = on_ike
        self._now = now
        self._entropy = entropy
        self._pace = pace
        self._to_pace = 0  # how many of the next long runs are kept apart
        self._paced = False
        self._on_tun_lost = on_tun_lost
        self._on_waiting = on_waiting
        self._warn: Callable[[str], None] | None = warn
        self._marks = PathMarks(self._ignoring_marks)
        self._clamp = clamp_mss
        self._batch = batch
        self._overflowed = 0  # datagrams for which transports that are gone had no room
        self._overflows_seen = 0
        self._deaf_until = float("-inf")
        self._ike_taken = 0  # IKE messages in the present call that were due
        self._frames: FrameDevice | None = None
        self._transports: dict[Transport, RunTransport | None] = {}  # the same for the fast path, if it is one for it
        self._sending: Transport | None = None
        self._sending_runs: RunTransport | None = None
        self._has_path = False
        self.set_mtu(_DEFAULT_MTU)

    # The path

    def attach(self, transport: Transport, *, sending: bool = True) -> None:
        """Receive on this transport, and send on it from now on unless `sending` is false.

        Those attached before go on receiving.
        """
        if transport not in self._transports:
            self._transports[transport] = self._accelerate(transport)
        if sending:
            self._send_on(transport)

    def _send_on(self, transport: Transport | None) -> None:
        self._sending = transport
        self._sending_runs = self._transports[transport] if transport is not None else None
        self._find_path()

    def _find_path(self) -> None:
        """Note whether ESP can be sent; to port 500 it cannot (RFC 3948)."""
        self._has_path = self._sending is not None and self.remote is not None and self.remote[1] != IKE_PORT

    def _accelerate(self, transport: Transport) -> RunTransport | None:
        """The transport for the fast path; None if it or the device has to take the slow one."""
        runs = transport.runs() if self._offload else None
        if runs is None:
            return None
        if self._frames is None:
            frames = self._tun.frames()
            if frames is None:
                self._offload = False
                return None
            self._frames = frames
            self._outbound = Outbound(
                self.table, frames, self._send_run, self._send_single, self._send_packets, self.bulk.sent
            )
            limits = self._segments if self._clamp else None
            self._inbound = Inbound(
                self.table, frames, self._heard, self._missed, self._handle_other, limits, self.bulk.received
            )
            self.fast = True
        runs.enable_merging()
        return runs

    def _heard(self) -> None:
        self.last_inbound = self._now()

    def _missed(self) -> None:
        self._to_pace = _SPACED

    def detach(self, transport: Transport) -> None:
        """Forget a transport; the one attached last among the others sends, if this one did."""
        if transport in self._transports:
            self._overflowed += transport.receive_queue()[1]
            del self._transports[transport]
        if self._sending is transport:
            self._send_on(next(reversed(self._transports), None))

    def set_remote(self, remote: Address | None) -> None:
        """Send ESP to this end point; None stops sending."""
        if remote is not None and remote != self.remote:
            self._marks.reset()
        self.remote = remote
        self._find_path()

    def _ignoring_marks(self) -> None:
        warn, self._warn = self._warn, None
        if warn is not None:
            warn(MARKS_IGNORED)

    def set_mtu(self, inner: int) -> None:
        """The longest inner packet in bytes; IPv6 packets of up to 1280 bytes pass in any case (RFC 8200 section 5)."""
        self.mtu = inner
        self._longest = {4: inner, 6: interface_mtu(inner, ipv6=True)}
        self._segments = segment_sizes(inner)
        if self._inbound is not None and self._clamp:
            self._inbound.limits = self._segments

    def shrink(self) -> None:
        """The path carries less than it did: flows that stall for that reason hear of it at once, at both ends."""
        ours, theirs = self.bulk.shrink(self.mtu)
        if ours:
            self._tun.write_batch(ours)
        for answer in theirs:
            self.send_probe(answer)

    def remind(self) -> None:
        """Tell the far ends of flows that stall again; called now and then."""
        for answer in self.bulk.remind(self.mtu):
            self.send_probe(answer)

    # Child SAs

    def install(self, pair: SaPair) -> None:
        """Take a Child SA into use at once; the one it replaces only receives from now on (P9).

        Nothing that comes out of the tunnel may claim to be from `pair.own`, nor from a local selector that is a single
        address.
        """
        own = [(s.version, s.start) for s in pair.local if s.single]
        inbound = InboundSa(
            pair.spi_in,
            pair.suite,
            pair.keys_in,
            filter=PacketFilter(sources=pair.remote, destinations=pair.local, own=[*own, *pair.own], inbound=True),
            marks=self._marks,
        )
        outbound = OutboundSa(
            pair.spi_out,
            pair.suite,
            pair.keys_out,
            filter=PacketFilter(sources=pair.local, destinations=pair.remote),
            entropy=self._entropy,
        )
        self.table.install(inbound, outbound)
        self._send_waiting()
        if pair.replaces is not None:
            self.table.retire(pair.replaces)

    def remove(self, spi_in: int) -> None:
        """Drop a Child SA in both directions; nothing happens where there is none."""
        self.table.remove(spi_in)

    def expect(self, pair: SaPair | None) -> None:
        """Child SAs like this one can be made when a packet wants to leave, the last few of which wait; None: no more.

        What waits leaves through such a Child SA or not at all.
        """
        self.table.awaited = PacketFilter(sources=pair.local, destinations=pair.remote) if pair is not None else None
        self.table.unrouted += len(self.table.waiting)
        self.table.waiting.clear()

    def _send_waiting(self) -> None:
        packets: list[Packet] = list(self.table.waiting)
        self.table.waiting.clear()
        self.expect(None)
        if packets:
            self._send_packets(packets)

    def child_counters(self, spi_in: int) -> ChildCounters:
        """What a Child SA has carried. Raises KeyError where there is none."""
        inbound, outbound = (sa.counters for sa in self.table.pair(spi_in))
        return ChildCounters(
            packets_in=inbound.packets,
            packets_out=outbound.packets,
            bytes_in=inbound.bytes,
            bytes_out=outbound.bytes,
            replays=inbound.replays,
            auth_failures=inbound.auth_failures,
            selector_drops=inbound.selector_drops,
            malformed=inbound.malformed,
            dummies=inbound.dummies,
            congested=inbound.congested,
            exhausted=outbound.exhausted,
        )

    def drops(self) -> Drops:
        """Count what never reached a Child SA, or never left: packets or datagrams by reason."""
        counters = self.counters
        return Drops(
            unrouted=self.table.unrouted,
            no_path=counters.no_path,
            too_big=counters.too_big,
            not_sent=counters.not_sent,
            malformed=counters.malformed,
            unknown_spi=counters.unknown_spi,
            unknown_ike=counters.unknown_ike,
            receive_overflows=self._overflows,
            not_delivered=self._tun.counters.write_errors,
        )

    @property
    def _overflows(self) -> int:
        return self._overflowed + sum(transport.receive_queue()[1] for transport in self._transports)

    def deaf(self) -> bool:
        """Whether datagrams lie unread or got lost in full receive buffers, now or within the last `DEAFNESS` seconds.

        What is not looked at for longer is not seen.
        """
        overflows = self._overflows
        if overflows != self._overflows_seen or any(transport.receive_queue()[0] for transport in self._transports):
            self._overflows_seen = overflows
            self._deaf_until = self._now() + DEAFNESS
        return self._now() < self._deaf_until

    def offload(self) -> OffloadStatus:
        """What the fast path has to work with."""
        frames, runs = self._frames, self._sending_runs
        return OffloadStatus(
            fast=self.fast,
            codec=ACTIVE,
            tun_udp=frames is not None and frames.merges_udp,
            udp_segments=runs is not None and runs.segments,
            udp_merges=runs is not None and runs.merges,
        )

    def rekey_due(self) -> list[int]:
        """The inbound SPIs of Child SAs whose keys have done enough, whatever their age; not those already replaced."""
        return self.table.rekey_due()

    # Packets

    def drain_tun(self, again: bool = True) -> int:
        """Carry waiting packets into the tunnel; returns how many were read.

        Called `again` means that the last call left some. A packet that comes alone otherwise is carried by itself,
        without a look for the next one.
        """
        if self._outbound is not None:
            count, no_path = self._outbound.drain(self._batch, self.mtu, path=self._has_path, again=again)
            if no_path:
                self.counters.no_path += no_path
        else:
            packets = list(self._tun.read_batch(self._batch))
            count = len(packets)
            if (long := next((packet for packet in packets if len(packet) >= LONG), None)) is not None:
                self.bulk.sent(long, len(long))
            self._send_packets(packets)
        if not count:
            self._check_tun()
        elif self.table.waiting:
            self._on_waiting()
        return count

    def send_probe(self, packet: bytes) -> None:
        """Send a packet of our own through the tunnel; nobody counts it as traffic that wants an answer."""
        before = self.last_outbound
        self._send_packets([packet])
        self.last_outbound = before

    def _send_packets(self, packets: list[Packet]) -> None:
        """Send whole packets, one by one: the slow path."""
        if packets and max(map(len, packets)) > self.mtu:
            packets = self._refuse_too_big(packets)
        if not self._has_path or self.remote is None or self._sending is None:
            self.counters.no_path += self.table.hold(packets)
            return
        for outbound, accepted in self.table.route(packets):
            if self._clamp:
                clamp_batch(accepted, *self._segments)
            for tos, alike in groupby(accepted, traffic_class):
                payloads = outbound.seal(list(alike))
                sent = self._sending.send_batch(payloads, self.remote, tos)
                self.counters.not_sent += len(payloads) - sent
                if sent:
                    self.last_outbound = self.last_sent = self._now()

    def _send_run(self, run: Run) -> None:
        """Send sealed datagrams: the fast path."""
        count = run.count
        if count >= _LONG_RUN and self._to_pace:
            self._to_pace -= 1
            self._paced = True
            self._pace()
        remote, transport, payloads = self.remote, self._sending_runs, run.slots.view[: run.end]
        if remote is not None and transport is not None:
            sent = transport.send_run(payloads, run.stride, remote, run.tos)
        else:
            sent = self._send_singly([payloads[at : at + run.stride] for at in range(0, run.end, run.stride)], run.tos)
        if sent < count:
            self.counters.not_sent += count - sent
        if sent:
            self.last_outbound = self.last_sent = self._now()

    def _send_single(self, payload: Packet, tos: int) -> None:
        """Send a sealed datagram: the fast path for a packet that came alone."""
        remote, transport = self.remote, self._sending_runs
        if remote is not None and transport is not None:
            sent = transport.send_run(payload, len(payload), remote, tos)
        else:
            sent = self._send_singly([payload], tos)
        if sent:
            self.last_outbound = self.last_sent = self._now()
        else:
            self.counters.not_sent += 1

    def _send_singly(self, payloads: list[Packet], tos: int) -> int:
        """Send datagrams on a transport that knows no runs; returns how many went out."""
        if self.remote is None or self._sending is None:
            return 0
        return self._sending.send_batch(payloads, self.remote, tos)

    def drain_udp(self, transport: Transport, again: bool = True) -> int:
        """Carry waiting datagrams to the TUN device or to IKE; returns how many were read. As `drain_tun`."""
        runs = self._transports.get(transport)
        if runs is not None and self._inbound is not None:
            reads = self._inbound.receiver.drain(runs, self._limit() if self._ike_taken else self._batch, again=again)
            if self._tun.lost:
                self._check_tun()
            return reads
        datagrams = transport.receive_batch(self._limit())
        lookup = self.table.inbound.get
        current: InboundSa | None = None
        group: list[bytes | memoryview] = []
        mark = 0
        for data, source, tos in datagrams:
            if source[1] == IKE_PORT or len(data) < _ESP_HEADER or (sa := lookup(_spi(data)[0])) is None:
                self._handle_other(data, source, transport.local)
                continue
            if sa is not current or tos & 3 != mark:
                self._receive(current, group, mark)
                current, group, mark = sa, [], tos & 3
            group.append(data)
        self._receive(current, group, mark)
        return len(datagrams)

    def _limit(self) -> int:
        """How many datagrams to read in this call: fewer after one with many IKE messages, which cost more than ESP."""
        limit = self._batch if self._ike_taken <= IKE_BUDGET else min(self._batch, IKE_BUDGET)
        self._ike_taken = 0
        return limit

    def wants_delay(self) -> bool:
        """Whether the last datagrams were several, each by itself: a short delay then saves more than it costs.

        If runs were kept apart since this was last asked, that was delay enough.
        """
        paced, self._paced = self._paced, False
        return self._inbound is not None and self._inbound.receiver.unmerged and not paced

    def send_ike(
        self, data: bytes, remote: Address, transport: Transport | None = None, *, whole: bool = False
    ) -> bool:
        """Send an IKE message with the marker that the remote port asks for (RFC 3948); false where it could not be
        sent.

        `transport` is that of another path that is being tried; left out, it is the one that sends ESP. A message that
        must arrive `whole` is not fragmented, whatever is known about the path.
        """
        payload = data if remote[1] == IKE_PORT else NON_ESP_MARKER + data
        transport = transport or self._sending
        if whole and transport is not None:
            return transport.send_probe(payload, remote)
        return self._send(payload, remote, transport)

    def trust_path(self, mtu: int, *, proven: bool) -> None:
        """Tell the transport that sends what the path carries; see `net.transport.udp.UdpSocket.trust_path`."""
        if self._sending is not None:
            self._sending.trust_path(mtu, proven=proven)

    def send_keepalive(self) -> bool:
        """Keep a NAT's mapping alive; false where there is no path, or one to port 500, which knows no keepalives."""
        if self.remote is None or self.remote[1] == IKE_PORT:
            return False
        return self._send(KEEPALIVE, self.remote, self._sending)

    def _send(self, payload: bytes, remote: Address, transport: Transport | None) -> bool:
        if transport is None or not transport.send_batch((payload,), remote):
            return False
        if remote == self.remote and transport is self._sending:
            self.last_sent = self._now()
        return True

    def _receive(self, sa: InboundSa | None, datagrams: list[bytes | memoryview], ecn: int) -> None:
        if sa is None:
            return
        before = sa.authenticated
        packets = sa.open(datagrams, ecn)
        if sa.authenticated != before:
            self.last_inbound = self._now()
        if packets:
            if self._clamp:
                clamp_batch(packets, *self._segments)
            if (long := next((packet for packet in reversed(packets) if len(packet) >= LONG), None)) is not None:
                self.bulk.received(long, len(long))
            self._tun.write_batch(packets)
            self._check_tun()

    def _handle_other(self, data: bytes | memoryview, source: Address, local: Address) -> None:
        """All but ESP on an SPI of ours; the sender's port tells bare IKE from what needs a marker (RFC 3948)."""
        counters = self.counters
        if data == KEEPALIVE:
            counters.keepalives += 1
            return
        if source[1] != IKE_PORT:
            if data[:4] != NON_ESP_MARKER:
                if len(data) < _ESP_HEADER or _spi(data)[0] < _FIRST_SPI:
                    counters.malformed += 1
                else:
                    counters.unknown_spi += 1
                return
            data = data[4:]
        if len(data) < _IKE_HEADER:
            counters.malformed += 1
            return
        if self._on_ike(bytes(data), (source[0], source[1]), local):
            self._ike_taken += 1
        else:
            counters.unknown_ike += 1

    def _refuse_too_big(self, packets: Iterable[Packet]) -> list[Packet]:
        """Answer packets above the inner MTU; those that may be fragmented pass, in fragmented outer packets."""
        passed: list[Packet] = []
        answers: list[Packet] = []
        for packet in packets:
            if len(packet) <= self.mtu:
                passed.append(packet)
                continue
            longest = self._longest.get(packet[0] >> 4, 0)
            if len(packet) <= longest:
                passed.append(packet)
            elif (answer := too_big(packet, longest)) is not None:
                self.counters.too_big += 1
                answers.append(answer)
            elif packet[0] >> 4 == 4 and not packet[6] & 0x40:
                passed.append(packet)
            else:
                self.counters.too_big += 1
        if answers:
            self._tun.write_batch(answers)
        return passed

    def _check_tun(self) -> None:
        if self._tun.lost and self._on_tun_lost is not None:
            report, self._on_tun_lost = self._on_tun_lost, None
            report()
            if not self._tun.lost:  # it was made again
                self._on_tun_lost = report


def traffic_class(packet: Packet) -> int:
    """The TOS or traffic class octet, which the outer header gets too (RFC 2983 section 3, RFC 6040 section 4.1)."""
    return packet[1] if packet[0] < 0x60 else (packet[0] & 15) << 4 | packet[1] >> 4
