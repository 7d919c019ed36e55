"""The two directions of a Child SA: packets in, UDP payloads out, and back (RFC 4303, RFC 3948; tunnel mode).

Both work on batches. In a batch nothing is raised, logged or allocated for its own sake: a bad packet costs itself
and one count. Batches are lists of packets (`seal`, `open`), or packets in the slots of one buffer (`seal_run`,
`open_run`), which is what speed is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

from ikeclient.crypto.algorithms.esp_ciphers import HEADER_LENGTH, BatchCipher, esp_cipher, esp_layout
from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import EspSuite
from ikeclient.esp.codec.choice import VNET_HEADER, stamp
from ikeclient.esp.codec.run import MOST_SEGMENTS
from ikeclient.esp.codec.run_cipher import BY_CRYPTOGRAPHY, run_cipher
from ikeclient.esp.codec.single import FrameSealer, Unsent, frame_sealer
from ikeclient.esp.codec.slots import Slots
from ikeclient.esp.codec.sums import PADS
from ikeclient.esp.sa.counters import NEXT_HEADER, Counters, Packet
from ikeclient.esp.sa.inbound import InboundSa
from ikeclient.esp.sa.selectors import PacketFilter, Selector
from ikeclient.lazy_dataclass import dataclass

# A key is replaced after three quarters of its sequence numbers, or after 2^36 AES blocks: there the advantage of
# telling AES-GCM or AES-CBC from randomness is still below 2^-56, and no tunnel gets there within its usual lifetime.
_LAST_SEQUENCE = {False: (1 << 32) - 1, True: (1 << 64) - 1}
BYTE_LIMIT = 1 << 40

_NOTHING = bytearray()

__all__ = ["BYTE_LIMIT", "Counters", "InboundSa", "OutboundSa", "Packet", "SaPair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaPair:
    """What both directions of a Child SA are made from: all that the data plane knows of a negotiation.

    `local` and `remote` are the traffic selectors of our end and of the gateway's. `own` are addresses of this machine
    (version, number) that no packet from the gateway can come from. `replaces` is the inbound SPI of the one before,
    which goes on sending for a while if the rekey was `by_peer`; see `SaTable.install`.
    """

    spi_in: int
    spi_out: int
    suite: EspSuite
    keys_in: DirectionKeys = field(repr=False)
    keys_out: DirectionKeys = field(repr=False)
    local: tuple[Selector, ...]
    remote: tuple[Selector, ...]
    own: tuple[tuple[int, int], ...] = ()
    replaces: int | None = None
    by_peer: bool = False


class OutboundSa:
    """Seals inner packets. `filter` says which ones belong here; it is consulted by whoever chooses the SA.

    `frames` is what seals frames, if the compiled module does; its `single` wants numbers of `take_number`.
    `entropy` gives random bytes for the IVs of AES-CBC. `last_sequence` and `byte_limit` are for tests.
    """

    __slots__ = (
        "_batch",
        "_esn",
        "_last",
        "_mask",
        "_run",
        "_seal",
        "_trailers",
        "byte_limit",
        "counters",
        "filter",
        "frames",
        "layout",
        "sequence",
        "spi",
    )

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
        self._batch: BatchCipher | None = None
        self._seal: Callable[[int, bytes | memoryview], bytes]
        self._run = run_cipher(suite, keys, spi, entropy, sealing=True)
        if self._run is not None:
            self._seal = self._run.seal
        else:
            cipher = esp_cipher(suite, keys, spi, entropy)
            self._seal, self._batch = cipher.seal, cipher.batch
        self._esn = suite.esn
        self.layout = esp_layout(suite)
        alignment = self.layout.alignment
        self.frames: FrameSealer | None = None
        if self._run is not None and filter.quick is not None:
            self.frames = frame_sealer(self._run, filter.quick, alignment)
        self._mask = alignment - 1
        pads = [-(length + 2) % alignment for length in range(alignment)]
        self._trailers = {v: [PADS[n] + bytes((n, header)) for n in pads] for v, header in NEXT_HEADER.items()}

    @property
    def cipher(self) -> str:
        """What seals: the version of OpenSSL, or `BY_CRYPTOGRAPHY`."""
        return self._run.version if self._run is not None else BY_CRYPTOGRAPHY

    @property
    def rekey_due(self) -> bool:
        """Whether this key has done enough (P8)."""
        return self.sequence >= self._last // 4 * 3 or self.counters.bytes >= self.byte_limit

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

    def seal_text(self, text: memoryview, size: int) -> bytes | None:
        """The UDP payload for an inner packet of `size` bytes that has its padding and trailer already.

        None once the sequence numbers are used up.
        """
        sequence, counters = self.sequence + 1, self.counters
        if sequence > self._last:
            counters.exhausted += 1
            return None
        self.sequence = sequence
        counters.packets += 1
        counters.bytes += size
        return self._seal(sequence, text)

    def take_number(self) -> int:
        """Take a sequence number before it is used, so that whatever goes wrong none is repeated; 0 if none is left."""
        if self.sequence >= self._last:
            return 0
        self.sequence += 1
        return self.sequence

    def give_back(self, number: int) -> None:
        """Take back a number that was not used, unless another one has been taken since."""
        if self.sequence == number:
            self.sequence = number - 1

    def count_frame(self, length: int) -> None:
        """Count a frame of one packet that `frames` has sealed."""
        self.counters.packets += 1
        self.counters.bytes += length - VNET_HEADER

    def send_frames(
        self,
        frame: bytearray,
        length: int,
        mtu: int,
        slots: Slots,
        descriptors: tuple[int, int, bytes],
        limits: tuple[int, int, int],
    ) -> tuple[int, int, int, int, Unsent | None]:
        """Send a frame and those that wait behind it; see `FrameSealer`, which `descriptors` and `limits` are for.

        Returns how many packets were sealed, and all the rest that it returns; none were if the first frame needs a
        longer look.
        """
        before = self.sequence
        most, room, runs = limits
        most = min(most, (self._last - before) // MOST_SEGMENTS)
        if self.frames is None or most < 1:
            return 0, 0, 0, length, None
        self.sequence = before + most * MOST_SEGMENTS  # taken before they are used
        count, size, frames, taken, left, unsent = self.frames.run(
            before + 1, frame, length, mtu, slots.buffer, *descriptors, most, room, runs
        )
        self.sequence = before + count  # the others were not used
        self.counters.packets += count
        self.counters.bytes += size
        return count, frames, taken, left, unsent

    def seal_run(self, slots: Slots, stride: int, count: int, last: int, size: int) -> int:
        """Seal the plaintexts in the first `count` slots where they are; returns how many had a number left.

        `last` is the length of the last packet when sealed, the others are as long as `stride`; `size` is that of all
        inner packets.
        """
        counters = self.counters
        if (room := self._last - self.sequence) < count:
            counters.exhausted += count - room
            size -= size // count * (count - room)
            count, last = room, stride
        if not count:
            return 0
        first = self.sequence + 1
        # Taken before they are used: should anything go wrong half way, numbers are skipped and never repeated.
        self.sequence += count
        if self._run is not None:
            self._run.seal_run(slots.buffer, stride, count, last, first)
        elif self._batch is None or count == 1:
            self._seal_singly(slots, stride, count, last, first)
        else:
            batch, layout = self._batch, self.layout
            gap = HEADER_LENGTH + layout.iv_length
            stamp(
                slots.buffer,
                stride,
                count,
                self.spi,
                first,
                batch.salt,
                slots.nonces,
                slots.associated if self._esn else _NOTHING,
            )
            slices = slots.slices(stride, gap, layout.icv_length, count)
            nonces = slots.nonce_slices(len(batch.salt))
            associated = slots.associated_slices if self._esn else slices.heads
            whole = count if last == stride else count - 1
            batch.seal(nonces[:whole], slices.texts, associated, slices.sealed)
            if whole < count:
                at = whole * stride
                text = slots.view[at + gap : at + last - layout.icv_length]
                batch.seal((nonces[whole],), (text,), (associated[whole],), (slots.view[at + gap : at + last],))
        counters.packets += count
        counters.bytes += size
        return count

    def _seal_singly(self, slots: Slots, stride: int, count: int, last: int, sequence: int) -> None:
        gap, icv, buffer, view = HEADER_LENGTH + self.layout.iv_length, self.layout.icv_length, slots.buffer, slots.view
        for at in range(0, count * stride, stride):
            end = at + (stride if at < (count - 1) * stride else last)
            view[at:end] = self._seal(sequence, bytes(buffer[at + gap : end - icv]))
            sequence += 1
