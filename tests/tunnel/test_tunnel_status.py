"""What a tunnel tells about itself at every stage of its life."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_interface

from ikeclient.control.status import GatewayStatus, TunnelStatus
from ikeclient.ike.events import Configuration, Path
from ikeclient.tunnel.state import Input
from ikeclient.tunnel.status import InnerNetwork, Life, Problems, Status


def test_a_tunnel_that_carries_nothing_yet_still_describes_itself_completely() -> None:
    entry = Status(name="work").snapshot(None, 0.0)
    assert entry.to_json().keys() == TunnelStatus().to_json().keys()
    assert (entry.name, entry.pid, entry.state, entry.mode) == ("work", os.getpid(), "connecting", "tun")
    assert (entry.ike, entry.children, entry.drops, entry.idle) == (None, (), None, False)


def test_the_gateway_is_known_before_there_is_a_path_to_it() -> None:
    status = Status(name="work", gateway_address="192.0.2.1")
    assert status.snapshot(None, 0.0).gateway == GatewayStatus(address="192.0.2.1")
    status.path = Path(ip_address("192.0.2.7"), 4501, ip_address("192.0.2.2"), 4500)
    entry = status.snapshot(None, 0.0)
    assert (entry.gateway.address, entry.gateway.port) == ("192.0.2.2", 4500)
    assert (entry.local.address, entry.local.port) == ("192.0.2.7", 4501)


def test_without_an_assigned_address_the_machines_own_is_shown() -> None:
    status = Status(name="work", network=InnerNetwork(own=(ip_address("192.0.2.7"),)))
    assert status.snapshot(None, 0.0).addresses == ("192.0.2.7/32",)
    status.configuration = Configuration(addresses=(ip_interface("10.0.0.5/32"),))
    assert status.snapshot(None, 0.0).addresses == ("10.0.0.5/32",)


def test_the_last_sixteen_warnings_are_shown() -> None:
    status = Status(name="work", problems=Problems(warnings=[str(number) for number in range(20)]))
    assert status.snapshot(None, 0.0).warnings == tuple(str(number) for number in range(4, 20))


def test_a_state_is_dated_by_when_it_began() -> None:
    status = Status(name="work", life=Life(since="2026-01-01T00:00:00Z"))
    status.life.happens(Input.START)
    status.life.happens(Input.RESOLVED)
    assert (status.life.word, status.life.since) == ("connecting", "2026-01-01T00:00:00Z")
    status.life.happens(Input.UP)
    assert status.life.word == "connected"
    assert status.life.since != "2026-01-01T00:00:00Z"
