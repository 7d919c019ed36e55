"""The two directions of a Child SA: packets in, UDP payloads out, and back (RFC 4303, RFC 3948; tunnel mode).

Both work on batches. In a batch nothing is raised, logged or allocated for its own sake: a bad packet costs itself
and one count. How a batch is turned over is private to this file, so that a compiled segmenter with prepared buffers
can take the place of the loops without anybody noticing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct

from ikeclient.crypto.esp_ciphers import esp_cipher, esp_layout
from ikeclient.crypto.keymat import DirectionKeys
from ikeclient.crypto.transforms import EspSuite
from ikeclient.esp.replay import ReplayWindow
from ikeclient.esp.selectors import MALFORMED, OUTSIDE, PacketFilter

Packet = bytes | bytearray | memoryview

NO_NEXT_HEADER = 59  # a dummy packet (RFC 4303 section 2.6)
_NEXT_HEADER = {4: 4, 6: 41}  # IP version -> IP protocol number of a tunnelled packet

# A key is replaced after three quarters of its sequence numbers, or after 2^36 AES blocks: there the advantage of
# telling AES-GCM or AES-CBC from randomness is still below 2^-56, and no tunnel gets there within its usual lifetime.
_LAST_SEQUENCE = {False: (1 << 32) - 1, True: (1 << 64) - 1}
BYTE_LIMIT = 1 << 40

_PADS = tuple(bytes(range(1, n + 1)) for n in range(256))
_sequence_low = Struct(">I").unpack_from


@dataclass(slots=True, kw_only=True)
class Counters:
    """What one direction of an SA has seen. `bytes` are those of inner packets, `packets` those passed on."""

    packets: int = 0
    bytes: int = 0
    replays: int = 0
    auth_failures: int = 0
    selector_drops: int = 0
    malformed: int = 0
    dummies: int = 0
    exhausted: int = 0  # packets not sent because the sequence numbers are used up


class OutboundSa:
    """Seals inner packets. `filter` says which ones belong here; it is consulted by whoever chooses the SA.

    `entropy` gives random bytes for the IVs of AES-CBC. `last_sequence` and `byte_limit` are for tests.
    """

    __slots__ = ("_last", "_mask", "_seal", "_soft", "_trailers", "byte_limit", "counters", "filter", "sequence", "spi")

    def __init__(
        self,
        spi: int,
        suite: EspSuite,
        keys: DirectionKeys,
        *,
        filter: PacketFilter,  # noqa: A002  the word for it
        entropy: Callable[[int], bytes],
        last_sequence: int | None = None,
        byte_limit: int = BYTE_LIMIT,
    ) -> None:
        self.spi = spi
        self.filter = filter
        self.sequence = 0  # the last one used
        self.counters = Counters()
        self.byte_limit = byte_limit
        self._last = last_sequence if last_sequence is not None else _LAST_SEQUENCE[suite.esn]
        self._soft = self._last // 4 * 3
        self._seal = esp_cipher(suite, keys, spi, entropy).seal
        alignment = esp_layout(suite).alignment
        self._mask = alignment - 1
        pads = [-(length + 2) % alignment for length in range(alignment)]
        self._trailers = {v: [_PADS[n] + bytes((n, header)) for n in pads] for v, header in _NEXT_HEADER.items()}

    @property
    def rekey_due(self) -> bool:
        """Whether this key has done enough (P8)."""
        return self.sequence >= self._soft or self.counters.bytes >= self.byte_limit

    @property
    def exhausted(self) -> bool:
        """Whether no packet can be sent any more: a sequence number is never used twice (RFC 4303 section 3.3.3)."""
        return self.sequence >= self._last

    def seal(self, packets: Sequence[Packet]) -> list[bytes]:
        """One UDP payload for each packet, in order; fewer once the sequence numbers are used up.

        The packets are IPv4 or IPv6, as the filter measured them.
        """
        sequence, counters = self.sequence, self.counters
        if (room := self._last - sequence) < len(packets):
            counters.exhausted += len(packets) - room
            packets = packets[:room]
        # Taken before they are used: should anything go wrong half way, numbers are skipped and never repeated.
        self.sequence = sequence + len(packets)
        seal, mask, join = self._seal, self._mask, b"".join
        trailers4, trailers6 = self._trailers[4], self._trailers[6]
        payloads, size = [], 0
        for packet in packets:
            sequence += 1
            length = len(packet)
            size += length
            trailer = (trailers4 if packet[0] < 0x60 else trailers6)[length & mask]
            payloads.append(seal(sequence, join((packet, trailer))))
        counters.packets += len(payloads)
        counters.bytes += size
        return payloads


class InboundSa:
    """Opens ESP packets. `filter` is what an inner packet must pass before anybody gets it.

    `authenticated` counts the packets that were genuine, whatever was in them: the sign of life of the other end.
    """

    __slots__ = ("_alignment", "_fixed", "_minimum", "_open", "_window", "authenticated", "counters", "filter", "spi")

    def __init__(
        self,
        spi: int,
        suite: EspSuite,
        keys: DirectionKeys,
        *,
        filter: PacketFilter,  # noqa: A002  the word for it
        window: int = 4096,
    ) -> None:
        self.spi = spi
        self.filter = filter
        self.counters = Counters()
        self.authenticated = 0
        layout = esp_layout(suite)
        self._minimum = layout.minimum_length
        self._alignment = layout.alignment
        self._fixed = layout.minimum_length - layout.alignment
        self._window = ReplayWindow(window, extended=suite.esn)
        self._open = esp_cipher(suite, keys, spi, _no_entropy).open

    def open(self, datagrams: Sequence[bytes | memoryview]) -> list[Packet]:
        """The inner packets of those datagrams that are genuine, new, well formed and allowed; in order.

        Every datagram carries this SA's SPI. Never raises: what is dropped is counted.
        """
        counters, window = self.counters, self._window
        check, commit, unseal = window.check, window.commit, self._open
        minimum, fixed, alignment = self._minimum, self._fixed, self._alignment
        packets: list[Packet] = []
        size = authenticated = 0
        for datagram in datagrams:
            length = len(datagram)
            if length < minimum or (length - fixed) % alignment:
                counters.malformed += 1
                continue
            sequence = check(_sequence_low(datagram, 4)[0])
            if not sequence:
                counters.replays += 1
                continue
            plaintext = unseal(sequence, datagram)
            if plaintext is None:
                counters.auth_failures += 1
                continue
            if not commit(sequence):
                counters.replays += 1
                continue
            authenticated += 1
            if packet := self._inner(plaintext):
                packets.append(packet)
                size += len(packet)
        self.authenticated += authenticated
        counters.packets += len(packets)
        counters.bytes += size
        return packets

    def _inner(self, plaintext: bytes) -> Packet | None:
        """The IP packet in a plaintext, without padding of any kind, or None with its reason counted."""
        pad_length, next_header = plaintext[-2], plaintext[-1]
        end = len(plaintext) - 2 - pad_length
        if end < 0 or (pad_length and plaintext[end:-2] != _PADS[pad_length]):
            self.counters.malformed += 1
            return None
        if next_header == NO_NEXT_HEADER:
            self.counters.dummies += 1
            return None
        if not end or _NEXT_HEADER.get(plaintext[0] >> 4) != next_header:
            self.counters.malformed += 1
            return None
        length = self.filter.measure(plaintext, end)
        if length > 0:
            return plaintext[:length]
        if length == OUTSIDE:
            self.counters.selector_drops += 1
        else:
            assert length == MALFORMED
            self.counters.malformed += 1
        return None


def _no_entropy(_count: int) -> bytes:
    raise AssertionError("opening needs no entropy")
