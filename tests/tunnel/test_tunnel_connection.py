"""The parts of a connection's life that the whole tunnels of `tests/sim` do not reach."""

from __future__ import annotations

from typing import Any

from sim_gateway import GatewaySetup
from sim_tunnel import GATEWAY, TunnelWorld, play, profile

from ikeclient.errors import PlatformError
from ikeclient.ike.v2.state import State as IkeState
from ikeclient.tunnel.state import State


def test_an_interface_that_can_be_made_again_costs_the_tunnel_nothing() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.connection.on_device_lost()
        assert world.connected
        assert any("it was made again" in note for note in world.notes)
        await world.stop()

    play(scenario)


def test_an_interface_that_is_gone_for_good_ends_the_tunnel_and_the_gateway_is_told() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        device: Any = world.device
        device.reopen = lambda: False
        world.connection.on_device_lost()
        error = await world.ended(within=5)
        assert isinstance(error, PlatformError)
        assert "is gone" in error.message
        assert world.sa.state is IkeState.CLOSED

    play(scenario)


def test_a_machine_that_refuses_the_first_connection_ends_it_at_the_gateway_too() -> None:
    async def scenario(world: TunnelWorld) -> None:
        world.machine.faults.at = 1
        assert isinstance(await world.ended(within=10), PlatformError)
        assert "connected" not in world.heard
        assert world.sa.state is IkeState.CLOSED

    play(scenario)


def test_the_reason_of_a_stop_is_what_the_tunnel_ends_with() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.connection.stop(PlatformError("the helper is gone"))
        world.connection.stop()
        error = await world.ended(within=5)
        assert error is not None
        assert error.message == "the helper is gone"

    play(scenario)


def test_a_stop_is_not_held_up_by_a_gateway_that_does_not_answer() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.network.cut.add(GATEWAY)
        began = world.loop.now
        world.connection.stop()
        assert await world.ended(within=5) is None
        assert world.loop.now - began < 2

    play(scenario)


def test_a_gateway_that_ends_idle_connections_gets_a_login_when_a_packet_wants_out() -> None:
    """G18"""

    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        for _ in range(2):
            await world.until(lambda: world.connected, 10)
            await world.until(lambda end=world.loop.now + 5: world.loop.now > end, 10)  # type: ignore[misc]
            world.at_gateway(lambda sa, now: sa.delete(now))
            await world.until(lambda: world.life is State.RECONNECTING, 5)
        logins = len(world.gateway.connected)
        await world.until(lambda end=world.loop.now + 3600: world.loop.now > end, 3601)  # type: ignore[misc]
        assert len(world.gateway.connected) == logins
        world.connection.on_waiting()
        await world.until(lambda: world.connected, 5)
        await world.stop()

    play(scenario, setup=GatewaySetup(), with_profile=profile())


def test_there_is_one_reauthentication_at_a_time_and_none_without_a_connection() -> None:
    async def scenario(world: TunnelWorld) -> None:
        assert not world.connection.renew()
        await world.connect()
        assert world.connection.renew()
        first = world.connection.links.reauthentication
        assert world.connection.renew()
        assert world.connection.links.reauthentication is first
        await world.until(lambda: "reauthenticated" in world.heard, 10)
        assert len(world.gateway.connected) == 2
        await world.stop()
        assert not world.connection.renew()

    play(scenario)
