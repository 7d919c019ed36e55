"""What an observer sees of a connection."""

from __future__ import annotations

import random

import pytest
from sim_world import World

from ikeclient.ike.events import ChildEstablished
from ikeclient.ike.observation import CandidateTried, MessageSeen, Observation
from ikeclient.ike.v2.initiator import Initiator
from ikeclient.wire.registry import ExchangeType, PayloadType


def watched(**kind: object) -> tuple[World, list[Observation]]:
    """A world whose client is watched."""
    seen: list[Observation] = []
    world = World(**kind)  # type: ignore[arg-type]
    world.client = Initiator(world.config, random.Random(0).randbytes, world._wall_clock, seen.append)
    return world, seen


def up(world: World) -> bool:
    return any(isinstance(event, ChildEstablished) for event in world.events)


def test_every_message_of_both_ends_is_seen_opened() -> None:
    world, seen = watched()
    world.start()
    assert world.run(10, up)
    messages = [each for each in seen if isinstance(each, MessageSeen)]
    assert [(each.header.exchange, each.sent, each.header.response) for each in messages] == [
        (ExchangeType.IKE_SA_INIT, True, False),
        (ExchangeType.IKE_SA_INIT, False, True),
        (ExchangeType.IKE_AUTH, True, False),
        (ExchangeType.IKE_AUTH, False, True),
    ]
    assert PayloadType.AUTH in [payload.TYPE for payload in messages[-1].payloads]
    assert all(each.lengths for each in messages)
    assert [each.suite for each in seen if isinstance(each, CandidateTried)] == ["aes128gcm16-prfsha256-x25519"]


def test_repetitions_are_counted() -> None:
    world, seen = watched(drop=lambda sent: True)
    world.start()
    world.run(5)
    attempts = [each.attempt for each in seen if isinstance(each, MessageSeen) and each.path.remote_port == 500]
    assert attempts == list(range(1, len(attempts) + 1))
    assert len(attempts) > 2


def test_the_round_trip_is_that_of_a_request_that_was_sent_once() -> None:
    """An answer to a request that was sent again may be one to the first try; a login may wait for a person."""
    world, _ = watched()
    world.start()
    assert world.run(10, up)
    assert world.client.round_trip is None
    world.client.check_liveness(world.now)
    world._flush()
    world.run(1)
    assert world.client.round_trip == pytest.approx(2 * world.weather.delay)
    world.client.rekey(world.now)
    world._flush()
    world.run(3)
    assert world.client.round_trip == pytest.approx(2 * world.weather.delay), "the successor knows it"
