"""A packet that comes alone, opened by the compiled module with one call: from the replay window to the selectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikeclient.esp.sa.selectors import PacketFilter

if TYPE_CHECKING:
    from ikeclient.esp.codec._offload import RunCipher
    from ikeclient.esp.codec.sums import Buffer

# What became of a packet. One that is UNJUDGED is genuine and new; its plaintext, with the trailer, needs a longer look.
ACCEPTED, UNJUDGED, MISSHAPEN, REPLAYED, FORGED = range(5)


class SingleOpener:
    """Opens single packets of one SA, whose replay window is `window`.

    It accepts plain TCP and UDP over IPv4 if nothing but addresses decides, and leaves all other judgement to the
    caller.
    """

    __slots__ = ("_alignment", "_cipher", "_edges", "_open", "window")

    def __init__(self, cipher: RunCipher, packets: PacketFilter, alignment: int, window: int, *, esn: bool) -> None:
        from ikeclient.esp.codec._offload import Edges, Window, open_single

        self._open = open_single
        self._cipher = cipher
        self._alignment = alignment
        self._edges = Edges(*packets.edges4) if packets.by_address else None
        self.window = Window(window, extended=esn)

    def open(self, buffer: Buffer, at: int, length: int, *, judge: bool) -> tuple[int, bytes]:
        """Open the packet there: what became of it, and the packet or plaintext; nothing is accepted unless `judge`."""
        edges = self._edges if judge else None
        return self._open(self._cipher, self.window, edges, buffer, at, length, self._alignment)
