"""Super-packets that come in one go: how they share calls, and after how many the other direction has its turn."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import offload_packets as packets
import pytest
from fake_transport import GATEWAY, FakeSocket, FakeTun, FrameTun, RunSocket
from test_dataplane_pump import HOST4, VIP4, child, gateway_side

from ikeclient.dataplane.pump import Pump, PumpCallbacks

SEGMENTS, SIZE = 44, 1348  # of a super-packet of a device with an MTU of 1400


class Merging(RunSocket):
    """Datagrams arrive as the kernel merged them."""

    def __init__(self, arrivals: Sequence[list[bytes]]) -> None:
        super().__init__()
        self.arrivals = list(arrivals)

    def receive_into(self, buffer: memoryview) -> tuple[int, int, tuple[str, int], int] | None:
        if not self.arrivals:
            return None
        datagrams = self.arrivals.pop(0)
        data = b"".join(datagrams)
        buffer[: len(data)] = data
        return len(data), len(datagrams[0]), GATEWAY, 0


class Counting(FrameTun):
    """Counts the bytes of frames that are written; those that are written to the descriptor are not among them."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.size = 0

    def write_frames(self, frames: Sequence[bytes | bytearray | memoryview]) -> int:
        self.size += sum(map(len, frames))
        return len(frames)


def pump_of(tun: FakeTun, socket: FakeSocket) -> Pump:
    pump = Pump(tun, PumpCallbacks(on_ike=lambda *_: False), lambda: 1.0, entropy=os.urandom)
    pump.attach(socket)
    pump.set_remote(GATEWAY)
    return pump


@pytest.fixture(scope="module")
def super_packets() -> list[list[bytes]]:
    """Ten of them, each of another flow, as the datagrams that they arrive in."""
    tun, socket = FakeTun(), FakeSocket()
    pump = pump_of(tun, socket)
    pump.install(gateway_side(child()))
    for flow in range(10):
        segments = (
            packets.tcp(bytes(SIZE), sequence=at * SIZE, ports=(443, 40000 + flow), addresses=(HOST4, VIP4))
            for at in range(SEGMENTS)
        )
        tun.waiting += [packets.ip(segment, 6, (HOST4, VIP4)) for segment in segments]
    while pump.drain_tun():
        pass
    sent = [data for data, _ in socket.sent]
    return [sent[at : at + SEGMENTS] for at in range(0, len(sent), SEGMENTS)]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A descriptor that takes everything."""
    descriptor = os.open(tmp_path / "frames", os.O_WRONLY | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(("stack", "taken"), [(False, 5), (True, 8)], ids=["device", "stack"])
def test_super_packets_arrive_whole(super_packets: list[list[bytes]], file: int, stack: bool, taken: int) -> None:
    """A stack acknowledges what comes in one go, so it is given more than a device, which others wait for."""
    tun, socket = Counting(-1 if stack else file), Merging(super_packets)
    pump = pump_of(tun, socket)
    pump.install(child())
    assert pump.drain_udp(socket) == taken
    assert tun.size + os.fstat(file).st_size == taken * (10 + 40 + SEGMENTS * SIZE)  # each half would have headers
