"""The peer's receive window (RFC 9293 section 3.10.7.4, "SND.WND", "SND.WL1", "SND.WL2")."""

from __future__ import annotations


class PeerWindow:
    """`size` in bytes, and the `largest` that it ever was."""

    __slots__ = ("_acknowledgment", "_scale", "_sequence", "largest", "size")

    def __init__(self) -> None:
        self._scale = self.size = self.largest = self._sequence = self._acknowledgment = 0

    def open(self, field: int, scale: int, sequence: int, acknowledgment: int) -> None:
        """Begin with what the peer's SYN says."""
        self._scale = scale
        self.size = self.largest = field  # that of a SYN is not scaled (RFC 7323 section 2.2)
        self._sequence, self._acknowledgment = sequence, acknowledgment

    def update(self, field: int, sequence: int, acknowledgment: int) -> bool:
        """Take the field of a segment unless it is older than the latest; whether the window has changed."""
        if sequence < self._sequence or (sequence == self._sequence and acknowledgment < self._acknowledgment):
            return False
        self._sequence, self._acknowledgment = sequence, acknowledgment
        size = field << self._scale
        if size == self.size:
            return False
        self.size = size
        if size > self.largest:
            self.largest = size
        return True
