"""What is looked after once a second."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from sim_tunnel import VirtualLoop
from tunnel_fakes import FakeLink

from ikeclient.tunnel.housekeeping import KEEPALIVE, SILENCE, TICK, housekeeping
from ikeclient.tunnel.links import Links


@dataclass
class Pump:
    last_inbound: float | None = None
    last_outbound: float | None = None
    last_sent: float | None = None
    worn: list[int] = field(default_factory=list)
    keepalives: list[float] = field(default_factory=list)
    clock: Any = None

    def rekey_due(self) -> list[int]:
        return self.worn

    def send_keepalive(self) -> None:
        self.last_sent = self.clock()
        self.keepalives.append(self.last_sent)


@dataclass
class Rig:
    pump: Pump = field(default_factory=Pump)
    link: FakeLink | None = field(default_factory=FakeLink)
    behind_nat: bool = False
    swallowed: list[bool] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Let housekeeping work for so long."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            self.began, self.pump.clock = loop.time(), loop.time
            nat = SimpleNamespace(local=self.behind_nat)
            session: Any = SimpleNamespace(
                pump=self.pump,
                ports=SimpleNamespace(clock=loop.time),
                status=SimpleNamespace(ike=SimpleNamespace(nat=nat)),
            )
            roaming: Any = SimpleNamespace(
                look_after=lambda _, now, swallowed: self.swallowed.append(swallowed), searching=False
            )
            keeper: Any = SimpleNamespace(look_after=lambda *_, **__: None)
            links: Any = Links()
            links.current = self.link
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(housekeeping(links, session, roaming, keeper), seconds + TICK / 2)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(main())


def test_nothing_is_looked_after_without_a_connection() -> None:
    for link in (None, FakeLink(established=False)):
        rig = Rig(link=link)
        rig.run(10)
        assert rig.swallowed == []
        assert link is None or link.calls == []


def test_a_natted_path_is_kept_open_when_nothing_else_is_sent() -> None:
    """RFC 3948 section 4."""
    rig = Rig(behind_nat=True)
    rig.pump.last_sent = 1000.0
    rig.run(3 * KEEPALIVE)
    assert rig.pump.keepalives == [pytest.approx(1000.0 + n * KEEPALIVE) for n in (1, 2, 3)]


def test_no_keepalive_is_sent_without_a_nat() -> None:
    rig = Rig()
    rig.run(3 * KEEPALIVE)
    assert rig.pump.keepalives == []


def test_traffic_that_finds_no_answer_has_the_gateway_asked_whether_it_is_there() -> None:
    rig = Rig()
    assert rig.link is not None
    rig.link.last_heard = 1000.0
    rig.pump.last_outbound = 1000.0 + SILENCE
    rig.run(1)
    assert rig.link.asked("check_liveness") == []
    rig.pump.last_outbound += 0.5
    rig.run(1)
    assert len(rig.link.asked("check_liveness")) == 1
    assert rig.swallowed == [False, True]


def test_esp_that_comes_is_a_sign_of_life() -> None:
    rig = Rig()
    assert rig.link is not None
    rig.pump.last_inbound = 1010.0
    rig.pump.last_outbound = 1010.0 + SILENCE
    rig.run(1)
    assert rig.link.last_heard == 1010.0
    assert rig.swallowed == [False]


def test_keys_that_are_worn_out_are_replaced_whatever_their_age() -> None:
    rig = Rig(pump=Pump(worn=[7, 9]))
    rig.run(1)
    assert rig.link is not None
    assert rig.link.asked("rekey_child") == [(7,), (9,)]
    assert rig.link.calls[-1] == ("flush",), "and it is sent"
