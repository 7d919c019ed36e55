"""Datagrams that are not ESP on an SPI of ours: IKE messages, keepalives, and what is neither."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from ikeclient.dataplane.interfaces import IKE_PORT, Address, PumpCounters
from ikeclient.dataplane.sender import KEEPALIVE, NON_ESP_MARKER

IKE_BUDGET = 32  # IKE messages in one call, once a call has had more: timers and the other direction wait for it

ESP_HEADER = 8
_IKE_HEADER = 28
_FIRST_SPI = 256  # smaller ones are reserved (RFC 4303 section 2.1)
_spi = Struct(">I").unpack_from


class NotEsp:
    """Hands IKE messages to `on_ike`, which returns whether they were due, and counts the rest.

    `taken` is how many were due since `limit` was last asked.
    """

    __slots__ = ("_counters", "_on_ike", "taken")

    def __init__(self, on_ike: Callable[[bytes, Address, Address], bool], counters: PumpCounters) -> None:
        self._on_ike = on_ike
        self._counters = counters
        self.taken = 0

    def limit(self, batch: int) -> int:
        """How many datagrams to read in this call: fewer after one with many IKE messages, which cost more than ESP."""
        taken, self.taken = self.taken, 0
        return batch if taken <= IKE_BUDGET else min(batch, IKE_BUDGET)

    def take(self, data: bytes | memoryview, source: Address, local: Address) -> None:
        """Take a datagram; the sender's port tells bare IKE from what needs a marker (RFC 3948)."""
        counters = self._counters
        if data == KEEPALIVE:
            counters.keepalives += 1
            return
        if source[1] != IKE_PORT:
            if data[:4] != NON_ESP_MARKER:
                if len(data) < ESP_HEADER or _spi(data)[0] < _FIRST_SPI:
                    counters.malformed += 1
                else:
                    counters.unknown_spi += 1
                return
            data = data[4:]
        if len(data) < _IKE_HEADER:
            counters.malformed += 1
            return
        if self._on_ike(bytes(data), (source[0], source[1]), local):
            self.taken += 1
        else:
            counters.unknown_ike += 1
