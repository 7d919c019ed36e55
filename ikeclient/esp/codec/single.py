"""A packet that comes alone, opened by the compiled module with one call: from the replay window to the selectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ikeclient.esp.codec.sums import Buffer
from ikeclient.esp.sa.selectors import PacketFilter

if TYPE_CHECKING:
    from ikeclient.esp.codec._offload import RunCipher, Window

# What became of a packet. UNJUDGED: it is genuine and new, and its plaintext, with the trailer, needs a longer look.
ACCEPTED, UNJUDGED, MISSHAPEN, REPLAYED, FORGED = range(5)


OpenSingle = Callable[[Buffer, int, int, bool], tuple[int, bytes]]


def single_opener(
    cipher: RunCipher, packets: PacketFilter, alignment: int, size: int, *, esn: bool
) -> tuple[Window, OpenSingle]:
    """The replay window of an SA, of `size` numbers, and what opens its single packets.

    `open(buffer, at, length, judge)` returns what became of the packet there, and the packet or its plaintext. With
    `judge` it accepts plain TCP, UDP and pings if nothing but addresses decides; all other judgement is left to the
    caller.
    """
    from ikeclient.esp.codec._offload import Edges, Window, open_single

    window = Window(size, extended=esn)
    edges = Edges(*packets.edges) if packets.by_address else None
    return window, partial(open_single, cipher, window, edges, alignment)
