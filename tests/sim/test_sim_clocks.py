"""Clocks that jump: a machine that slept counts the time, and a clock on the wall that is set changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sim_gateway import GatewaySetup
from sim_script import CREATE_CHILD
from sim_world import World, altered, assert_same_state, client_config

from ikeclient.errors import NoResponse
from ikeclient.ike.events import ChildEstablished

HOUR = 3600.0


def connected(**changes: object) -> World:
    config = altered(client_config(), **{"rekey_child": HOUR, "rekey_ike": 4 * HOUR, **changes})  # type: ignore[arg-type]
    world = World(config=config, setup=GatewaySetup(liveness=0.0))
    world.connect()
    world.run(1)
    return world


def sleep(world: World, seconds: float) -> None:
    """Nobody is called and nothing is sent; then the machine wakes up, which the monitor says."""
    world.now += seconds
    world.at_client(lambda client, now: client.check_liveness(now, suspicious=True))


def test_after_eight_hours_asleep_no_key_is_used_that_is_too_old() -> None:
    """S15: lifetimes count sleep, so the connection ends at once, to be made again."""
    world = connected()
    sleep(world, 8 * HOUR)
    assert world.run(3, lambda w: w.closed)
    assert isinstance(world.error, NoResponse)


def test_after_a_nap_a_gateway_that_is_still_there_is_asked_at_once_and_kept() -> None:
    """S15: same SAs, one question."""
    world = connected()
    before, children = len(world.log), [e for e in world.events if isinstance(e, ChildEstablished)]
    sleep(world, 0.5 * HOUR)
    assert len(world.log) == before + 1, "a liveness check, at once"
    world.run(5)
    assert not world.closed
    assert [e for e in world.events if isinstance(e, ChildEstablished)] == children
    assert_same_state(world)


def test_after_a_nap_a_gateway_that_is_gone_is_known_to_be_within_seconds() -> None:
    """S15"""
    world = connected()
    world.drop = lambda _: True
    sleep(world, 0.5 * HOUR)
    assert world.run(3, lambda w: w.closed)
    assert isinstance(world.error, NoResponse)


def test_a_nap_past_the_time_to_rekey_is_made_up_for_at_once() -> None:
    """S15: the keys are due, but not over."""
    world = connected()
    sleep(world, 1.05 * HOUR)
    before = len(world.log)
    world.run(5)
    assert any(sent.data[18] == CREATE_CHILD for sent in world.log[before - 1 :] if sent.to_gateway)
    assert not world.closed
    assert_same_state(world)


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(days=-1)], ids=["a day ahead", "a day back"])
def test_a_wall_clock_that_is_set_changes_nothing_in_a_connection(
    step: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S15: bit by bit and second by second the same six hours, with all their rekeys and liveness checks."""
    undisturbed = connected()
    undisturbed.run(6 * HOUR)
    world = connected()
    right: Callable[[World], datetime] = World._wall_clock
    monkeypatch.setattr(World, "_wall_clock", lambda self: right(self) + step)
    world.client._wall_clock = world._wall_clock
    world.run(6 * HOUR)
    assert not world.closed
    assert world.digest == undisturbed.digest
    assert len([e for e in world.events if isinstance(e, ChildEstablished)]) >= 6
