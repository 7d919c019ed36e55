"""The Child SAs in use: by SPI for what arrives, by selectors for what leaves (RFC 4301 sections 4.4.1 and 4.4.2).

Around a rekey two SAs carry the same traffic. The newest outbound SA that accepts a packet sends it; every inbound SA
is accepted until it is removed, so that packets still on their way are not lost. The end that answered a rekey cannot
know when the other one is ready for the new SA, so it goes on sending on the old one (RFC 7296 section 2.8).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ikeclient.esp.codec import run_cipher
from ikeclient.esp.codec.run_cipher import BY_CRYPTOGRAPHY
from ikeclient.esp.sa.pair import InboundSa, OutboundSa, Packet
from ikeclient.esp.sa.selectors import PacketFilter

MANY = 2  # SAs up to which asking each costs less than remembering
MOST_KNOWN = 4096
MOST_WAITING = 16


class SaTable:
    """`inbound` maps SPIs to SAs and is for reading only. `unrouted` counts packets that no outbound SA accepts.

    `deferred` has for each SA that does not send yet the inbound SPI of the one that does in its place.

    `newest` is the SA that is asked first whether a packet is its own, `newest_inbound` the one that most likely
    receives; None if there is none. While there is no SA but one can be made, `awaited` is what it will accept, and
    `waiting` the last such packets.
    """

    __slots__ = (
        "_known",
        "_outbound",
        "_pairs",
        "awaited",
        "deferred",
        "inbound",
        "newest",
        "newest_inbound",
        "unrouted",
        "waiting",
    )

    def __init__(self) -> None:
        self._known: dict[bytes, OutboundSa] = {}
        self.inbound: dict[int, InboundSa] = {}
        self.newest: OutboundSa | None = None
        self.newest_inbound: InboundSa | None = None
        self.unrouted = 0
        self.awaited: PacketFilter | None = None
        self.waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._pairs: dict[int, OutboundSa] = {}
        self._outbound: list[OutboundSa] = []  # the newest first
        self.deferred: dict[int, int] = {}

    def install(self, inbound: InboundSa, outbound: OutboundSa, after: int | None = None) -> None:
        """Take a Child SA into use, in both directions at once.

        If there is one with the inbound SPI `after`, that one goes on sending until this one is confirmed or replaced,
        or that one is to send nothing more.
        """
        self.remove(inbound.spi)
        self.inbound[inbound.spi] = inbound
        self._pairs[inbound.spi] = outbound
        if after is not None and after in self._pairs:
            self.deferred[inbound.spi] = after
        else:
            self._outbound.insert(0, outbound)
        self._changed()

    def confirm(self, spi_in: int) -> None:
        """Send on a deferred Child SA from now on, since the peer uses it; nothing happens where there is none."""
        after = self.deferred.pop(spi_in, None)
        if after is not None:
            self._outbound.insert(0, self._pairs[spi_in])
            self.retire(after)

    def retire(self, spi_in: int) -> None:
        """Send nothing more on this Child SA, nor on one that it was to take over from, but go on receiving.

        One that was to take over from it does.
        """
        self.confirm(spi_in)
        for later in [spi for spi, after in self.deferred.items() if after == spi_in]:
            self.confirm(later)
        outbound = self._pairs.get(spi_in)
        self._outbound = [sa for sa in self._outbound if sa is not outbound]
        self._changed()

    def remove(self, spi_in: int) -> None:
        """Forget this Child SA; nothing happens where there is none."""
        self.deferred.pop(spi_in, None)
        self.retire(spi_in)
        self.inbound.pop(spi_in, None)
        self._pairs.pop(spi_in, None)
        self._changed()

    def _changed(self) -> None:
        self._known.clear()
        self.newest = self._outbound[0] if self._outbound else None
        self.newest_inbound = next(reversed(self.inbound.values()), None)

    def pair(self, spi_in: int) -> tuple[InboundSa, OutboundSa]:
        """Both directions of a Child SA. Raises KeyError where there is none."""
        return self.inbound[spi_in], self._pairs[spi_in]

    def rekey_due(self) -> list[int]:
        """The inbound SPIs of the Child SAs whose keys have done enough (P8), but for those already replaced."""
        sending = [spi for spi, outbound in self._pairs.items() if outbound in self._outbound and outbound.rekey_due]
        return [spi for spi in sending if spi not in self.deferred.values()]

    def cipher(self) -> str:
        """What seals the packets of the newest SA, or would seal those of the first."""
        return self._outbound[0].cipher if self._outbound else run_cipher.version() or BY_CRYPTOGRAPHY

    def choose(self, packet: Packet, length: int) -> OutboundSa | None:
        """The SA that sends the packet in the first `length` bytes, or None where no SA accepts it.

        With many SAs the answer is remembered for each pair of addresses, where nothing but addresses decides.
        """
        many = len(self._outbound) > MANY
        if many and (known := self._recall(packet, length)) is not None:
            return known
        for outbound in self._outbound:
            if outbound.filter.measure(packet, length) == length > 0:
                if many:
                    self._remember(packet, outbound)
                return outbound
        return None

    def _recall(self, packet: Packet, length: int) -> OutboundSa | None:
        known = self._known.get(_addresses(packet))
        return known if known is not None and known.filter.measure(packet, length) == length else None

    def _remember(self, packet: Packet, found: OutboundSa) -> None:
        if all(outbound.filter.by_address for outbound in self._outbound):
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[_addresses(packet)] = found

    def route(self, packets: Sequence[Packet]) -> list[tuple[OutboundSa, list[Packet]]]:
        """Which SA sends which packets, in order within each SA; what no SA accepts is counted and left out."""
        routed: list[tuple[OutboundSa, list[Packet]]] = []
        for outbound in self._outbound:
            measure = outbound.filter.measure
            accepted: list[Packet] = []
            rest: list[Packet] = []
            for packet in packets:
                length = len(packet)
                (accepted if measure(packet, length) == length > 0 else rest).append(packet)
            if accepted:
                routed.append((outbound, accepted))
            packets = rest
            if not packets:
                break
        self.unrouted += self.hold(packets)
        return routed

    def expect(self, awaited: PacketFilter | None) -> None:
        """Let packets wait that an SA to come will accept, or no more; those that wait already are lost."""
        self.awaited = awaited
        self.unrouted += len(self.waiting)
        self.waiting.clear()

    def take_waiting(self) -> list[Packet]:
        """Take what waits, and let nothing wait any more."""
        packets: list[Packet] = list(self.waiting)
        self.waiting.clear()
        self.awaited = None
        return packets

    def miss(self, count: int) -> None:
        """Count packets that no outbound SA accepts."""
        self.unrouted += count

    def hold(self, packets: Sequence[Packet]) -> int:
        """Let packets wait that an SA to come will accept; returns how many are lost for that."""
        if self.awaited is None:
            return len(packets)
        measure, before = self.awaited.measure, len(self.waiting)
        self.waiting.extend(bytes(packet) for packet in packets if measure(packet, len(packet)) == len(packet) > 0)
        return len(packets) - (len(self.waiting) - before)


def _addresses(packet: Packet) -> bytes:
    return bytes(packet[12:20] if packet[0] < 0x60 else packet[8:40])
