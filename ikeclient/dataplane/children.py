"""The Child SAs in use, as the pump has them: made from what was negotiated, and counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from ikeclient.control.status import ChildCounters
from ikeclient.esp.packet.ecn import PathMarks
from ikeclient.esp.sa.pair import InboundSa, OutboundSa, SaPair
from ikeclient.esp.sa.selectors import PacketFilter
from ikeclient.esp.sa.table import SaTable

MARKS_IGNORED = (
    "every packet from the gateway arrives with the mark of congestion (ECN CE), also those that cannot be marked: "
    "a device on the path is broken, and the marks are ignored"
)


class Children:
    """The Child SAs of one tunnel in `table`; `marks` are those of its path.

    `entropy` gives random bytes for the IVs of AES-CBC, `warn` is called with a sentence for people.
    """

    __slots__ = ("_entropy", "_removed", "_warn", "marks", "table")

    def __init__(self, entropy: Callable[[int], bytes], warn: Callable[[str], None]) -> None:
        self._entropy = entropy
        self._warn: Callable[[str], None] | None = warn
        self.table = SaTable()
        self.marks = PathMarks(self._ignoring_marks)
        self._removed = ChildCounters()

    def _ignoring_marks(self) -> None:
        warn, self._warn = self._warn, None
        if warn is not None:
            warn(MARKS_IGNORED)

    def install(self, pair: SaPair) -> None:
        """Take a Child SA into use in both directions; after a rekey by the peer, see `SaTable.install`.

        Nothing that comes out of the tunnel may claim to be from `pair.own`, nor from a local selector that is a single
        address.
        """
        own = [(s.version, s.start) for s in pair.local if s.single]
        inbound = InboundSa(
            pair.spi_in,
            pair.suite,
            pair.keys_in,
            filter=PacketFilter(sources=pair.remote, destinations=pair.local, own=[*own, *pair.own], inbound=True),
            marks=self.marks,
        )
        outbound = OutboundSa(
            pair.spi_out,
            pair.suite,
            pair.keys_out,
            filter=PacketFilter(sources=pair.local, destinations=pair.remote),
            entropy=self._entropy,
        )
        self.remove(inbound.spi)
        self.table.install(inbound, outbound, pair.replaces if pair.by_peer else None)

    def remove(self, spi_in: int) -> None:
        """Drop a Child SA in both directions; nothing happens where there is none."""
        if spi_in in self.table.inbound:
            self._removed = _sum(self._removed, self.counters(spi_in))
        self.table.remove(spi_in)

    def expect(self, pair: SaPair | None) -> None:
        """Let packets wait for a Child SA like this one; None: no more, and those that wait are lost."""
        awaited = PacketFilter(sources=pair.local, destinations=pair.remote) if pair is not None else None
        self.table.expect(awaited)

    def counters(self, spi_in: int) -> ChildCounters:
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

    def totals(self) -> ChildCounters:
        """What all Child SAs have carried, those included that were removed."""
        total = self._removed
        for spi_in in self.table.inbound:
            total = _sum(total, self.counters(spi_in))
        return total


def _sum(left: ChildCounters, right: ChildCounters) -> ChildCounters:
    return ChildCounters(**{each.name: getattr(left, each.name) + getattr(right, each.name) for each in fields(left)})
