"""The judgement about a silent data path, against cases that are a handful of flags and a clock."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.tunnel.data_path import CONNECT_FIRST, DataPath, Sight, Step

NOTICED = 15.0


@dataclass
class Traffic:
    """Looks once a second. `carries` is the data path, `answers` says whether this gateway answers probes."""

    carries: bool = True
    answers: bool = False
    replies: bool = True  # whether somebody answers the traffic
    sends: bool = True
    ike: bool = True
    excused: bool = False
    slow: float = 0.0  # how much longer than a second each look takes
    now: float = 100.0
    connection: int = 1
    path: str = "wifi"
    taken: list[tuple[float, Step]] = field(default_factory=list)
    judge: DataPath = field(default_factory=DataPath)
    _sent: float | None = None
    _received: float | None = None
    _heard: float = 100.0
    _probe: bool = False

    def run(self, seconds: float) -> list[Step]:
        """Let time pass, and return what was done in it, probes left out."""
        before, until = len(self.taken), self.now + seconds
        while self.now < until:
            self._second()
        return [step for _, step in self.taken[before:] if step is not Step.PROBE]

    def _second(self) -> None:
        self.now += 1 + self.slow
        answered = (self.sends and self.replies) or (self._probe and self.answers)
        if self.sends:
            self._sent = self.now - 0.3
        if self.carries and answered:
            self._received = self.now - 0.2
        self._heard = self.now - 0.5 if self.ike else self._heard
        self._probe = False
        sight = Sight(
            connection=self.connection,
            path=self.path,
            sent=self._sent,
            received=self._received,
            heard=max(self._heard, self._received or 0.0),
            excused=self.excused,
        )
        for step in self.judge.look(sight, self.now):
            self.taken.append((self.now, step))
            self._probe |= step is Step.PROBE
            if step is Step.RECONNECT:
                self.connection += 1

    def when(self, step: Step) -> float:
        return next(at for at, taken in self.taken if taken is step)


def test_a_path_that_carries_is_left_alone() -> None:
    traffic = Traffic()
    assert traffic.run(1000) == []
    assert traffic.taken == [], "not even a probe"


def test_a_tunnel_that_nobody_uses_is_left_alone() -> None:
    """S20: without traffic there is nothing to judge."""
    traffic = Traffic(sends=False, carries=False)
    assert traffic.run(1000) == []
    assert traffic.taken == []


@pytest.mark.parametrize("slow", [0.0, 0.6])
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("before", [0, 5, 300])
def test_every_step_is_taken_once_and_the_first_within_fifteen_seconds(before: int, answers: bool, slow: float) -> None:
    """S20: whatever was carried before, and whether or not this gateway answers probes."""
    traffic = Traffic(answers=answers, slow=slow)
    traffic.run(before)
    traffic.carries = False
    died = traffic.now
    assert traffic.run(3600) == [Step.REKEY, Step.RECONNECT, Step.GIVE_UP]
    assert traffic.when(Step.REKEY) - died <= NOTICED
    assert traffic.judge.silent
    traffic.carries = True
    assert traffic.run(30) == [Step.RECOVERED]
    assert not traffic.judge.silent


def test_new_keys_that_help_are_the_only_step() -> None:
    """S20: a gateway that had lost its SA."""
    traffic = Traffic()
    traffic.run(30)
    traffic.carries = False
    while not traffic.taken or traffic.taken[-1][1] is not Step.REKEY:
        traffic.run(1)
    traffic.carries = True
    assert traffic.run(600) == [Step.RECOVERED]


def test_traffic_that_nobody_answers_through_a_gateway_that_answers_probes() -> None:
    """S20: syslog for a day; the path is proven again and again, with little."""
    traffic = Traffic(replies=False, answers=True)
    assert traffic.run(86400) == []
    assert 0 < len(traffic.taken) < 86400 / 8


def test_traffic_that_nobody_answers_through_a_gateway_that_answers_nothing() -> None:
    """S20: nothing tells it from a dead path, so it may cost one new connection a day, and never a row of them."""
    traffic = Traffic()
    traffic.run(30)
    traffic.replies = False
    assert traffic.run(86400) == [Step.REKEY, Step.RECONNECT, Step.GIVE_UP]


def test_a_probe_that_was_answered_once_makes_a_later_silence_certain() -> None:
    """S20: the path dies under traffic that nobody ever answered."""
    traffic = Traffic(replies=False, answers=True)
    traffic.run(300)
    traffic.carries = False
    died = traffic.now
    assert traffic.run(120) == [Step.REKEY, Step.RECONNECT, Step.GIVE_UP]
    assert traffic.when(Step.REKEY) - died <= NOTICED
    assert traffic.when(Step.RECONNECT) - died <= 2 * NOTICED


def test_a_doubtful_silence_lasts_half_a_minute_before_it_costs_a_login() -> None:
    """S20"""
    traffic = Traffic()
    traffic.run(30)
    traffic.replies = False
    began = traffic.now
    traffic.run(120)
    assert traffic.when(Step.RECONNECT) - began >= 28


def test_one_packet_decides_nothing() -> None:
    """S20"""
    traffic = Traffic(replies=False)
    traffic.run(2)
    traffic.sends = False
    assert traffic.run(1000) == []


def test_a_dead_gateway_is_not_a_dead_data_path() -> None:
    """S14: where IKE is silent too, others decide."""
    traffic = Traffic(carries=False, ike=False)
    assert traffic.run(300) == []


def test_a_path_whose_size_is_being_looked_for_is_not_judged() -> None:
    """G8: a file that stalls because its packets are too long."""
    traffic = Traffic(carries=False, excused=True)
    assert traffic.run(300) == []


def test_a_move_after_which_nothing_comes_back_is_certain() -> None:
    """S20: a gateway whose kernel keeps the former address; what comes there for a moment proves nothing."""
    traffic = Traffic()
    traffic.run(30)
    traffic.path = "lte"
    moved = traffic.now
    traffic.run(4)
    traffic.carries = False
    assert traffic.run(60) == [Step.REKEY, Step.RECONNECT, Step.GIVE_UP]
    assert traffic.when(Step.REKEY) - moved <= NOTICED
    assert traffic.when(Step.RECONNECT) - moved <= 2 * NOTICED


def test_logins_for_this_reason_become_rare() -> None:
    """S20: a path that dies again and again may burn a one-time password each time."""
    traffic = Traffic()
    logins = 0
    for _ in range(48):
        traffic.carries = True
        traffic.run(600)
        traffic.carries = False
        logins += traffic.run(1200).count(Step.RECONNECT)
    assert 1 < logins <= 8


def test_a_connection_that_was_lost_otherwise_begins_with_the_first_step() -> None:
    traffic = Traffic(carries=False)
    assert traffic.run(9) == [Step.REKEY]
    traffic.connection += 1
    assert traffic.run(9) == [Step.REKEY]


@given(st.lists(st.tuples(st.sampled_from(["carries", "answers", "replies", "sends", "ike"]), st.integers(1, 90))))
def test_no_weather_makes_a_row_of_logins(changes: list[tuple[str, int]]) -> None:
    """S20: never two within ten minutes, and never one before new keys were tried."""
    traffic = Traffic()
    for name, seconds in changes:
        setattr(traffic, name, not getattr(traffic, name))
        traffic.run(seconds)
    logins = [at for at, step in traffic.taken if step is Step.RECONNECT]
    assert all(b - a >= CONNECT_FIRST for a, b in itertools.pairwise(logins))
    kinds = [step for _, step in traffic.taken if step is not Step.PROBE]
    assert all(kinds[i - 1] is Step.REKEY for i, step in enumerate(kinds) if step is Step.RECONNECT)
