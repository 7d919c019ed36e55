"""Several answers to IKE_SA_INIT, two ports, and what may be believed when (RFC 7296 sections 2.4 and 2.21)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sim_gateway import GatewaySetup
from sim_script import AUTH, INIT, authenticating, deletes, forged_init, opened
from sim_world import PATH, Weather, World, assert_same_state, client_config

from ikeclient.errors import GatewayNotAuthenticated, NoResponse
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Message
from ikeclient.wire.registry import NotifyType

SLOW = Weather(delay=0.1)


def test_answers_that_give_the_same_keys_are_one_candidate() -> None:
    """Else two IKE SAs would use the same keys with the same IVs. Here a reserved byte of the KE payload differs."""
    world = World(weather=SLOW)
    world.start()
    assert world.run(1, lambda w: not w.log[-1].to_gateway)
    genuine = world.log[-1].data
    altered = bytearray(genuine)
    at = genuine.index(b"\x00\x1f\x00\x00", 28) + 2
    altered[at] = 1
    assert Message.parse(bytes(altered)).payloads == Message.parse(genuine).payloads
    world.to_client(bytes(altered))
    world.run(0.15)
    assert len({sent.data for sent in world.log if sent.data[18] == AUTH and sent.to_gateway}) == 1


def test_answers_with_the_same_spis_and_other_keys_are_two_candidates() -> None:
    """Somebody who could see the genuine answer cannot get in its way by copying the SPI."""
    world = World(weather=SLOW)
    world.start()
    assert world.run(1, lambda w: not w.log[-1].to_gateway)
    genuine = world.log[-1].data
    forged = bytearray(forged_init(world))
    forged[8:16] = genuine[8:16]
    world.to_client(bytes(forged))
    assert world.run(5, World.finished)
    assert world.connected
    world.run(60)
    assert_same_state(world)


def test_only_the_first_candidate_asks_to_forget_older_connections() -> None:
    """Else a second one of the same gateway's would end the first."""
    world = World(weather=SLOW)
    world.start()
    world.run(0.05)
    contacts = []
    for number in range(3):
        world.to_client(forged_init(world, seed=str(number)))
        contender = world.client._handshake._contenders[-1]  # type: ignore[union-attr]
        payloads = opened(world.log[-1].data, contender.sa.keying)
        types = [p.type for p in payloads if isinstance(p, NotifyPayload)]
        contacts.append(NotifyType.INITIAL_CONTACT in types)
    assert contacts == [True, False, False]


def test_the_winner_ends_the_other_candidates() -> None:
    world = World(weather=SLOW)
    world.start()
    world.run(0.05)
    world.to_client(forged_init(world))
    forged = authenticating(world)
    assert world.run(5, World.finished)
    assert world.connected
    assert deletes(world, forged)


def test_the_gateway_is_not_met_on_both_ports_at_once() -> None:
    """It answers on 500 only when 4500 has been tried too; then IKE_AUTH is tried in one IKE SA."""
    world = World(drop=lambda sent: sent.data[18] == AUTH)
    world.drop = lambda sent: sent.data[18] == AUTH or (not sent.to_gateway and world.now < 1.3)
    world.start()
    world.run(2.5)
    assert len({sent.data[:8] for sent in world.log if sent.data[18] == INIT}) == 2
    assert len({sent.data[:16] for sent in world.log if sent.data[18] == AUTH}) == 1


def test_the_other_port_gets_its_chance_when_the_first_is_mute() -> None:
    """Somebody answers IKE_SA_INIT on port 500 and nothing else; the gateway is behind port 4500 only."""
    for when in (1.15, 1.21):
        world = World(drop=lambda sent: 500 in (sent.path.remote_port, sent.path.local_port))
        world.start()
        world.run(when)
        world.to_client(forged_init(world), PATH)
        assert world.run(10, World.finished)
        assert world.connected


def test_a_verified_gateway_is_believed_at_once() -> None:
    """A wrong password is reported without waiting for better answers."""
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap", password="another"))
    world.start()
    assert world.run(2, lambda w: w.closed)
    assert world.now < 0.4


def test_the_first_failure_is_reported_when_nobody_better_came() -> None:
    """A candidate that failed and one that stays silent: the reason of the first is worth more at the deadline."""
    config = replace(client_config(), gateway_identity=None, timeout=5.0)
    world = World(config=config, setup=GatewaySetup(psk=b"another"), weather=Weather(delay=0.01))
    world.start()
    world.to_client(forged_init(world))
    assert world.run(6, lambda w: w.closed)
    assert world.now == pytest.approx(5.0)
    assert world.error is not None
    assert not isinstance(world.error, NoResponse)
    assert not isinstance(world.error, GatewayNotAuthenticated)


def test_the_deadline_counts_from_the_start() -> None:
    world = World(config=replace(client_config(), timeout=4.0), drop=lambda _: True)
    world.now = 1000.0
    world.start()
    assert world.run(10, lambda w: w.closed)
    assert world.now == pytest.approx(1004.0)
