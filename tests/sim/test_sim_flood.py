"""What junk of each kind costs from the socket on, in calls of functions, so that a busy machine does not matter."""

from __future__ import annotations

import gc
import os
import sys
from struct import pack
from types import FrameType

from fake_transport import FakeSocket, FakeTun
from sim_world import World

from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, EspSuite
from ikeclient.dataplane.pump import Pump, PumpCallbacks
from ikeclient.dataplane.sender import NON_ESP_MARKER
from ikeclient.esp.sa.pair import SaPair

SPI = 0xC0000001


def cost(pump: Pump, socket: FakeSocket, datagrams: list[bytes]) -> float:
    """How many functions are called for a datagram."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    socket.arrives(*datagrams)
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
    socket = FakeSocket()
    pump = Pump(
        FakeTun(),  # type: ignore[arg-type]
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
