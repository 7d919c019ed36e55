"""Where IKE's outcome becomes the data plane's input: `ike` and `esp` never meet."""

from __future__ import annotations

from collections.abc import Iterable

from ikeclient.esp.sa.pair import SaPair
from ikeclient.esp.sa.selectors import Selector
from ikeclient.ike.events import ChildEstablished, IPAddress
from ikeclient.wire.selector import TrafficSelector


def sa_pair(child: ChildEstablished, addresses: Iterable[IPAddress] = ()) -> SaPair:
    """Make the value that the pump installs; `addresses` are those of the interface."""
    return SaPair(
        spi_in=child.spi_in,
        spi_out=child.spi_out,
        suite=child.suite,
        keys_in=child.keys.inbound,
        keys_out=child.keys.outbound,
        local=_selectors(child.local_selectors),
        remote=_selectors(child.remote_selectors),
        own=tuple((address.version, int(address)) for address in addresses),
        replaces=child.replaces,
        by_peer=child.by_peer,
    )


def _selectors(selectors: Iterable[TrafficSelector]) -> tuple[Selector, ...]:
    return tuple(
        Selector(
            version=s.version,
            start=int(s.start),
            end=int(s.end),
            protocol=s.protocol,
            start_port=s.start_port,
            end_port=s.end_port,
        )
        for s in selectors
    )
