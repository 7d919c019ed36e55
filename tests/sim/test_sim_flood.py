"""What junk of each kind costs from the socket on, in calls of functions, so that a busy machine does not matter."""

from __future__ import annotations

import gc
import os
import sys
from collections import deque
from struct import pack
from types import FrameType

from sim_world import World

from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, EspSuite
from ikeclient.dataplane.pump import Pump, PumpCallbacks
from ikeclient.dataplane.sender import NON_ESP_MARKER
from ikeclient.esp.sa.counters import Packet
from ikeclient.esp.sa.pair import SaPair

GATEWAY, LOCAL = ("203.0.113.7", 4500), ("192.0.2.10", 40500)
SPI = 0xC0000001


class Device:
    """Takes what comes."""

    lost = False

    def read_batch(self, limit: int) -> list[Packet]:
        del limit
        return []

    def write_batch(self, packets: list[Packet]) -> int:  # type: ignore[override]
        return len(packets)


class Socket:
    """Has what a test puts into it."""

    local = LOCAL

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()

    def receive_batch(self, limit: int) -> list[tuple[bytes, tuple[str, int], int]]:
        return [(self.waiting.popleft(), GATEWAY, 0) for _ in range(min(limit, len(self.waiting)))]


def cost(pump: Pump, socket: Socket, datagrams: list[bytes]) -> float:
    """How many functions are called for a datagram."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    socket.waiting += datagrams
    gc.disable()  # finalizers of other tests' garbage are calls, too
    sys.setprofile(count)
    try:
        while socket.waiting:
            pump.drain_udp(socket)  # type: ignore[arg-type]
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls / len(datagrams)


def ike(spis: bytes, body: bytes, first: int) -> bytes:
    return NON_ESP_MARKER + spis + pack(">BBBBII", first, 0x20, 37, 0x20, 0, 28 + len(body)) + body


def test_ike_junk_costs_no_more_than_esp_junk() -> None:
    """N27, P14: that of anybody without SPIs, whatever is in it, against ESP that fails its integrity check."""
    world = World()
    world.connect()
    socket = Socket()
    pump = Pump(
        Device(),  # type: ignore[arg-type]
        PumpCallbacks(on_ike=lambda data, _source, _local: world.client.awaits(data)),
        lambda: 0.0,
        entropy=os.urandom,
        offload=False,
    )
    key = DirectionKeys(encryption=bytes(20), integrity=b"")
    pump.install(
        SaPair(
            spi_in=SPI,
            spi_out=1000,
            suite=EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None),
            keys_in=key,
            keys_out=key,
            local=(),
            remote=(),
        )
    )
    chain = pack(">BxH", 43, 4) * 340 + pack(">BxH", 0, 4)
    protected = pack(">BxH", 0, 104) + os.urandom(100)
    esp = cost(pump, socket, [pack(">II", SPI, n) + os.urandom(108) for n in range(1, 257)])
    for body, first in ((chain, 43), (protected, 46)):
        assert cost(pump, socket, [ike(os.urandom(16), body, first) for _ in range(256)]) <= esp
    assert pump.counters.unknown_ike == 512
    assert pump.child_counters(SPI).auth_failures == 256
