"""What is looked after while a link is up, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from tunnel_fakes import FakeLink

from ikeclient.tunnel.data_path import LOOK
from ikeclient.tunnel.housekeeping import KEEPALIVE, QUIET, SILENCE, Housekeeping
from ikeclient.tunnel.roaming import SILENT
from ikeclient.tunnel.state import State
from ikeclient.tunnel.status import Life


@dataclass
class Pump:
    last_inbound: float | None = None
    last_outbound: float | None = None
    last_sent: float | None = None
    worn: list[int] = field(default_factory=list)

    def rekey_due(self) -> list[int]:
        return self.worn


@dataclass
class Rig:
    """One link that is looked after; time is what the test says."""

    now: float = 1000.0
    pump: Pump = field(default_factory=Pump)
    link: FakeLink = field(default_factory=FakeLink)
    behind_nat: bool = False
    swallowed: list[bool] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    keepalives: list[float] = field(default_factory=list)
    searching: bool = False
    raise_at: float | None = None
    doubt_until: float = float("-inf")  # of the data path

    def __post_init__(self) -> None:
        self.nat = SimpleNamespace(local=self.behind_nat)
        self.status = SimpleNamespace(ike=SimpleNamespace(nat=self.nat), life=Life(state=State.CONNECTED))
        pump: Any = self.pump
        pump.send_keepalive = self.keep
        session: Any = SimpleNamespace(
            pump=self.pump, ports=SimpleNamespace(clock=lambda: self.now), status=self.status
        )
        roaming: Any = SimpleNamespace(look_after=self.look_after, path_mtu=self)
        keeper: Any = SimpleNamespace(look_after=lambda *_, **__: None, next_look=self.doubt)
        self.housekeeping = Housekeeping(session, roaming, keeper)
        link: Any = self.link
        self.housekeeping.begin(link)

    def keep(self) -> None:
        self.pump.last_sent = self.now
        self.keepalives.append(self.now)

    def look_after(self, _: object, now: float, *, swallowed: bool) -> None:
        self.looks.append(now)
        self.swallowed.append(swallowed)

    @property
    def next_look(self) -> float | None:
        return self.raise_at

    def doubt(self, now: float) -> float | None:
        return now + LOOK if now < self.doubt_until else None

    def run(self, seconds: float) -> int:
        """Let time pass; how often the tunnel woke up for this."""
        end, wakeups = self.now + seconds, 0
        self.housekeeping.stir()
        while (deadline := self.housekeeping.deadline) is not None and deadline <= end:
            self.now = max(deadline, self.now)
            wakeups += 1
            self.housekeeping.handle_timer(self.now)
            self.housekeeping.stir()
        self.now = end
        return wakeups


def test_nothing_is_looked_after_once_the_link_is_over() -> None:
    rig = Rig(behind_nat=True)
    rig.housekeeping.end()
    assert rig.run(2 * KEEPALIVE) == 0
    assert not rig.housekeeping.asleep
    assert (rig.looks, rig.keepalives, rig.link.calls) == ([], [], [])


def test_an_idle_link_is_looked_at_once_and_then_only_watched_for_traffic() -> None:
    rig = Rig()
    assert rig.run(3600) == 1
    assert rig.looks == [1000.0 + LOOK]
    assert rig.housekeeping.asleep


def test_an_idle_link_behind_a_nat_wakes_up_for_its_keepalives_alone() -> None:
    rig = Rig(behind_nat=True)
    rig.run(60)
    assert rig.run(60) == 3


def test_a_link_with_traffic_is_looked_at_once_a_second_and_a_while_longer() -> None:
    rig = Rig()
    rig.run(10)
    rig.pump.last_outbound = rig.now
    assert rig.housekeeping.asleep
    rig.housekeeping.traffic()
    assert not rig.housekeeping.asleep
    rig.looks.clear()
    rig.run(10)
    assert len(rig.looks) == 10
    rig.pump.last_inbound = rig.now
    rig.run(100)
    assert len(rig.looks) == 10 + QUIET
    assert rig.housekeeping.asleep


@pytest.mark.parametrize("why", ["size", "data path", "moving"])
def test_what_is_in_doubt_is_looked_at_once_a_second_without_traffic(why: str) -> None:
    rig = Rig()
    rig.run(10)
    rig.looks.clear()
    rig.searching = why == "size"
    rig.doubt_until = rig.now + 1000 if why == "data path" else 0.0
    rig.status.life.state = State.MOVING if why == "moving" else State.CONNECTED
    rig.run(10)
    assert len(rig.looks) == 10


def test_a_request_without_an_answer_is_looked_at_when_that_is_silence() -> None:
    rig = Rig()
    rig.run(10)
    rig.looks.clear()
    rig.link.unanswered_since = rig.now
    rig.run(SILENT - 0.1)
    assert rig.looks == []
    rig.run(0.1)
    assert rig.looks == [1010.0 + SILENT]
    rig.link.unanswered_since = None


def test_an_answer_that_comes_costs_no_look() -> None:
    rig = Rig()
    rig.run(10)
    rig.looks.clear()
    rig.link.unanswered_since = rig.now
    rig.run(0.1)
    rig.link.unanswered_since = None
    assert rig.run(60) == 0
    assert rig.looks == []


def test_silence_that_proves_nothing_is_looked_at_again_and_not_without_end() -> None:
    """N27: while answers may lie unread, nobody is called silent."""
    rig = Rig()
    rig.link.unanswered_since = rig.now
    assert rig.run(20) <= 20


def test_more_is_tried_on_an_idle_path_when_that_is_due() -> None:
    rig = Rig()
    rig.raise_at = rig.now + 600
    assert rig.run(599) == 1
    rig.looks.clear()
    rig.run(1)
    assert rig.looks == [1600.0]


def test_what_is_sent_moves_the_keepalive() -> None:
    rig = Rig(behind_nat=True)
    rig.pump.last_sent = 1000.0
    rig.run(7)
    rig.pump.last_sent = rig.now
    rig.run(33)
    assert rig.keepalives == [pytest.approx(1000.0 + 7 + KEEPALIVE)]


def test_an_idle_path_behind_no_nat_gets_its_keepalive_in_time_once_there_is_one() -> None:
    """After a move, which sent something."""
    rig = Rig()
    rig.pump.last_sent = 900.0
    rig.run(KEEPALIVE + 3)
    rig.nat.local, rig.pump.last_sent = True, rig.now
    rig.run(2 * KEEPALIVE - 3)
    assert rig.keepalives == [pytest.approx(1000.0 + KEEPALIVE + 3 + KEEPALIVE)]


def test_a_natted_path_is_kept_open_when_nothing_else_is_sent() -> None:
    """RFC 3948 section 4."""
    rig = Rig(behind_nat=True)
    rig.pump.last_sent = 1000.0
    rig.run(3 * KEEPALIVE)
    assert rig.keepalives == [pytest.approx(1000.0 + n * KEEPALIVE) for n in (1, 2, 3)]


def test_no_keepalive_is_sent_without_a_nat() -> None:
    rig = Rig()
    rig.run(3 * KEEPALIVE)
    assert rig.keepalives == []


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
