"""The receiving direction of a Child SA: UDP payloads in, inner packets out (RFC 4303, RFC 3948; tunnel mode).

Padding should be 1, 2, 3 ... and be inspected (RFC 4303 section 2.4), to tell wrong keys from right ones where nothing
is authenticated. Here everything is, and some gateways pad with zeros or random bytes: what padding says is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct

from ikeclient.crypto.algorithms.esp_ciphers import HEADER_LENGTH, esp_cipher, esp_layout
from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import EspSuite
from ikeclient.esp.codec.choice import VNET_HEADER, coalesce, collect, review
from ikeclient.esp.codec.run import Run
from ikeclient.esp.codec.run_cipher import run_cipher
from ikeclient.esp.codec.single import (
    ACCEPTED,
    CARRIED,
    FORGED,
    MISSHAPEN,
    REPLAYED,
    UNJUDGED,
    Opener,
    Received,
    make_opener,
)
from ikeclient.esp.packet.ecn import CE, MARKS, PathMarks
from ikeclient.esp.sa.counters import NEXT_HEADER, NO_NEXT_HEADER, Counters, Packet
from ikeclient.esp.sa.replay import ReplayWindow
from ikeclient.esp.sa.selectors import MALFORMED, OUTSIDE, PacketFilter

Frame = tuple[int, int, int, int]  # start, end, packets, bytes

_sequence_low = Struct(">I").unpack_from
_associated = Struct(">IQ").pack_into
ReceiveNext = Callable[[], Received]


class InboundSa:
    """Opens ESP packets. `filter` is what an inner packet must pass before anybody gets it.

    `authenticated` counts the packets that were genuine, whatever was in them: the sign of life of the other end.
    `selective` counts selective acknowledgements of TCP among the packets of runs: the sign that packets of ours got
    lost on their way. `marks` is shared by the SAs of one path.
    """

    __slots__ = (
        "_batch",
        "_esn",
        "_layout",
        "_marks",
        "_minimum",
        "_open",
        "_opener",
        "_window",
        "authenticated",
        "counters",
        "filter",
        "selective",
        "spi",
    )

    def __init__(
        self,
        spi: int,
        suite: EspSuite,
        keys: DirectionKeys,
        *,
        filter: PacketFilter,  # noqa: A002  the word for it
        window: int = 4096,
        marks: PathMarks | None = None,
    ) -> None:
        self.spi = spi
        self.filter = filter
        self.counters = Counters()
        self.authenticated = 0
        self.selective = 0
        self._marks = marks or PathMarks()
        self._layout = layout = esp_layout(suite)
        self._esn = suite.esn
        self._minimum = layout.minimum_length
        self._opener: Opener | None = None
        run = run_cipher(suite, keys, spi, _no_entropy, sealing=False)
        if run is not None:
            assert filter.quick is not None
            self._opener = make_opener(run, filter.quick, layout.alignment, window, esn=suite.esn)
        else:
            self._window = ReplayWindow(window, extended=suite.esn)
            cipher = esp_cipher(suite, keys, spi, _no_entropy)
            self._open, self._batch = cipher.open, cipher.batch

    @property
    def mixes(self) -> bool:
        """Whether `open_run` takes runs whose datagrams differ in length."""
        return self._opener is not None

    @property
    def _fixed(self) -> int:
        """Bytes of a packet around its plaintext."""
        return self._minimum - self._layout.alignment

    def open(self, datagrams: Sequence[bytes | memoryview], ecn: int = 0) -> list[Packet]:
        """The inner packets of those datagrams that are genuine, new, well formed and allowed; in order.

        Every datagram carries this SA's SPI, and `ecn` in its outer header. Never raises: what is dropped is counted.
        """
        return [packet for datagram in datagrams if (packet := self.open_one(datagram, ecn)) is not None]

    def open_at(self, buffer: bytearray, at: int, length: int, ecn: int) -> Packet | None:
        """As `open`, for a single datagram in a buffer."""
        if self._opener is None:
            return self.open_one(bytes(buffer[at : at + length]), ecn)
        return self._open_single(self._opener, buffer, at, length, ecn)

    def _open_single(
        self, single: Opener, buffer: bytes | bytearray | memoryview, at: int, length: int, ecn: int
    ) -> Packet | None:
        what, packet = single.open(buffer, at, length, not (ecn & 1 or self._marks.losses))
        return self._judged(what, packet, ecn)

    def receiver(self, buffer: bytearray, transport: int, device: int, *, clamp: bool) -> ReceiveNext | None:
        """What receives the next datagram, and carries its packet to a device if all that is plain.

        It is called once, and `received` hears what it returns: see `single.Opener`. None without a compiled
        module.
        """
        if self._opener is None:
            return None
        return partial(self._opener.receive, buffer, transport, device, not self._marks.losses, clamp)

    def received(self, what: int, packet: bytes, tos: int) -> Packet | None:
        """Count what became of a packet; the packet as `open` gives it."""
        return self._judged(what, packet, tos & 3)

    def _judged(self, what: int, packet: bytes, ecn: int) -> Packet | None:
        """Count what became of a packet, and look longer at what needs it."""
        counters = self.counters
        if what in (CARRIED, ACCEPTED):
            self.authenticated += 1
            counters.packets += 1
            counters.bytes += len(packet)
            return packet
        if what == UNJUDGED:
            return self._genuine(packet, ecn)
        if what == MISSHAPEN:
            counters.malformed += 1
        elif what == REPLAYED:
            counters.replays += 1
        elif what == FORGED:
            counters.auth_failures += 1
        return None

    def open_one(self, datagram: bytes | memoryview, ecn: int) -> Packet | None:
        """As `open`, for a single datagram."""
        if self._opener is not None:
            return self._open_single(self._opener, datagram, 0, len(datagram), ecn)
        counters, window, length = self.counters, self._window, len(datagram)
        if length < self._minimum or (length - self._minimum) % self._layout.alignment:
            counters.malformed += 1
            return None
        sequence = window.check(_sequence_low(datagram, 4)[0])
        if not sequence:
            counters.replays += 1
            return None
        plaintext = self._open(sequence, datagram)
        if plaintext is None:
            counters.auth_failures += 1
            return None
        if not window.commit(sequence):
            counters.replays += 1
            return None
        return self._genuine(plaintext, ecn)

    def _genuine(self, plaintext: bytes, ecn: int) -> Packet | None:
        """Judge what a genuine and new packet contains."""
        self.authenticated += 1
        packet = self._inner(plaintext, ecn)
        if packet is not None:
            self.counters.packets += 1
            self.counters.bytes += len(packet)
        return packet

    def _inner(self, plaintext: bytes, ecn: int) -> Packet | None:
        """The IP packet in a plaintext, without padding of any kind, or None with its reason counted."""
        if self._marks.losses and ecn != CE:
            self._marks.reset()
        pad_length, next_header = plaintext[-2], plaintext[-1]
        end = len(plaintext) - 2 - pad_length
        if end < 0:
            self.counters.malformed += 1
            return None
        if next_header == NO_NEXT_HEADER:
            self.counters.dummies += 1
            return None
        if not end or NEXT_HEADER.get(plaintext[0] >> 4) != next_header:
            self.counters.malformed += 1
            return None
        length = self.filter.measure(plaintext, end)
        if length > 0:
            if ecn not in MARKS:
                return plaintext[:length]
            packet = bytearray(plaintext[:length])
            if self._marks.decapsulate(ecn, packet):
                return packet
            self.counters.congested += 1
        elif length == OUTSIDE:
            self.counters.selector_drops += 1
        else:
            assert length == MALFORMED
            self.counters.malformed += 1
        return None

    def open_run(
        self, run: Run, out: memoryview, *, low: int, rising: bool, merge_udp: bool
    ) -> tuple[list[Frame], bool]:
        """Open the packets of a run where they are, and merge them into frames in `out`.

        `low` and `rising` are what `offload.survey` says of it. Its datagrams may differ in length if `mixes`.

        The frames are as `offload.coalesce` gives them, with whether one of them needs a longer look, as
        `offload.review` says. Checks, counts and drops what `open` does, and packets that RFC 6040 wants dropped. Never
        raises.
        """
        counters, count = self.counters, run.count
        if self._opener is not None:
            states = self._open_slots(self._opener, run)
        else:
            states = self._open_each(run, low if rising else None)
        self.authenticated += states.count(0)
        layout = self._layout
        gap = HEADER_LENGTH + layout.iv_length
        marks, ecn = self._marks, run.tos & 3
        if marks.losses and ecn != CE and 0 in states:
            marks.reset()
        if ecn in MARKS and not marks.ignored:
            for i in range(count):
                at = (run.first + i) * run.stride + gap
                if not states[i] and not marks.decapsulate(ecn, run.slots.view[at : at + run.length(i) - self._fixed]):
                    states[i] = 1
                    counters.congested += 1
        arena, end = run.slots.buffer, run.end
        frames, malformed, dummies = coalesce(
            arena, end, run.stride, run.first, count, gap, layout.icv_length, states, out, merge_udp, run.lengths
        )
        counters.malformed += malformed
        counters.dummies += dummies
        return self._allowed(frames, out)

    def _open_slots(self, single: Opener, run: Run) -> bytearray:
        """Open the packets of a run with one call; a byte for each that is 0 if it was genuine and new."""
        states, counters = bytearray(run.count), self.counters
        misshapen, replayed, forged = single.slots(
            run.slots.buffer, run.end, run.stride, run.first, run.count, run.lengths, states
        )
        counters.malformed += misshapen
        counters.replays += replayed
        counters.auth_failures += forged
        return states

    def _open_each(self, run: Run, low: int | None) -> bytearray:
        """The same without a compiled module; `low` is the first number if each is the one before plus one."""
        count, states = run.count, self._shapes(run)
        start = self._window.check_run(low, count) if low is not None and 1 not in states else 0
        numbers: Sequence[int] = range(start, start + count) if start else self._check_each(run, states)
        self._decrypt(run, numbers, states)
        if start and 1 not in states:
            self._window.commit_run(start, count)
            return states
        for i in range(count):
            if not states[i] and not self._window.commit(numbers[i]):
                states[i] = 1
                self.counters.replays += 1
        return states

    def _shapes(self, run: Run) -> bytearray:
        """A byte for each packet that says whether its length is impossible."""
        states = bytearray(run.count)
        for length, begin, stop in ((run.stride, 0, run.whole), (run.last, run.whole, run.count)):
            if begin < stop and (length < self._minimum or (length - self._minimum) % self._layout.alignment):
                states[begin:stop] = b"\1" * (stop - begin)
                self.counters.malformed += stop - begin
        return states

    def _check_each(self, run: Run, states: bytearray) -> list[int]:
        numbers = []
        for i in range(run.count):
            low = _sequence_low(run.slots.buffer, (run.first + i) * run.stride + 4)[0]
            sequence = 0 if states[i] else self._window.check(low)
            if not sequence and not states[i]:
                states[i] = 1
                self.counters.replays += 1
            numbers.append(sequence)
        return numbers

    def _decrypt(self, run: Run, numbers: Sequence[int], states: bytearray) -> None:
        if states.count(0) == 0:
            return
        batch, slots, stride, first = self._batch, run.slots, run.stride, run.first
        if batch is None:
            self._decrypt_singly(run, numbers, states)
            return
        icv, gap = self._layout.icv_length, HEADER_LENGTH + self._layout.iv_length
        collect(slots.buffer, stride, first, run.count, batch.salt, slots.nonces)
        nonces = slots.nonce_slices(len(batch.salt))
        if self._esn:
            for i in range(run.count):
                _associated(slots.associated, 12 * i, self.spi, numbers[i])
        slices, whole = slots.slices(stride, gap, icv, first + run.whole), run.whole
        associated = slots.associated_slices if self._esn else slices.heads[first:]
        sealed, texts = slices.sealed[first:], slices.texts[first:]
        if 1 in states[:whole]:
            live = [i for i in range(whole) if not states[i]]
            chosen = ([views[i] for i in live] for views in (nonces, sealed, associated, texts))
            forged = [live[position] for position in batch.open(*chosen)]
        else:
            forged = batch.open(nonces[:whole], sealed, associated, texts)
        for i in forged:
            states[i] = 1
        self.counters.auth_failures += len(forged)
        i = run.whole
        if i < run.count and not states[i]:
            at = (first + i) * stride
            end = at + run.last
            over = slots.associated_slices[i] if self._esn else slots.view[at : at + 8]
            view = slots.view
            if batch.open((nonces[i],), (view[at + gap : end],), (over,), (view[at + gap : end - icv],)):
                states[i] = 1
                self.counters.auth_failures += 1

    def _decrypt_singly(self, run: Run, numbers: Sequence[int], states: bytearray) -> None:
        gap, view = HEADER_LENGTH + self._layout.iv_length, run.slots.view
        for i in range(run.count):
            if states[i]:
                continue
            at = (run.first + i) * run.stride
            text = self._open(numbers[i], bytes(view[at : at + run.length(i)]))
            if text is None:
                states[i] = 1
                self.counters.auth_failures += 1
            else:
                view[at + gap : at + gap + len(text)] = text

    def _allowed(self, frames: list[Frame], out: memoryview) -> tuple[list[Frame], bool]:
        """The frames inside the selectors: all packets of one have the same addresses and ports."""
        counters, measure = self.counters, self.filter.measure
        total, total_bytes, alike, look, selective = review(out, frames)
        self.selective += selective
        if alike and frames and self.filter.by_address:
            start, end, _, _ = frames[0]
            if measure(out[start + VNET_HEADER : end], end - start - VNET_HEADER) > 0:
                counters.packets += total
                counters.bytes += total_bytes
                return frames, look
        allowed = []
        for start, end, packets, size in frames:
            length = measure(out[start + VNET_HEADER : end], end - start - VNET_HEADER)
            if length > 0:
                counters.packets += packets
                counters.bytes += size
                allowed.append((start, end, packets, size))
            elif length == OUTSIDE:
                counters.selector_drops += packets
            else:
                counters.malformed += packets
        return allowed, look


def _no_entropy(_count: int) -> bytes:
    raise AssertionError("opening needs no entropy")
