"""What is looked after once a second."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from sim_tunnel import VirtualLoop
from tunnel_fakes import FakeLink

from ikeclient.tunnel.housekeeping import KEEPALIVE, LOOK, SILENCE, Housekeeping


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
    link: FakeLink = field(default_factory=FakeLink)
    behind_nat: bool = False
    swallowed: list[bool] = field(default_factory=list)
    move_at: float | None = None  # seconds after which the machine is behind a NAT

    def _move(self, nat: SimpleNamespace) -> None:
        nat.local, self.pump.last_sent = True, self.pump.clock()

    def run(self, seconds: float, *, ended: bool = False) -> None:
        """Let housekeeping work for so long; with `ended` it is told at once that the link is over."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            self.pump.clock = loop.time
            nat = SimpleNamespace(local=self.behind_nat)
            if self.move_at is not None:
                loop.call_later(self.move_at, self._move, nat)
            session: Any = SimpleNamespace(
                pump=self.pump,
                ports=SimpleNamespace(clock=loop.time, later=loop.call_later),
                status=SimpleNamespace(ike=SimpleNamespace(nat=nat)),
            )
            roaming: Any = SimpleNamespace(
                look_after=lambda _, now, swallowed: self.swallowed.append(swallowed), searching=False
            )
            keeper: Any = SimpleNamespace(look_after=lambda *_, **__: None)
            housekeeping = Housekeeping(session, roaming, keeper)
            link: Any = self.link
            housekeeping.begin(link)
            if ended:
                housekeeping.end()
            await asyncio.sleep(seconds + LOOK / 2)
            housekeeping.end()

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(main())


def test_nothing_is_looked_after_once_the_link_is_over() -> None:
    rig = Rig(behind_nat=True)
    rig.run(2 * KEEPALIVE, ended=True)
    assert rig.swallowed == []
    assert rig.pump.keepalives == []
    assert rig.link.calls == []


def test_a_link_is_looked_at_once_a_second() -> None:
    rig = Rig()
    rig.run(10)
    assert len(rig.swallowed) == 10


def test_what_is_sent_moves_the_keepalive() -> None:
    rig = Rig(behind_nat=True)
    rig.pump.last_sent = 1000.0 + 7
    rig.run(40)
    assert rig.pump.keepalives == [pytest.approx(1000.0 + 7 + KEEPALIVE)]


def test_an_idle_path_behind_no_nat_gets_its_keepalive_in_time_once_there_is_one() -> None:
    """After a move, which sent something."""
    rig = Rig()
    rig.pump.last_sent = 900.0
    rig.move_at = KEEPALIVE + 3
    rig.run(3 * KEEPALIVE)
    assert rig.pump.keepalives == [pytest.approx(1000.0 + rig.move_at + KEEPALIVE)]


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
    rig.pump.last_inbound = 1010.0
    rig.pump.last_outbound = 1010.0 + SILENCE
    rig.run(1)
    assert rig.link.last_heard == 1010.0
    assert rig.swallowed == [False]


def test_keys_that_are_worn_out_are_replaced_whatever_their_age() -> None:
    rig = Rig(pump=Pump(worn=[7, 9]))
    rig.run(1)
    assert rig.link.asked("rekey_child") == [(7,), (9,)]
    assert rig.link.calls[-1] == ("flush",), "and it is sent"
