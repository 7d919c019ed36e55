"""Links that share a socket: each says its farewell, whichever is over first."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, cast

import pytest

from ikeclient.crypto.algorithms.transforms import ENCRYPTION, KEY_EXCHANGE, PRF, AlgorithmProposal
from ikeclient.dataplane.pump import Pump, PumpCallbacks
from ikeclient.esp.sa.counters import Packet
from ikeclient.ike.config import ChildConfig, ExpectedGateway, IkeConfig, PskAuth
from ikeclient.ike.events import Datagram
from ikeclient.tunnel.clock import boottime
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.links import Links
from ikeclient.tunnel.ports import Ports
from ikeclient.wire.identity import Identity
from ikeclient.wire.registry import IdType

GCM = AlgorithmProposal(
    encryption=(ENCRYPTION["aes128gcm16"],), prf=(PRF["prfsha256"],), key_exchange=(KEY_EXCHANGE["x25519"],)
)
PSK = PskAuth(psk=b"a shared secret of many bytes")
CONFIG = IkeConfig(
    local_identity=Identity(type=IdType.FQDN, data=b"alice.example.com"),
    auth=PSK,
    gateway=ExpectedGateway(identity=None, auth=PSK),
    ike_proposals=(GCM,),
    child=ChildConfig(esp_proposals=(replace(GCM, prf=(), key_exchange=()),)),
)


class Device:
    """No packets."""

    lost = False

    def read_batch(self, limit: int) -> list[Packet]:
        del limit
        return []

    def write_batch(self, packets: list[Packet]) -> int:  # type: ignore[override]
        return len(packets)


# The machine's own network and clock; neither device nor machine is asked for anything.
PORTS = Ports(device=cast(Any, None), machine=cast(Any, None), table=0)


def run(scenario: Callable[[Pump, socket.socket], None]) -> None:
    async def main() -> None:
        pump = Pump(
            Device(),  # type: ignore[arg-type]
            PumpCallbacks(on_ike=lambda *_: True),
            boottime,
            entropy=os.urandom,
            offload=False,
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway:
            gateway.bind(("127.0.0.1", 0))
            gateway.settimeout(10)
            scenario(pump, gateway)

    asyncio.run(main())


@pytest.mark.parametrize("connected_again", [False, True])
def test_a_login_beside_a_connection_that_is_over_can_still_be_deleted(connected_again: bool) -> None:
    """G1, K20: the gateway understands the DELETE once it has dealt with the login, long after the connection is over.

    And the end of that farewell leaves the connection alone that was made meanwhile.
    """

    def scenario(pump: Pump, gateway: socket.socket) -> None:
        port = gateway.getsockname()[1]

        def link(parallel_to: Link | None = None) -> Link:
            return Link(CONFIG, ip_address("127.0.0.1"), port, pump, lambda _: None, PORTS, parallel_to=parallel_to)

        old = link()
        parallel = link(parallel_to=old)
        old.retire()
        links = Links()
        links.leaving = [parallel, old]
        links.release(old)
        assert links.leaving == [parallel]
        parallel._send(Datagram(b"the DELETE, again", parallel.path))
        data, source = gateway.recvfrom(100)
        assert data.endswith(b"the DELETE, again")
        assert source[1] == old.path.local_port
        if connected_again:
            new = link()
            pump.set_remote(("127.0.0.1", port))
        links.release(parallel)
        assert pump.remote == (("127.0.0.1", port) if connected_again else None)
        if connected_again:
            new._send(Datagram(b"the new one", new.path))
            assert gateway.recvfrom(100)[0].endswith(b"the new one")
            new.release()

    run(scenario)
