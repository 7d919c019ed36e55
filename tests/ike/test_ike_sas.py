"""The IKE SAs of one connection: who gets a message, and what is left when rekeys cross."""

from __future__ import annotations

import random

from sim_script import INFORMATIONAL, Scribe
from sim_world import World, altered, client_config

from ikeclient.ike.v2.ike_sas import IkeSas
from ikeclient.ike.v2.state import State


def ike_sas(world: World) -> IkeSas:
    assert world.client._ike_sas is not None
    return world.client._ike_sas


def test_a_message_goes_to_the_ike_sa_that_its_spis_name() -> None:
    """Also to one that was replaced and waits for its DELETE."""
    world = World()
    world.connect()
    old = Scribe(world.sa.keying)
    world.at_gateway(lambda sa, now: sa.rekey(now))
    world.drop = lambda sent: not sent.to_gateway
    world.run(0.05)
    (replaced,) = ike_sas(world).leaving
    assert replaced.state is State.REPLACED
    before = len(world.log)
    world.to_client(old.one(INFORMATIONAL, (), message_id=1))
    assert world.log[before].data[:16] == replaced.keying.spi_i + replaced.keying.spi_r


def test_the_successor_inherits_children_identity_and_path() -> None:
    world = World()
    world.connect()
    before = world.sa
    child = next(iter(before.children))
    world.at_client(lambda client, now: client.rekey(now))
    world.run(1)
    after = world.sa
    assert after is not before
    assert list(after.children) == [child]
    assert not list(before.children)
    assert after.outcome is before.outcome
    assert after.channel.path == before.channel.path
    assert after.channel.requests.next_id == 0
    assert before.state is State.CLOSED
    assert ike_sas(world).leaving == []


def test_closing_closes_every_ike_sa() -> None:
    world = World()
    world.connect()
    world.at_gateway(lambda sa, now: sa.rekey(now))
    world.run(0.03)
    world.drop = lambda sent: not sent.to_gateway
    world.at_client(lambda client, now: client.close(now))
    deleted = {sent.data[:16] for sent in world.log[-2:]}
    assert len(deleted) == 2


def test_the_next_deadline_is_the_earliest_of_all() -> None:
    world = World(config=altered(client_config(), liveness=30.0))
    world.connect()
    world.at_client(lambda client, now: client.rekey(now))
    world.drop = lambda _: True
    assert ike_sas(world).next_deadline() == world.now + 0.5


def test_rekeying_again_and_again_leaves_nothing_behind() -> None:
    world = World()
    world.connect()
    chance = random.Random(1)
    for _ in range(30):
        if chance.random() < 0.5:
            world.at_client(lambda client, now: client.rekey(now))
        else:
            world.at_gateway(lambda sa, now: sa.rekey(now))
        world.run(chance.random() / 10)
    world.run(100)
    assert not world.closed
    assert ike_sas(world).leaving == []
    assert world.gateway.connected[0].leaving == []
