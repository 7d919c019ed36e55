"""What one packet costs in the pump: nanoseconds a packet, without a device, a socket, or a second process.

    python bench/packets.py [CASE ...] [--seconds S]

Device and socket are stand-ins that hand over prepared packets and throw away what they are given, so that a change of
a few per cent shows within seconds, and on a busy machine: each figure is that of the fastest rounds. System calls are
what is missing; `scripts/bench` has them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Network
from struct import pack

from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, EspSuite
from ikeclient.dataplane.pump import Pump, PumpCallbacks
from ikeclient.esp.codec import run_cipher
from ikeclient.esp.codec.choice import ACTIVE
from ikeclient.esp.codec.single import single_opener
from ikeclient.esp.sa.pair import InboundSa, SaPair
from ikeclient.esp.sa.replay import ReplayWindow
from ikeclient.esp.sa.selectors import Selector
from ikeclient.net.device.tun import TunCounters

GATEWAY = ("192.0.2.1", 4500)
SEGMENT, SEGMENTS, FRAMES, ACKS = 1348, 42, 8, 64  # bytes of payload, packets in a super-packet
SUITE = EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None)


class Device:
    """Hands over the prepared frames once, and takes all."""

    merges_udp = True
    descriptor = -1
    lost = False

    def __init__(self) -> None:
        self.counters = TunCounters()
        self.waiting: list[bytes] = []
        self._next: Iterator[bytes] = iter(())

    def rewind(self) -> None:
        self._next = iter(self.waiting)

    def frames(self) -> Device:
        return self

    def read_into(self, buffers: Sequence[bytearray]) -> int:
        frame = next(self._next, b"")
        buffers[0][: len(frame)] = frame
        return len(frame)

    def read_batch(self, _limit: int) -> list[bytes]:
        return []

    def write_batch(self, packets: Sequence[bytes]) -> int:
        return len(packets)

    def write_frames(self, frames: Sequence[bytes]) -> int:
        return len(frames)

    def write_frame(self, _frame: bytes) -> bool:
        return True


class Socket:
    """Hands over the prepared runs once, and remembers what it is given while `keep` is set."""

    local = ("192.0.2.10", 4500)
    segments = merges = True
    descriptor = -1

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, int]] = []
        self.keep = False
        self._next: Iterator[tuple[bytes, int]] = iter(())

    def rewind(self) -> None:
        self._next = iter(self.waiting)

    def runs(self) -> Socket:
        return self

    def enable_merging(self) -> None:
        pass

    def drain_errors(self) -> bool:
        return False

    def receive_queue(self) -> tuple[int, int]:
        return 0, 0

    def receive_into(self, buffer: memoryview) -> tuple[int, int, tuple[str, int], int] | None:
        data, size = next(self._next, (b"", 0))
        if not size:
            return None
        buffer[: len(data)] = data
        return len(data), size, GATEWAY, 0

    def recvmmsg(self, _many: object, _stride: int, _first: int, _most: int) -> list[object]:
        got = next(self._next, None)
        return [(got[0], len(got[0]), got[1], GATEWAY, 0)] if got else []

    def send_run(self, run: memoryview, size: int, _destination: tuple[str, int], _tos: int = 0) -> int:
        if self.keep:
            self.waiting.append((bytes(run), size))
        return -(-len(run) // size)

    def send_batch(self, payloads: Sequence[bytes], _destination: tuple[str, int], _tos: int = 0) -> int:
        return len(payloads)


def keys(seed: int) -> DirectionKeys:
    """Some keys."""
    return DirectionKeys(encryption=hashlib.sha256(bytes([seed])).digest()[:20], integrity=b"")


def pair(here: str, there: str, spi_in: int, spi_out: int) -> SaPair:
    """A Child SA between two networks."""
    local, remote = (
        (Selector(version=4, start=int(net.network_address), end=int(net.broadcast_address)),)
        for net in map(IPv4Network, (here, there))
    )
    keys_in, keys_out = keys(spi_in & 0xFF), keys(spi_out & 0xFF)
    return SaPair(
        spi_in=spi_in, spi_out=spi_out, suite=SUITE, keys_in=keys_in, keys_out=keys_out, local=local, remote=remote
    )


def make(device: Device, socket: Socket, spi_in: int, spi_out: int, here: str, there: str) -> Pump:
    """A pump between stand-ins."""
    pump = Pump(device, PumpCallbacks(on_ike=lambda *_: True), time.monotonic, entropy=os.urandom)
    pump.attach(socket)
    pump.set_remote(GATEWAY)
    pump.set_mtu(1400)
    pump.install(pair(here, there, spi_in, spi_out))
    return pump


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF
    return total ^ 0xFFFF


def frame(payload: int, size: int, sequence: int) -> bytes:
    """TCP over IPv4 with a timestamp option, as the kernel gives it with a virtio header; cut into `size` bytes."""
    addresses = bytes((10, 88, 0, 1, 10, 99, 0, 7))
    length = 20 + 32 + payload
    ip = pack(">BBHHHBBH", 0x45, 0, length, 1, 0x4000, 64, 6, 0) + addresses
    ip = ip[:10] + pack(">H", checksum(ip)) + ip[12:]
    pseudo = checksum(addresses + pack(">HH", 6, length - 20)) ^ 0xFFFF
    tcp = pack(">HHIIBBHHH", 40000, 443, sequence, 77, 0x80, 0x10, 500, pseudo, 0) + bytes((1, 1, 8, 10)) + bytes(8)
    many = payload > size
    header = pack("<BBHHHH", 1, 1 if many else 0, 52 if many else 0, size if many else 0, 20, 16)
    return header + ip + tcp + bytes(payload)


def bulk_frames() -> list[bytes]:
    """Super-packets of one upload."""
    return [frame(SEGMENT * SEGMENTS, SEGMENT, n * SEGMENT * SEGMENTS) for n in range(FRAMES)]


def sent(frames: list[bytes]) -> list[tuple[bytes, int]]:
    """What the other end makes of frames: runs of datagrams."""
    device, socket = Device(), Socket()
    pump = make(device, socket, 0xD0000002, 0xC0000001, "10.88.0.0/16", "10.99.0.0/16")
    socket.keep = True
    device.waiting = frames
    device.rewind()
    while pump.drain_tun(True):
        pass
    return socket.waiting


def renew(sa: InboundSa) -> None:
    """Let an SA receive the same packets again."""
    if sa._single is None:
        sa._window = ReplayWindow(4096)
    else:
        cipher, _, packets, alignment = sa._single.open.args
        sa._single = single_opener(cipher, packets, alignment, 4096, esn=False)
        sa._window = sa._single.window


class Case:
    """One way of packets: `round` carries `count` of them and returns the seconds that took."""

    def __init__(self, frames: list[bytes], count: int, *, inbound: bool = False, singly: bool = False) -> None:
        self.count = count
        self._singly = singly
        self._device, self._socket = Device(), Socket()
        # Both ends have the same inner addresses, so that one set of packets serves both directions.
        if inbound:
            self._pump = make(self._device, self._socket, 0xC0000001, 0xD0000002, "10.99.0.0/16", "10.88.0.0/16")
            self._socket.waiting = sent(frames)
            if singly:
                self._socket.waiting = [
                    (run[at : at + size], size) for run, size in self._socket.waiting for at in range(0, len(run), size)
                ]
        else:
            self._pump = make(self._device, self._socket, 0xC0000001, 0xD0000002, "10.88.0.0/16", "10.99.0.0/16")
            self._device.waiting = frames
        self._drain: Callable[[bool], int] = self._drain_udp if inbound else self._pump.drain_tun

    def _drain_udp(self, again: bool) -> int:
        return self._pump.drain_udp(self._socket, again)

    def round(self) -> float:
        inbound = self._pump.table.inbound[0xC0000001]
        renew(inbound)
        if not self._singly:
            self._device.rewind()
            self._socket.rewind()
            start = time.perf_counter()
            while self._drain(True):
                pass
            return time.perf_counter() - start
        frames, runs = self._device.waiting, self._socket.waiting
        total = 0.0
        for one in frames or runs:
            if frames:
                self._device._next = iter((one,))
            else:
                self._socket._next = iter((one,))
            start = time.perf_counter()
            self._drain(False)
            total += time.perf_counter() - start
        return total

    def check(self) -> None:
        """Every packet must have been carried."""
        counters = self._pump.child_counters(0xC0000001)
        before = counters.packets_in + counters.packets_out
        self.round()
        counters = self._pump.child_counters(0xC0000001)
        carried = counters.packets_in + counters.packets_out - before
        assert carried == self.count, (carried, self.count, counters)


def cases() -> dict[str, Callable[[], Case]]:
    """Each by its name."""
    acks = [frame(0, 1, 7) for _ in range(ACKS)]
    full = [frame(SEGMENT, SEGMENT, n * SEGMENT) for n in range(ACKS)]
    bulk = bulk_frames()
    return {
        "out bulk": lambda: Case(bulk, SEGMENTS * FRAMES),
        "out one super-packet": lambda: Case(bulk[:1], SEGMENTS, singly=True),
        "out acknowledgements": lambda: Case(acks, ACKS),
        "out single short": lambda: Case(acks, ACKS, singly=True),
        "out single long": lambda: Case(full, ACKS, singly=True),
        "in bulk": lambda: Case(bulk, SEGMENTS * FRAMES, inbound=True),
        "in acknowledgements": lambda: Case(acks, ACKS, inbound=True),
        "in single short": lambda: Case(acks, ACKS, inbound=True, singly=True),
        "in single long": lambda: Case(full, ACKS, inbound=True, singly=True),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--libcrypto", help="the OpenSSL to use; left out, `cryptography` does everything")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each case")
    options = parser.parse_args()
    cipher = run_cipher.load([options.libcrypto] if options.libcrypto else ())
    print(f"codec {ACTIVE}, cipher {cipher or 'cryptography'}")
    for name, prepare in cases().items():
        if options.cases and name not in options.cases:
            continue
        case = prepare()
        case.check()
        end = time.monotonic() + options.seconds
        times = []
        while time.monotonic() < end:
            times.append(case.round())
        best = sorted(times)[: max(len(times) // 10, 3)]
        print(f"{name:24} {statistics.mean(best) / case.count * 1e9:8.1f} ns a packet", flush=True)


if __name__ == "__main__":
    main()
