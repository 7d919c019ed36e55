"""What a connection's events do to the data plane, the machine and the status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sim_tunnel import profile
from tunnel_fakes import CHILD, CONFIGURATION, GATEWAY, PATH, FakeLink

from ikeclient.dataplane.pump import Pump, PumpCallbacks
from ikeclient.errors import NoResponse, PlatformError
from ikeclient.ike.events import ChildClosed, Notice
from ikeclient.net.device.tun import TunCounters
from ikeclient.net.machine.fake import FakeMachine
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import NoKillSwitch
from ikeclient.tunnel.session import INBOUND_GRACE, Session
from ikeclient.tunnel.state import Input, State

SECOND = replace(CHILD, spi_in=1001, spi_out=2001)


class Rig:
    """A session whose timers a test lets expire, on the way to its first connection."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.machine = FakeMachine("work")
        self.said: list[dict[str, object]] = []
        ports: Any = SimpleNamespace(
            clock=lambda: self.now,
            entropy=bytes,
            device=SimpleNamespace(name="ike0", lost=False, counters=TunCounters()),
            machine=self.machine,
            table=7000,
            network=SimpleNamespace(path_mtu=lambda _: 1500),
            switch=NoKillSwitch(),
        )
        options = ConnectOptions(name="work", timeout=30, keylog=None, runtime_directory=Path("/nonexistent"))
        pump = Pump(ports.device, PumpCallbacks(on_ike=lambda *_: False), ports.clock, entropy=bytes)
        self.session = Session(profile(), options, ports, pump, self.said)
        self.status = self.session.status
        self.link: Any = FakeLink(established=False)
        self.status.life.happens(Input.START)
        self.status.life.happens(Input.RESOLVED)

    @property
    def heard(self) -> list[object]:
        return [event["event"] for event in self.said]

    def up(self) -> None:
        self.session.handle(CONFIGURATION, self.link)
        self.session.handle(CHILD, self.link)

    def expire(self) -> None:
        assert self.session.deadline == self.now + INBOUND_GRACE
        self.session.handle_timer(self.now + INBOUND_GRACE - 0.1)
        assert self.session.deadline is not None
        self.session.handle_timer(self.now + INBOUND_GRACE)
        assert self.session.deadline is None

    def carries(self, spi: int) -> bool:
        try:
            self.session.pump.child_counters(spi)
        except KeyError:
            return False
        return True


def test_the_first_child_sa_configures_the_machine_and_only_then_the_tunnel_is_connected() -> None:
    rig = Rig()
    rig.up()
    assert rig.link.established
    assert rig.machine.kernel.state
    assert rig.heard == ["configuring", "connected"]
    assert rig.status.life.state is State.CONNECTED
    assert not rig.session.confirm(PATH), "the gateway knows this path"
    assert rig.session.confirm(replace(PATH, local_address=GATEWAY))
    assert rig.carries(CHILD.spi_in)


def test_a_machine_that_refuses_keeps_the_tunnel_from_being_connected() -> None:
    rig = Rig()
    rig.machine.faults.at = 1
    rig.up()
    assert isinstance(rig.link.failure, PlatformError)
    assert not rig.link.established
    assert rig.status.life.state is State.CONNECTING
    assert rig.heard == ["configuring"]


def test_a_rekeyed_child_sa_takes_over_and_the_old_one_receives_a_moment_longer() -> None:
    rig = Rig()
    rig.up()
    rig.session.handle(replace(SECOND, replaces=CHILD.spi_in), rig.link)
    rig.session.handle(ChildClosed(spi_in=CHILD.spi_in, replaced=True), rig.link)
    assert list(rig.status.children) == [SECOND.spi_in]
    assert rig.status.counts.child_rekeys == 1
    assert rig.heard[-1] == "rekeyed"
    assert rig.carries(CHILD.spi_in)
    rig.expire()
    assert not rig.carries(CHILD.spi_in)
    assert rig.carries(SECOND.spi_in)


def test_the_only_child_sa_deleted_by_the_gateway_is_made_again_by_the_next_packet() -> None:
    """The routes stay meanwhile."""
    rig = Rig()
    rig.up()
    rig.session.handle(ChildClosed(spi_in=CHILD.spi_in, replaced=False), rig.link)
    assert rig.status.idle
    assert rig.session.pump.table.awaited is not None
    assert rig.machine.kernel.state
    rig.session.handle(SECOND, rig.link)
    assert not rig.status.idle
    assert rig.heard[-2:] == ["child-closed", "child-created"]


def test_a_lost_connection_keeps_the_machine_and_drops_the_keys() -> None:
    rig = Rig()
    rig.up()
    rig.session.lose(NoResponse("silence"))
    assert rig.status.life.state is State.RECONNECTING
    assert rig.status.problems.last_error == "silence"
    assert not rig.carries(CHILD.spi_in)
    assert rig.machine.kernel.state
    rig.session.lose(NoResponse("silence"))
    assert rig.heard.count("reconnecting") == 1


def test_the_loss_of_a_path_that_was_told_is_not_told_again() -> None:
    rig = Rig()
    rig.up()
    rig.status.life.happens(Input.PATH_LOST)
    rig.session.lose(NoResponse("silence"))
    assert "reconnecting" not in rig.heard


def test_a_connection_that_takes_over_confirms_the_path() -> None:
    rig = Rig()
    rig.up()
    rig.status.life.happens(Input.PATH_LOST)
    rig.session.prepare([CONFIGURATION, SECOND], rig.link)
    rig.session.supersede()
    assert rig.status.children == {}
    rig.session.handle(SECOND, rig.link)
    rig.session.reauthenticated(rig.link)
    assert rig.status.life.state is State.CONNECTED
    assert rig.heard[-1] == "reauthenticated"
    rig.expire()
    assert not rig.carries(CHILD.spi_in)
    assert rig.carries(SECOND.spi_in)


@pytest.mark.parametrize("passed", [None, "in", "out"])
def test_a_connection_is_idle_if_nothing_passed_in_either_direction(passed: str | None) -> None:
    rig = Rig()
    rig.up()
    rig.now += 10
    if passed == "in":
        rig.session.pump._reception.last_inbound = rig.now - 1
    elif passed == "out":
        rig.session.pump._sender.last_outbound = rig.now - 1
    assert rig.session.quiet_for(5) is (passed is None)


def test_a_notice_is_kept_as_a_warning() -> None:
    rig = Rig()
    rig.session.handle(Notice(text="the certificate expires tomorrow"), rig.link)
    assert rig.status.problems.warnings == ["the certificate expires tomorrow"]


def test_the_end_is_told_only_if_there_was_a_tunnel() -> None:
    for connected in (False, True):
        rig = Rig()
        if connected:
            rig.up()
        rig.status.life.happens(Input.CLOSE)
        rig.session.lose(None)
        rig.session.end()
        assert rig.status.life.state is State.DISCONNECTED
        assert not rig.machine.kernel.state
        assert ("disconnected" in rig.heard) is connected
