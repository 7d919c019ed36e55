"""Whole tunnels under virtual time: connect, loss, reconnect, move, refusal, reload, and all of it in any order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sim_gateway import PASSWORD, GatewaySetup
from sim_tunnel import CABLE, DELAY, GATEWAY, SECOND, WIFI, TunnelWorld, play, profile
from sim_world import altered, client_config

from ikeclient.errors import AuthenticationFailed, IkeclientError, NoResponse
from ikeclient.ike.config import EapAuth, IkeConfig
from ikeclient.ike.v2.state import State as IkeState
from ikeclient.tunnel.state import State

MOBILE = GatewaySetup(mobike=True)


def with_password(password: str) -> IkeConfig:
    config = client_config("eap")
    assert isinstance(config.auth, EapAuth)
    return replace(config, auth=replace(config.auth, password=password))


def test_a_tunnel_connects_and_leaves_the_machine_as_it_was() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        assert world.said[0] == ("resolving", State.RESOLVING)
        assert world.said[-1] == ("connected", State.CONNECTED)
        await world.stop()
        assert world.sa.state is IkeState.CLOSED, "the gateway was told"
        assert world.heard == ["connected", "disconnected"]

    play(scenario)


def test_the_same_seed_gives_the_same_run_to_the_last_byte() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.network.cut.add(GATEWAY)
        await world.until(lambda: world.life is State.RECONNECTING, 600)
        world.network.cut.clear()
        await world.until(lambda: world.connected, 100)
        await world.stop()

    first, second, other = (play(scenario, seed=seed).digest for seed in (7, 7, 8))
    assert first == second
    assert first != other


# Connecting


@pytest.mark.parametrize("moment", [0.0, 0.5 * DELAY, 1.5 * DELAY, 3.5 * DELAY, 4.5 * DELAY])
def test_a_tunnel_that_is_stopped_while_it_connects_changes_nothing(moment: float) -> None:
    async def scenario(world: TunnelWorld) -> None:
        world.loop.call_later(moment, world.connection.stop)
        assert await world.ended(within=10) is None
        assert world.machine.configs == []
        assert "connected" not in world.heard

    play(scenario)


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    async def scenario(world: TunnelWorld) -> None:
        world.network.cut.add(GATEWAY)
        await world.until(lambda: world.connected, 31)
        assert world.connection.session.status.gateway_address == str(SECOND)
        assert ("notice", State.CONNECTING) in world.said
        await world.stop()

    play(scenario, addresses=(GATEWAY, SECOND))


@pytest.mark.parametrize("why", ["no name", "no network", "silence"])
def test_a_first_connection_that_cannot_be_made_ends_the_tunnel_within_its_time(why: str) -> None:
    async def scenario(world: TunnelWorld) -> None:
        if why == "no name":
            world.addresses.clear()
        elif why == "no network":
            world.network.ours.clear()
        else:
            world.network.cut.add(GATEWAY)
        began = world.loop.now
        assert isinstance(await world.ended(within=40), NoResponse)
        assert world.loop.now - began <= 31
        assert world.machine.configs == []

    play(scenario)


def test_refused_credentials_end_the_first_connection_and_no_other_address_is_asked() -> None:
    """E9: with a gateway that has proven itself another guess would be one more guess."""

    async def scenario(world: TunnelWorld) -> None:
        assert isinstance(await world.ended(within=10), AuthenticationFailed)
        assert [stage for stage, _ in world.gateway.requests].count("auth") == 1

    play(
        scenario,
        setup=GatewaySetup(auth="eap"),
        with_profile=profile(with_password("a guess")),
        addresses=(GATEWAY, SECOND),
    )


# Losses


def test_a_silent_gateway_is_reported_and_then_connected_to_again() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        status = world.connection.session.status
        world.network.cut.add(GATEWAY)
        await world.until(lambda: world.life is State.MOVING, 120)
        assert status.life.word == "reconnecting"
        await world.until(lambda: world.life is State.RECONNECTING, 600)
        world.network.cut.clear()
        await world.until(lambda: world.connected, 100)
        assert status.counts.reconnects == 1
        assert world.heard == ["connected", "reconnecting", *["reconnecting"] * (len(world.heard) - 3), "connected"]
        await world.stop()

    play(scenario)


def test_a_short_silence_is_over_without_another_login() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.network.cut.add(GATEWAY)
        await world.until(lambda: world.life is State.MOVING, 120)
        world.network.cut.clear()
        await world.until(lambda: world.connected, 60)
        assert len(world.gateway.connected) == 1
        assert world.heard == ["connected", "reconnecting", "connected"], "who was told of the loss is told of its end"
        await world.stop()

    play(scenario)


def test_a_connection_that_the_gateway_ends_is_made_again_at_once() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.at_gateway(lambda sa, now: sa.delete(now))
        await world.until(lambda: world.life is State.RECONNECTING, 1)
        await world.until(lambda: world.connected, 5)
        assert len(world.gateway.connected) == 2
        await world.stop()

    play(scenario)


def test_a_tunnel_that_shall_not_be_made_again_ends_with_its_connection() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.at_gateway(lambda sa, now: sa.delete(now))
        assert isinstance(await world.ended(within=10), IkeclientError)
        assert world.heard == ["connected", "reconnecting", "disconnected"]

    play(scenario, with_profile=profile(retry=0))


def test_a_command_makes_the_connection_again_without_a_pause() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.connection.reconnect()
        await world.until(lambda: world.life is State.RECONNECTING, 1)
        await world.until(lambda: world.connected, 0.5)
        await world.stop()

    play(scenario)


def test_a_stop_in_the_pause_between_attempts_is_obeyed_at_once() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.network.cut.add(GATEWAY)
        world.connection.reconnect()
        await world.until(lambda: world.heard.count("reconnecting") > 2, 600)
        await world.stop()

    play(scenario)


def test_credentials_refused_in_a_row_end_a_tunnel_that_was_up_and_it_is_said() -> None:
    """S21"""

    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.gateway.setup.password = "changed meanwhile"
        world.connection.reconnect()
        error = await world.ended(within=600)
        assert isinstance(error, AuthenticationFailed)
        assert "protects nothing" in (error.hint or "")
        assert [stage for stage, _ in world.gateway.requests].count("auth") == 1 + 3

    setup = GatewaySetup(auth="eap", password=PASSWORD)
    play(scenario, setup=setup, with_profile=profile(with_password(PASSWORD), refusals=3))


# Rekeys


def test_keys_are_renewed_for_an_hour_and_the_connection_stays() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        status = world.connection.session.status
        await world.until(lambda end=world.loop.now + 3600: world.loop.now > end, 3601)  # type: ignore[misc]
        assert world.heard.count("rekeyed") == status.counts.child_rekeys + status.counts.ike_rekeys
        assert status.counts.child_rekeys >= 11
        assert status.counts.ike_rekeys >= 5
        assert len(status.children) == 1
        assert status.counts.reconnects == 0
        await world.stop()

    ike = altered(client_config(), rekey_ike=600.0, rekey_child=300.0)
    play(scenario, with_profile=profile(ike))


# Moves


def test_a_tunnel_moves_with_the_machine_and_nobody_logs_in_again() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        status = world.connection.session.status
        world.network.move(CABLE)
        await world.until(lambda: status.counts.roams == 1, 5)
        assert world.life is State.CONNECTED
        assert status.path is not None
        assert status.path.local_address == CABLE
        assert len(world.gateway.connected) == 1
        assert "reconnecting" not in world.heard
        await world.stop()
        assert world.sa.state is IkeState.CLOSED, "the DELETE took the new path"

    play(scenario, setup=MOBILE)


def test_without_a_network_a_tunnel_waits_for_one() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.network.move()
        assert world.life is State.MOVING
        world.loop.call_later(5, world.network.move, CABLE)
        await world.until(lambda: world.connected, 30)
        assert len(world.gateway.connected) == 1
        await world.stop()

    play(scenario, setup=MOBILE)


def test_without_mobike_a_move_is_a_new_connection() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.network.move(CABLE)
        await world.until(lambda: world.connection.session.status.counts.reconnects == 1, 10)
        await world.stop()

    play(scenario)


# Reloads, and two links at once


def test_a_changed_network_is_applied_without_another_login() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        changed = profile()
        changed = replace(changed, network=replace(changed.network, mtu=1300))
        await world.connection.adopt(changed)
        assert world.machine.configs[-1].mtu == 1300
        assert len(world.gateway.connected) == 1
        assert world.heard == ["connected", "reloaded"]
        await world.stop()

    play(scenario)


def test_a_changed_login_is_a_second_link_that_takes_over() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        await world.connection.adopt(profile(altered(client_config(), liveness=77.0)))
        assert world.life is State.CONNECTED
        await world.until(lambda: "reauthenticated" in world.heard, 10)
        assert "reconnecting" not in world.heard
        first, second = (each.current for each in world.gateway.connected)
        await world.until(lambda: first.state is IkeState.CLOSED, 10)
        assert second.state is IkeState.ESTABLISHED
        await world.stop()
        assert second.state is IkeState.CLOSED

    play(scenario)


def test_a_profile_that_the_gateway_does_not_take_is_given_up_for_the_former_one() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        await world.connection.adopt(profile(with_password("a typing error")))
        await world.until(lambda: any("former profile" in note for note in world.notes), 60)
        assert world.connected
        assert world.heard == ["connected", "reloaded"]
        assert world.connection.session.profile.ike == with_password(PASSWORD)
        await world.stop()

    play(scenario, setup=GatewaySetup(auth="eap"), with_profile=profile(with_password(PASSWORD)))


def test_a_profile_read_again_before_the_first_connection_waits_for_it() -> None:
    async def scenario(world: TunnelWorld) -> None:
        changed = profile()
        changed = replace(changed, network=replace(changed.network, mtu=1300))
        await world.connection.adopt(changed)
        assert world.machine.configs == []
        await world.until(lambda: "reloaded" in world.heard, 30)
        assert world.machine.configs[-1].mtu == 1300
        await world.stop()

    play(scenario)


# Everything at once


@pytest.mark.parametrize("seed", range(24))
def test_whatever_happens_in_any_order_nothing_leaves_past_the_tunnel_and_it_comes_back(seed: int) -> None:
    """S21, K22: moves, silence, commands, reloads, rekeys and the gateway's own ends, with one datagram in ten lost.

    `TunnelWorld.until` checks all the time that the machine's routes are in place, and no impossible pair of the
    table is met.
    """

    ike = altered(client_config(), rekey_ike=90.0, rekey_child=35.0) if seed % 3 == 0 else client_config()

    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        chance = world.chance
        world.network.lost = lambda: chance.random() < 0.1
        turns = 0

        async def reload() -> None:
            await world.connection.adopt(profile(altered(ike, liveness=30.0 + turns)))

        for turns in range(12):  # noqa: B007  `reload` reads it
            match chance.randrange(7):
                case 0:
                    world.network.move(*chance.sample([WIFI, CABLE], chance.randrange(3)))
                case 1:
                    world.network.cut = {chance.choice([GATEWAY, WIFI, CABLE])}
                case 2:
                    world.network.cut.clear()
                case 3:
                    world.connection.reconnect()
                case 4:
                    await reload()
                case 5:
                    world.at_gateway(lambda sa, now: sa.delete(now) if sa.state is IkeState.ESTABLISHED else None)
                case _:
                    world.connection.renew()
            end = world.loop.now + chance.random() * 40
            await world.until(lambda end=end: world.loop.now >= end, 50)  # type: ignore[misc]
        world.network.cut.clear()
        world.network.lost = lambda: False
        world.network.move(WIFI)
        world.connection.packet_waits()  # the gateway may have ended connections for being idle
        await world.until(lambda: world.connected and len(world.open_at_gateway) == 1, 900)
        await world.stop()

    play(scenario, seed=seed, setup=GatewaySetup(mobike=seed % 2 == 0), with_profile=profile(ike))
