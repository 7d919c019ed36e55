"""A tunnel's decisions: without an event loop, and those that the whole tunnels of `tests/sim` do not reach."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import pytest
from sim_gateway import GatewaySetup
from sim_tunnel import GATEWAY, TunnelWorld, play, profile
from tunnel_fakes import CHILD, CONFIGURATION, INNER

from ikeclient.dataplane.pump import Pump, PumpCallbacks
from ikeclient.errors import AuthenticationFailed, IkeclientError, NoResponse, PlatformError
from ikeclient.ike.events import (
    Closed,
    Event,
    IkeEstablished,
    NatStatus,
    Path,
    PathChanged,
    ReauthenticationDue,
    Roamed,
)
from ikeclient.ike.v2.state import State as IkeState
from ikeclient.net.machine.fake import FakeMachine
from ikeclient.net.watch.snapshot import Change, OuterAddress, Snapshot
from ikeclient.tunnel.commands import Lookup
from ikeclient.tunnel.dry_run import NullTun
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import Ports
from ikeclient.tunnel.state import State
from ikeclient.tunnel.tunnel import Tunnel

WIFI, CABLE = ip_address("192.0.2.10"), ip_address("198.51.100.10")
NO_NAT = NatStatus(local=False, remote=False)


class Ike:
    """One end of IKE that says what a test wants and writes down what it is told."""

    accepted = None
    can_move = True
    logging_in = False
    refused_by_gateway = False
    last_heard = 0.0
    round_trip = None
    unanswered_since = None

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.calls: list[str] = []
        self.path: Any = None
        self.deadline: float | None = None

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self.calls.append(name)

    def start(self, path: Path, now: float) -> None:
        self.path = path

    def awaits(self, data: bytes) -> bool:
        return True

    def path_changed(self, path: Path, now: float, *, proven: bool = True) -> bool:
        self.path = path
        self.events.append(PathChanged(path=path))
        return True

    def close(self, now: float) -> None:
        self.calls.append("close")
        self.events.append(Closed())

    give_up = close

    def datagrams_to_send(self) -> list[Any]:
        return []

    def next_event(self) -> Event | None:
        return self.events.popleft() if self.events else None

    def next_deadline(self) -> float | None:
        return self.deadline

    def up(self) -> None:
        established = IkeEstablished(
            spi_i=bytes(8),
            spi_r=bytes(8),
            suite=SimpleNamespace(name="suite"),  # type: ignore[arg-type]
            gateway_identity=None,  # type: ignore[arg-type]
            nat=NO_NAT,
            mobike=True,
            fragmentation=True,
            rekey_at=1e9,
            rekeyed=False,
        )
        self.events += [PathChanged(path=self.path), established, CONFIGURATION, CHILD]


class World:
    """A tunnel whose driver is the test: nothing happens by itself, and there is no event loop."""

    def __init__(self, *, retry: int | None = None) -> None:
        self.now = 1000.0
        self.ends: list[Ike] = []
        self.said: list[str] = []
        self.ours = [WIFI]
        self.opened = 0
        self.machine, self.device = FakeMachine("work"), NullTun("ike%d")
        here: Any = self
        ports = Ports(
            device=self.device,
            machine=self.machine,
            table=7000,
            clock=lambda: self.now,
            entropy=bytes,
            network=here,
            connect=self.connect,
        )
        options = ConnectOptions(name="work", timeout=30, keylog=None, runtime_directory=FilePath("/nonexistent"))
        pump = Pump(self.device, PumpCallbacks(on_ike=lambda *_: False), ports.clock, entropy=bytes)
        self.tunnel = Tunnel(profile(retry=retry), options, ports, pump, here, here)

    def connect(self, *_: object) -> Any:
        self.ends.append(Ike())
        return self.ends[-1]

    # What the tunnel needs of the network

    snapshot = Snapshot()

    def source_for(self, remote: object) -> Any:
        return self.ours[0] if self.ours else None

    def path_mtu(self, remote: object) -> int:
        return 1500

    def open(self, local: object) -> Any:
        self.opened += 1
        return _Socket(local=(str(local), 40000 + self.opened))

    def start(self) -> None: ...

    def close(self, *_: object) -> None: ...

    def watch(self, *_: object) -> None: ...

    def sources_for(self, remote: object) -> tuple[OuterAddress, ...]:
        return tuple(OuterAddress(index=n, interface=f"if{n}", address=a) for n, a in enumerate(self.ours))

    # What happens

    @property
    def life(self) -> State:
        return self.tunnel.session.status.life.state

    def lookup(self) -> Lookup:
        [lookup] = self.tunnel.commands()
        assert isinstance(lookup, Lookup)
        return lookup

    def resolve(self) -> None:
        self.tunnel.resolved(self.lookup(), [("vpn.example.com", GATEWAY)])

    def say(self, *events: Event, end: int = -1) -> None:
        """One end of IKE says something."""
        self.ends[end].events += events
        self.tunnel.settle()
        self.said += [str(event["event"]) for event in self.tunnel.events()]

    def up(self) -> None:
        self.ends[-1].up()
        self.say()

    def later(self, seconds: float) -> None:
        """Let time pass; every deadline is kept."""
        end = self.now + seconds
        while (deadline := self.tunnel.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.tunnel.handle_timer()
        self.now = end
        self.say()

    def connected(self) -> World:
        self.tunnel.start()
        self.resolve()
        self.up()
        assert self.life is State.CONNECTED
        return self

    @property
    def error(self) -> Exception | None:
        assert self.tunnel.life.done
        assert self.life is State.DISCONNECTED
        assert not self.machine.kernel.state
        return self.tunnel.life.error


class _Socket(SimpleNamespace):
    """Takes everything."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def runs(self) -> None: ...

    def send_batch(self, payloads: Any, *_: object) -> int:
        return len(payloads)

    def receive_queue(self) -> tuple[int, int]:
        return 0, 0

    def trust_path(self, *_: object, **__: object) -> None: ...


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.device.close()


def test_a_tunnel_asks_for_names_then_opens_a_link_then_changes_the_machine(world: World) -> None:
    tunnel = world.tunnel
    tunnel.start()
    assert (world.life, world.ends) == (State.RESOLVING, [])
    lookup = world.lookup()
    assert lookup.hosts == ("vpn.example.com",)
    tunnel.resolved(lookup, [("vpn.example.com", GATEWAY)])
    assert (world.life, len(world.ends)) == (State.CONNECTING, 1)
    assert world.machine.configs == []
    world.up()
    assert world.life is State.CONNECTED
    assert [str(address) for address in world.machine.configs[-1].addresses] == [str(INNER)]
    assert world.said == ["resolving", "configuring", "connected"]


def test_a_name_without_an_address_ends_the_tunnel_and_nothing_was_changed(world: World) -> None:
    world.tunnel.start()
    world.tunnel.resolved(world.lookup(), NoResponse("no such name"))
    assert isinstance(world.error, NoResponse)
    assert world.machine.configs == []


def test_a_stop_while_names_are_looked_up_does_not_wait_for_them(world: World) -> None:
    world.tunnel.start()
    lookup = world.lookup()
    world.tunnel.stop()
    assert world.error is None
    world.tunnel.resolved(lookup, [("vpn.example.com", GATEWAY)])
    assert world.ends == []


def test_a_lost_connection_is_made_again_after_a_pause_and_the_machine_stays(world: World) -> None:
    world.connected()
    world.say(Closed(error=NoResponse("silence")))
    assert (world.life, len(world.ends)) == (State.RECONNECTING, 1)
    assert world.machine.kernel.state
    assert world.tunnel.deadline is not None
    assert world.now < world.tunnel.deadline <= world.now + 1
    world.later(1)
    assert len(world.ends) == 2
    world.up()
    assert world.life is State.CONNECTED
    assert world.said[-2:] == ["configuring", "connected"]


@pytest.mark.parametrize("sooner", ["command", "network"])
def test_a_pause_ends_for_what_makes_an_attempt_worth_while(world: World, sooner: str) -> None:
    world.connected()
    world.say(Closed(error=NoResponse("silence")))
    if sooner == "command":
        world.tunnel.reconnect()
    else:
        world.tunnel.network_changed(Change())
    assert len(world.ends) == 2


def test_before_a_sleep_the_gateway_is_told_and_nothing_is_tried_until_the_machine_is_awake(world: World) -> None:
    """The routes stay meanwhile, so that nothing leaves past the tunnel."""
    world.connected()
    world.tunnel.suspend()
    assert "close" in world.ends[0].calls
    assert world.life is State.RECONNECTING
    assert world.machine.kernel.state
    world.tunnel.network_changed(Change())
    world.later(10)
    assert len(world.ends) == 1
    world.tunnel.resume()
    assert len(world.ends) == 2
    world.up()
    assert world.life is State.CONNECTED


def test_a_sleep_that_does_not_come_ends_the_wait_and_the_next_loss_is_one_like_every_other(world: World) -> None:
    world.connected()
    world.tunnel.suspend()
    world.later(29)
    assert len(world.ends) == 1
    world.later(2)
    assert len(world.ends) == 2
    world.up()
    world.say(Closed(error=NoResponse("silence")))
    world.later(1)
    assert len(world.ends) == 3


def test_a_tunnel_that_was_not_suspended_is_not_disturbed_by_a_machine_that_wakes(world: World) -> None:
    world.tunnel.suspend()  # nothing is there yet to be told
    world.connected()
    world.tunnel.resume()
    assert world.life is State.CONNECTED
    assert len(world.ends) == 1
    assert "close" not in world.ends[0].calls


def test_a_tunnel_that_is_not_made_again_outlives_a_sleep() -> None:
    world = World(retry=0).connected()
    world.tunnel.suspend()
    assert world.life is State.RECONNECTING
    world.tunnel.resume()
    assert len(world.ends) == 2
    world.tunnel.stop()
    world.device.close()


def test_a_tunnel_that_is_not_to_be_made_again_ends_with_its_connection() -> None:
    world = World(retry=0).connected()
    world.say(Closed(error=AuthenticationFailed("the account is locked")))
    assert isinstance(world.error, IkeclientError)
    assert world.error.message == "the account is locked"
    world.device.close()


@pytest.mark.parametrize("closed", [False, True])
def test_a_tunnel_that_gives_up_behind_a_kill_switch_is_blocked_until_it_has_ended(closed: bool) -> None:
    world = World(retry=0).connected()
    switch: Any = world.tunnel.session.ports.switch
    switch.closed = closed
    world.ends[0].deadline = world.now + 60  # the gateway is still to be told
    world.say(Closed(error=NoResponse("silence")))
    assert world.life is State.CLOSING
    assert world.tunnel.session.status.life.word == ("blocked" if closed else "reconnecting")
    world.later(2)
    assert isinstance(world.error, NoResponse)
    world.device.close()


def test_a_move_follows_the_machine_and_counts_once_the_gateway_has_confirmed_it(world: World) -> None:
    world.connected()
    world.ours = [CABLE]
    world.tunnel.network_changed(Change())
    path = world.ends[0].path
    assert path.local_address == CABLE
    assert world.tunnel.session.status.path == path
    assert world.tunnel.session.status.counts.roams == 0
    world.say(Roamed(path=path, nat=NO_NAT))
    assert (world.life, world.tunnel.session.status.counts.roams) == (State.CONNECTED, 1)
    assert "roamed" in world.said


def test_without_a_network_the_path_is_lost_and_the_connection_is_not(world: World) -> None:
    world.connected()
    world.ours = []
    world.tunnel.network_changed(Change())
    assert world.life is State.MOVING
    world.ours = [WIFI]
    world.tunnel.network_changed(Change())
    world.say(Roamed(path=world.ends[0].path, nat=NO_NAT))
    assert world.life is State.CONNECTED
    assert len(world.ends) == 1


def test_a_second_link_takes_over_and_the_first_one_is_closed(world: World) -> None:
    world.connected()
    world.say(ReauthenticationDue())
    assert len(world.ends) == 2
    world.ends[1].up()
    world.say()
    assert world.life is State.CONNECTED
    assert "close" in world.ends[0].calls
    assert "reauthenticated" in world.said
    assert list(world.tunnel.links) == [world.tunnel.links.current]


def test_a_stop_closes_the_connection_and_restores_the_machine(world: World) -> None:
    world.connected()
    world.tunnel.stop(PlatformError("the helper is gone"))
    assert "close" in world.ends[0].calls
    assert isinstance(world.error, PlatformError)
    assert world.tunnel.deadline is None
    assert [event["event"] for event in world.tunnel.events()][-1] == "disconnected"


def test_a_bug_restores_the_machine_and_is_what_the_tunnel_ends_with(world: World) -> None:
    world.connected()

    def broken(*_: object) -> None:
        raise KeyError("a bug")

    world.tunnel.session.lose, lose = broken, world.tunnel.session.lose  # type: ignore[method-assign, assignment]
    world.tunnel.reconnect()
    world.tunnel.session.lose = lose  # type: ignore[method-assign]
    world.later(10)
    assert isinstance(world.tunnel.life.error, KeyError)


def test_an_interface_that_can_be_made_again_costs_the_tunnel_nothing() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.connection.device_lost()
        assert world.connected
        assert any("it was made again" in note for note in world.notes)
        await world.stop()

    play(scenario)


def test_an_interface_that_is_gone_for_good_ends_the_tunnel_and_the_gateway_is_told() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        device: Any = world.device
        device.reopen = lambda: False
        world.connection.device_lost()
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
        world.connection.packet_waits()
        await world.until(lambda: world.connected, 5)
        await world.stop()

    play(scenario, setup=GatewaySetup(), with_profile=profile())


def test_there_is_one_reauthentication_at_a_time_and_none_without_a_connection() -> None:
    async def scenario(world: TunnelWorld) -> None:
        assert not world.connection.renew()
        await world.connect()
        assert world.connection.renew()
        first = world.connection.tunnel.reauthentication
        assert world.connection.renew()
        assert world.connection.tunnel.reauthentication is first
        await world.until(lambda: "reauthenticated" in world.heard, 10)
        assert len(world.gateway.connected) == 2
        await world.stop()
        assert not world.connection.renew()

    play(scenario)
