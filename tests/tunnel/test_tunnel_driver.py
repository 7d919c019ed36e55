"""The driver: what happens goes in, what follows is carried out, and one timer is armed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sim_tunnel import DELAY, TunnelWorld, play

from ikeclient.errors import IkeclientError, NoResponse, UsageError
from ikeclient.ike.events import Closed, Need, NeedKind
from ikeclient.net.transport.icmp_errors import PathHint
from ikeclient.net.watch.snapshot import Change
from ikeclient.tunnel.commands import Lookup, Question, RunHook, StopHook
from ikeclient.tunnel.driver import TunnelDriver


def on(scenario: Callable[[TunnelWorld, TunnelDriver], Awaitable[None]], *, connected: bool = True) -> None:
    async def main(world: TunnelWorld) -> None:
        if connected:
            await world.connect()
        await scenario(world, world.connection)
        await world.stop()

    play(main)


def test_a_timer_is_replaced_only_for_another_deadline() -> None:
    """N27: an armed timer that is replaced for each datagram is work, and garbage in the loop's heap."""

    async def scenario(world: TunnelWorld, driver: TunnelDriver) -> None:
        armed = driver._timer
        assert armed is not None
        for _ in range(3):
            driver._ike_came(bytes(28), ("203.0.113.7", 4500), ("192.0.2.10", 40001))
        assert driver._timer is armed

    on(scenario)


def test_the_clock_that_counts_sleep_decides_what_is_due() -> None:
    """The loop's own clock does not count it."""

    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        driver = world.connection
        deadline = driver.tunnel.deadline
        assert deadline is not None
        driver._arm()
        assert driver._timer is not None
        assert driver._timer.when() == pytest.approx(deadline, abs=0.001)
        await world.stop()
        assert driver._timer is None or driver._timer.cancelled()

    play(scenario)


def test_the_timer_is_armed_anew_after_a_sleep_which_the_loops_clock_has_not_counted() -> None:
    """S15: what is due in an hour is due at once after a night."""

    async def scenario(world: TunnelWorld, driver: TunnelDriver) -> None:
        armed, clock = driver._timer, driver._ports.clock
        assert armed is not None
        driver._network_changed(Change())
        assert driver._timer is armed
        driver._ports = replace(driver._ports, clock=lambda: clock() + 8 * 3600)
        driver._network_changed(Change(resumed=True, slept=8 * 3600))
        assert armed.cancelled()
        assert driver._timer is not None
        assert driver._timer.when() < armed.when()
        driver._ports = replace(driver._ports, clock=clock)

    on(scenario)


def test_what_a_listener_does_is_carried_out_after_what_it_hears() -> None:
    """A dry run stops when it hears that it is connected."""

    async def scenario(world: TunnelWorld) -> None:
        driver, publish = world.connection, world.connection._publish

        def heard(event: dict[str, object]) -> None:
            publish(event)
            if event["event"] == "connected":
                driver.stop()

        driver._publish = heard
        assert await world.ended(within=10) is None
        assert world.heard == ["connected", "disconnected"]

    play(scenario)


def test_a_bug_in_one_call_does_not_keep_the_rest_from_being_carried_out() -> None:
    async def scenario(world: TunnelWorld, driver: TunnelDriver) -> None:
        def broken() -> None:
            driver.session.events.emit("notice", text="before the bug")
            raise KeyError("a bug")

        with pytest.raises(KeyError):
            driver._enter(broken)
        assert "before the bug" in world.notes
        assert driver._timer is not None

    on(scenario)


def test_what_the_kernel_says_while_something_is_sent_is_taken_afterwards() -> None:
    async def scenario(world: TunnelWorld, driver: TunnelDriver) -> None:
        taken: list[object] = []
        driver.tunnel.hinted = lambda *args: taken.append(args)  # type: ignore[method-assign]
        hint = PathHint(kind="too-big", errno=90, mtu=1300)
        driver._hinted(hint, ("192.0.2.10", 40001))
        assert taken == []
        await asyncio.sleep(0)
        assert taken == [(hint, ("192.0.2.10", 40001))]

    on(scenario)


def test_a_cancelled_run_restores_the_machine_first() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        world.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await world.running
        assert not world.changed
        assert world.network.sockets == {}

    play(scenario)


def test_an_idle_tunnel_is_told_of_the_first_packet_and_of_no_other() -> None:
    async def scenario(world: TunnelWorld, driver: TunnelDriver) -> None:
        told: list[float] = []
        traffic = driver.tunnel.traffic
        driver.tunnel.traffic = lambda: (told.append(world.loop.now), traffic())  # type: ignore[method-assign, assignment]
        await asyncio.sleep(100)
        assert driver.tunnel.housekeeping.asleep
        [socket] = world.network.sockets.values()
        assert socket.drain is not None
        socket.drain(False)
        assert told == [], "nothing passed"
        pump = driver.session.pump
        drain = pump.drain_udp
        pump_class: Any = type(pump)

        def arrives(self: Any, transport: Any, again: bool = True) -> int:
            pump._reception.last_inbound = world.loop.now
            return int(drain(transport, again))

        original, pump_class.drain_udp = pump_class.drain_udp, arrives
        try:
            driver._sockets.tell_of_traffic(False)
            driver._sockets.tell_of_traffic(True)
            socket.drain(False)
            assert len(told) == 1
            assert not driver.tunnel.housekeeping.asleep
            socket.drain(False)
            assert len(told) == 1
        finally:
            pump_class.drain_udp = original

    on(scenario)


def test_an_idle_tunnel_wakes_up_for_timers_that_are_due_alone() -> None:
    """Not once a second: keepalives, liveness checks and their answers."""

    async def scenario(world: TunnelWorld, driver: TunnelDriver) -> None:
        await asyncio.sleep(120)
        woken, expired = [0], driver._expired

        def count() -> None:
            woken[0] += 1
            expired()

        driver._expired = count  # type: ignore[method-assign]
        driver._armed = None
        driver._arm()
        await asyncio.sleep(600)
        assert woken[0] <= 60

    on(scenario)


def test_a_hook_that_is_stopped_has_ended() -> None:
    async def scenario(world: TunnelWorld, driver: TunnelDriver) -> None:
        ran: list[str] = []
        ended: list[str | None] = []
        driver.tunnel.hook_ended = ended.append  # type: ignore[method-assign]

        async def run(reason: str, command: object, variables: object) -> str | None:
            ran.append(reason)
            await asyncio.sleep(3600)
            return "too late"

        object.__setattr__(driver._ports, "run_hook", run)
        driver._obey(RunHook(reason="up", command=("/bin/true",), variables={}))
        await asyncio.sleep(1)
        assert (ran, ended) == (["up"], [])
        driver._obey(StopHook())
        await asyncio.sleep(0.01)
        assert ended == [None]

    on(scenario)


class Asking:
    """A link with a question that is open until it is closed."""

    def __init__(self) -> None:
        self.closed: Closed | None = None
        self.answers: list[str | IkeclientError] = []

    def answer(self, need: Need, answer: str | IkeclientError) -> None:
        self.answers.append(answer)


@pytest.mark.parametrize("end", ["typed", "nobody", "closed"])
def test_a_person_is_asked_while_everything_else_goes_on(end: str) -> None:
    async def scenario(world: TunnelWorld, driver: TunnelDriver) -> None:
        typed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        shown: list[str] = []
        taken_back: list[str] = []

        async def ask(prompt: str) -> str:
            shown.append(prompt)
            try:
                return await typed
            except asyncio.CancelledError:
                taken_back.append(prompt)
                raise

        object.__setattr__(driver._ports, "ask", ask)
        link = Asking()
        driver._obey(Question(link=link, need=Need(kind=NeedKind.PASSWORD, request="Token")))
        await asyncio.sleep(20)
        assert (shown, link.answers, taken_back) == (["Token"], [], [])
        assert world.connected
        if end == "typed":
            typed.set_result("4711")
        elif end == "nobody":
            typed.set_exception(UsageError("no answer given"))
        else:
            link.closed = Closed()
            driver.notice("something happens")
        await asyncio.sleep(0.01)
        assert [str(answer) for answer in link.answers] == {"typed": ["4711"], "nobody": ["no answer given"]}.get(
            end, []
        )
        assert taken_back == (["Token"] if end == "closed" else [])

    on(scenario)


def test_a_command_that_breaks_is_told_to_the_loop_which_ends_the_tunnel() -> None:
    """O13: a thread that cannot be started is no answer, and the tunnel would wait for one for ever."""

    async def scenario(world: TunnelWorld, driver: TunnelDriver) -> None:
        async def broken(hosts: object, port: int) -> object:
            raise RuntimeError("can't start new thread")

        told: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        object.__setattr__(driver._ports, "resolve", broken)
        driver._obey(Lookup(("vpn.example.com",), 500))
        await asyncio.sleep(0.01)
        assert [str(context["exception"]) for context in told] == ["can't start new thread"]
        assert "handle" in told[0]

    on(scenario)


def test_a_profile_that_cannot_be_adopted_is_an_error_of_that_call_alone() -> None:
    async def scenario(world: TunnelWorld, driver: TunnelDriver) -> None:
        world.addresses.clear()
        with pytest.raises(NoResponse):
            await driver.adopt(replace(driver.session.profile, gateways=("elsewhere.example",)))
        await asyncio.sleep(DELAY)
        assert world.connected

    on(scenario)
