"""Prepared slices of a buffer that is cut into slots of one stride.

Making a slice costs as much as encrypting a packet, so the slices of a stride are made once and kept. Traffic has few
strides: full segments, and acknowledgements. What is kept is bounded all the same.
"""

from __future__ import annotations

from dataclasses import field

from ikeclient.esp.codec.choice import MAXIMUM_SLOTS
from ikeclient.lazy_dataclass import dataclass

NONCE = 12
ASSOCIATED = 12
_MOST_KEPT = 8192


@dataclass(slots=True, eq=False)
class Slices:
    """The slices of one layout, one per slot: ESP headers, and plaintexts without and with the room for the ICV."""

    heads: list[memoryview] = field(default_factory=list)
    texts: list[memoryview] = field(default_factory=list)
    sealed: list[memoryview] = field(default_factory=list)


class Slots:
    """A buffer, its slices by layout, and room for nonces and associated data of as many packets as a run has."""

    __slots__ = ("_kept", "_layouts", "_nonces", "associated", "associated_slices", "buffer", "nonces", "view")

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.view = memoryview(self.buffer)
        self.nonces = bytearray(NONCE * MAXIMUM_SLOTS)
        self.associated = bytearray(ASSOCIATED * MAXIMUM_SLOTS)
        associated = memoryview(self.associated)
        self.associated_slices = [
            associated[at : at + ASSOCIATED] for at in range(0, ASSOCIATED * MAXIMUM_SLOTS, ASSOCIATED)
        ]
        self._nonces: dict[int, list[memoryview]] = {}
        self._layouts: dict[tuple[int, int, int], Slices] = {}
        self._kept = 0

    def slices(self, stride: int, gap: int, icv: int, count: int) -> Slices:
        """Slices of at least `count` slots. Lengths in bytes: `gap` lies before the plaintext, `icv` behind it."""
        layout = (stride, gap, icv)
        found = self._layouts.get(layout)
        if found is None:
            if self._kept > _MOST_KEPT:
                self._layouts.clear()
                self._kept = 0
            found = self._layouts[layout] = Slices()
        have = len(found.heads)
        if have < count:
            view = self.view
            for at in range(have * stride, count * stride, stride):
                found.heads.append(view[at : at + 8])
                found.texts.append(view[at + gap : at + stride - icv])
                found.sealed.append(view[at + gap : at + stride])
            self._kept += count - have
        return found

    def nonce_slices(self, salted: int) -> list[memoryview]:
        """Where the nonces are, for a salt of `salted` bytes and an IV of 8."""
        found = self._nonces.get(salted)
        if found is None:
            width, view = salted + 8, memoryview(self.nonces)
            found = self._nonces[salted] = [view[at : at + width] for at in range(0, width * MAXIMUM_SLOTS, width)]
        return found
