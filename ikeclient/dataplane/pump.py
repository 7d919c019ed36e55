"""The pump: packets from the TUN device into ESP datagrams, datagrams into packets for the TUN device and IKE messages.

Synchronous and clockless, so that it runs under any event loop: call `drain_tun` and `drain_udp` when a descriptor is
readable. Each call does a bounded amount of work, so that both directions and the timers of IKE get their turn; what
is left makes the descriptor readable again.

Nothing leaves in the clear: a packet that no Child SA accepts, or that comes while there is no path, is counted and
dropped.
"""

from __future__ import annotations

from collections.abc import Callable

from ikeclient.control.status import ChildCounters, Drops, OffloadStatus
from ikeclient.dataplane.bulk import Bulk
from ikeclient.dataplane.children import Children
from ikeclient.dataplane.fast_path import FastPath, FastReceive, FastSend
from ikeclient.dataplane.interfaces import (
    Address,
    Device,
    PumpCallbacks,
    PumpCounters,
    Relayed,
    RunTransport,
    Transport,
)
from ikeclient.dataplane.limits import Limits
from ikeclient.dataplane.not_esp import NotEsp
from ikeclient.dataplane.reception import Reception
from ikeclient.dataplane.sender import Sender
from ikeclient.dataplane.slow_path import SlowPath, SlowReceive, SlowSend
from ikeclient.esp.codec.single import relay
from ikeclient.esp.sa.pair import InboundSa, SaPair
from ikeclient.esp.sa.table import SaTable

__all__ = ["Address", "Device", "Pump", "PumpCallbacks", "PumpCounters", "Transport"]


class Pump:
    """Join one device, the transports of one connection and its Child SAs.

    - `now`: the clock of `last_inbound` and the others, in seconds.
    - `entropy`: random bytes for the IVs of AES-CBC.
    - `pace`: called before each long run while packets get lost on their way; see `Sender`.
    - `clamp_mss`: lower the MSS of TCP to what fits into the inner MTU.
    - `batch`: the most packets or datagrams of one call.
    - `offload`: use the fast path, if device and transport can; the attribute `fast` tells.
    """

    __slots__ = (
        "_batch",
        "_children",
        "_device",
        "_fast",
        "_limits",
        "_not_esp",
        "_offload",
        "_on_device_lost",
        "_on_waiting",
        "_reception",
        "_sender",
        "_slow",
        "bulk",
        "counters",
    )

    def __init__(
        self,
        device: Device,
        callbacks: PumpCallbacks,
        now: Callable[[], float],
        *,
        entropy: Callable[[int], bytes],
        pace: Callable[[], None] = lambda: None,
        clamp_mss: bool = True,
        batch: int = 256,
        offload: bool = True,
    ) -> None:
        self.bulk = Bulk(now)
        self.counters = PumpCounters()
        self._device = device
        self._on_waiting = callbacks.on_waiting
        self._on_device_lost: Callable[[], None] | None = callbacks.on_device_lost
        self._batch = batch
        self._offload = offload
        self._fast: FastPath | None = None
        self._limits = Limits(clamp_mss=clamp_mss)
        self._children = Children(entropy, callbacks.warn)
        self._sender = Sender(now, pace, self.counters)
        self._reception = Reception(now)
        self._not_esp = NotEsp(callbacks.on_ike, self.counters)
        self._slow = SlowPath(
            SlowSend(self.table, device, self._sender, self._limits, self.counters),
            SlowReceive(self.table, device, self._heard, self._not_esp.take, self._limits, self.bulk),
        )

    # The path

    def attach(self, transport: Transport, *, sending: bool = True) -> None:
        """Receive on this transport, and send on it from now on unless `sending` is false.

        Those attached before go on receiving.
        """
        transports = self._reception.transports
        if transport not in transports:
            transports[transport] = self._accelerate(transport)
        if sending:
            self._send_on(transport)

    def _send_on(self, transport: Transport | None) -> None:
        runs = self._reception.transports[transport] if transport is not None else None
        self._sender.use(transport, runs)

    def _accelerate(self, transport: Transport) -> RunTransport | None:
        """The transport for the fast path; None if it or the device has to take the slow one."""
        runs = transport.runs() if self._offload else None
        if runs is None:
            return None
        if self._fast is None:
            frames = self._device.frames()
            if frames is None:
                self._offload = False
                return None
            table, bulk, limits = self.table, self.bulk, self._limits
            send = FastSend(table, frames, self._sender, self._slow.send.send, limits, self.counters, bulk)
            heard, missed = self._heard, self._sender.pace
            self._fast = FastPath(
                frames, send, FastReceive(table, frames, heard, missed, self._not_esp.take, limits, bulk)
            )
        runs.enable_merging()
        return runs

    def detach(self, transport: Transport) -> None:
        """Forget a transport; the one attached last among the others sends, if this one did."""
        self._reception.detach(transport)
        if self._sender.transport is transport:
            self._send_on(self._reception.latest)

    @property
    def remote(self) -> Address | None:
        """The end point that ESP is sent to."""
        return self._sender.remote

    def set_remote(self, remote: Address | None) -> None:
        """Send ESP to this end point; None stops sending."""
        if remote is not None and remote != self._sender.remote:
            self._children.marks.reset()
        self._sender.set_remote(remote)

    def trust_path(self, mtu: int, *, proven: bool) -> None:
        """Tell the transport that sends what the path carries; see `net.transport.udp.UdpSocket.trust_path`."""
        if self._sender.transport is not None:
            self._sender.transport.trust_path(mtu, proven=proven)

    @property
    def mtu(self) -> int:
        """The longest inner packet in bytes."""
        return self._limits.mtu

    def set_mtu(self, inner: int) -> None:
        """The longest inner packet in bytes; IPv6 packets of up to 1280 bytes pass in any case (RFC 8200 section 5)."""
        self._limits.set_mtu(inner)

    def shrink(self) -> None:
        """The path carries less than it did: flows that stall for that reason hear of it at once, at both ends."""
        ours, theirs = self.bulk.shrink(self.mtu)
        if ours:
            self._device.write_batch(ours)
        for answer in theirs:
            self.send_probe(answer)

    def remind(self) -> None:
        """Tell the far ends of flows that stall again; called now and then."""
        for answer in self.bulk.remind(self.mtu):
            self.send_probe(answer)

    # Child SAs

    @property
    def table(self) -> SaTable:
        """The Child SAs in use."""
        return self._children.table

    def install(self, pair: SaPair) -> None:
        """Take a Child SA into use at once; the one it replaces only receives from now on (P9).

        If the rekey was by the peer, that one goes on sending until something genuine comes on the new one.
        """
        self._children.install(pair)
        if packets := self.table.take_waiting():
            self._slow.send.send(packets)
        if pair.replaces is not None and not pair.by_peer:
            self.table.retire(pair.replaces)

    def _heard(self, sa: InboundSa) -> None:
        self._reception.heard()
        if self._children.table.deferred:
            self._children.table.confirm(sa.spi)

    def remove(self, spi_in: int) -> None:
        """Drop a Child SA in both directions; nothing happens where there is none."""
        self._children.remove(spi_in)

    def expect(self, pair: SaPair | None) -> None:
        """Child SAs like this one can be made when a packet wants to leave, the last few of which wait; None: no more.

        What waits leaves through such a Child SA or not at all.
        """
        self._children.expect(pair)

    def rekey_due(self) -> list[int]:
        """The inbound SPIs of Child SAs whose keys have done enough, whatever their age; not those already replaced."""
        return self.table.rekey_due()

    # What is known

    @property
    def fast(self) -> bool:
        """Whether the fast path is in use."""
        return self._fast is not None

    @property
    def last_inbound(self) -> float | None:
        """When genuine ESP last came; None before the first time."""
        return self._reception.last_inbound

    @property
    def last_outbound(self) -> float | None:
        """When ESP was last sent; None before the first time."""
        return self._sender.last_outbound

    @property
    def last_sent(self) -> float | None:
        """When anything was last sent to the remote end; None before the first time."""
        return self._sender.last_sent

    def child_counters(self, spi_in: int) -> ChildCounters:
        """What a Child SA has carried. Raises KeyError where there is none."""
        return self._children.counters(spi_in)

    def totals(self) -> ChildCounters:
        """What all Child SAs have carried, those included that are no more."""
        return self._children.totals()

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
            receive_overflows=self._reception.overflows,
            not_delivered=self._device.counters.write_errors,
        )

    def deaf(self) -> bool:
        """Whether datagrams lie unread or got lost; see `Reception.deaf`."""
        return self._reception.deaf()

    def offload(self) -> OffloadStatus:
        """What the fast path has to work with."""
        fast = self._fast
        return self._sender.offload(fast=fast is not None, tun_udp=fast is not None and fast.device.merges_udp)

    def cipher(self) -> str:
        """What encrypts packets; see `TunnelStatus`."""
        return self.table.cipher()

    # Packets

    def drain_tun(self, again: bool = True) -> int:
        """Carry waiting packets into the tunnel; returns how many were read.

        Called `again` means that the last call left some. A packet that comes alone otherwise is carried by itself,
        without a look for the next one.
        """
        if (fast := self._fast) is not None:
            count = fast.send.drain(self._batch, again=again)
        else:
            count = self._slow.send.drain(self._batch, self.bulk)
        self._after_send(count)
        return count

    def _after_send(self, count: int) -> None:
        if not count:
            self._check_device()
        elif self._children.table.waiting:
            self._on_waiting()

    def drain_udp(self, transport: Transport, again: bool = True) -> int:
        """Carry waiting datagrams to the TUN device or to IKE; returns how many were read. As `drain_tun`."""
        limit = self._not_esp.limit(self._batch) if self._not_esp.taken else self._batch
        runs = self._reception.transports.get(transport)
        if runs is not None and (fast := self._fast) is not None:
            reads = fast.receive.drain(runs, limit, again=again)
        else:
            reads = self._slow.receive.drain(transport, limit)
        if self._device.lost:
            self._check_device()
        return reads

    def relay(self, poll: int, timeout: int) -> Relayed | None:
        """Wait for `poll`, and carry packets that come alone meanwhile; see `event_loop.PacketSelector.watch`."""
        fast, runs = self._fast, self._sender.runs
        prepared = fast.prepare(runs, self._batch) if fast is not None and runs is not None else []
        if not prepared:
            return None
        ready, results, later = relay(poll, timeout, {each.descriptor: each.call for each in prepared})
        for each in prepared:
            each.finish(results.get(each.descriptor))
        if results:
            self._after_send(0 if self._device.lost else len(results))
        return ready, () if later else results.keys()

    def wants_delay(self) -> bool:
        """Whether the last datagrams were several, each by itself: a short delay then saves more than it costs.

        If runs were kept apart since this was last asked, that was delay enough.
        """
        paced = self._sender.take_paced()
        return self._fast is not None and self._fast.receive.receiver.unmerged and not paced

    def send_probe(self, packet: bytes) -> None:
        """Send a packet of our own through the tunnel; it does not count as traffic that wants an answer."""
        self._slow.send.send([packet], probe=True)

    def send_ike(
        self, data: bytes, remote: Address, transport: Transport | None = None, *, whole: bool = False
    ) -> bool:
        """Send an IKE message with the marker that the remote port asks for (RFC 3948); false if it cannot be sent.

        `transport` is that of another path that is being tried; left out, it is the one that sends ESP. A message that
        must arrive `whole` is not fragmented, whatever is known about the path.
        """
        return self._sender.send_ike(data, remote, transport, whole=whole)

    def send_keepalive(self) -> bool:
        """Keep a NAT's mapping alive; false where there is no path, or one to port 500, which knows no keepalives."""
        return self._sender.send_keepalive()

    def _check_device(self) -> None:
        if self._device.lost and self._on_device_lost is not None:
            report, self._on_device_lost = self._on_device_lost, None
            report()
            if not self._device.lost:  # it was made again
                self._on_device_lost = report
