"""This machine as a tunnel's world."""

from __future__ import annotations

import asyncio
import os
import socket
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from ikeclient.errors import PlatformError
from ikeclient.tunnel.clock import boottime
from ikeclient.tunnel.ports import Ports, SystemNetwork, initiator
from ikeclient.tunnel.resolve import resolve

HERE = ip_address("127.0.0.1")


def test_datagrams_are_carried_as_soon_as_they_come_and_no_more_after_the_end() -> None:
    async def main() -> None:
        network, drained = SystemNetwork(), asyncio.Event()
        opened = network.open(HERE, lambda _: None)
        network.watch(opened, lambda _: drained.set(), lambda: False)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"datagram", opened.local)
            await asyncio.wait_for(drained.wait(), 10)
            [(data, _, _)] = opened.receive_batch(10)
            assert bytes(data) == b"datagram"
        descriptor = opened.fileno()
        network.close(opened)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)

    asyncio.run(main())


def test_a_socket_of_an_address_that_this_machine_does_not_have_is_an_error() -> None:
    with pytest.raises(PlatformError):
        SystemNetwork().open(ip_address("192.0.2.254"), lambda _: None)


def test_the_way_to_this_machine_is_known() -> None:
    network = SystemNetwork()
    assert network.source_for(HERE) == HERE
    assert network.path_mtu(HERE) >= 1500


def test_the_defaults_are_those_of_this_machine() -> None:
    nothing: Any = SimpleNamespace()
    ports = Ports(device=nothing, machine=nothing, table=1)
    assert (ports.clock, ports.entropy, ports.resolve) == (boottime, os.urandom, resolve)
    assert isinstance(ports.network, SystemNetwork)
    assert ports.connect is initiator
