"""The driver: what the initiator asks for is done in order, also when an event's receiver calls in again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from ikeclient.errors import IkeclientError
from ikeclient.ike.events import Closed, Datagram, Event, Need, NeedKind, Notice, Path
from ikeclient.tunnel.driver import Driver

PATH = Path(ip_address("192.0.2.1"), 40000, ip_address("192.0.2.2"), 4500)


class FakeInitiator:
    """Emits what a test puts into it."""

    def __init__(self) -> None:
        self.datagrams: deque[Datagram] = deque()
        self.events: deque[Event] = deque()
        self.deadline: float | None = None
        self.timer_calls: list[float] = []
        self.deaf: list[bool] = []
        self.closed_at: float | None = None
        self.refused: list[tuple[Need, IkeclientError]] = []

    def start(self, path: Path, now: float) -> None:
        self.datagrams.append(Datagram(b"first", path))
        self.deadline = now + 5

    def receive(self, data: bytes, path: Path, now: float) -> None:
        self.datagrams.append(Datagram(b"answer to " + data, path))

    def handle_timer(self, now: float, *, deaf: bool) -> None:
        self.timer_calls.append(now)
        self.deaf.append(deaf)
        self.deadline = None

    def close(self, now: float) -> None:
        self.closed_at = now
        self.deadline = None
        self.events.append(Closed())

    def give_up(self, now: float) -> None:
        self.close(now)
        self.deadline = now + 0.01  # the gateway has to be told once more

    def refuse(self, need: Need, error: IkeclientError, now: float) -> None:
        self.refused.append((need, error))
        self.events.append(Closed(error=error))

    def datagrams_to_send(self) -> list[Datagram]:
        taken = list(self.datagrams)
        self.datagrams.clear()
        return taken

    def next_event(self) -> Event | None:
        return self.events.popleft() if self.events else None

    def next_deadline(self) -> float | None:
        return self.deadline


def run(scenario: Callable[[Driver, FakeInitiator, list[Any], list[float]], Any]) -> None:
    async def main() -> None:
        initiator, log, clock = FakeInitiator(), [], [100.0]
        driver = Driver(initiator, lambda: clock[0], lambda d: log.append(d.data), log.append)  # type: ignore[arg-type]
        await scenario(driver, initiator, log, clock)

    asyncio.run(main())


def test_datagrams_leave_before_the_events_that_came_with_them() -> None:
    async def scenario(driver: Driver, initiator: FakeInitiator, log: list[Any], _: list[float]) -> None:
        initiator.events.append(Notice(text="hello"))
        driver.start(PATH)
        assert log == [b"first", Notice(text="hello")]

    run(scenario)


def test_a_receiver_that_calls_in_again_sees_its_effects_in_order() -> None:
    async def scenario(driver: Driver, initiator: FakeInitiator, log: list[Any], _: list[float]) -> None:
        def on_event(event: Event) -> None:
            log.append(event)
            if isinstance(event, Notice):
                driver.receive(b"x", PATH)
                log.append("returned")

        driver._on_event = on_event
        initiator.events.append(Notice(text="hello"))
        driver.flush()
        assert log == [Notice(text="hello"), "returned", b"answer to x"]

    run(scenario)


def test_a_deadline_in_the_past_is_handled_at_once() -> None:
    async def scenario(driver: Driver, initiator: FakeInitiator, _: list[Any], clock: list[float]) -> None:
        driver.start(PATH)
        clock[0] += 3600  # the machine slept; the loop's own clock did not move
        driver.flush()
        await asyncio.sleep(0.05)
        assert initiator.timer_calls == [3700.0]

    run(scenario)


@pytest.mark.parametrize(("late", "missed", "deaf"), [(0.1, False, False), (0.1, True, True), (30.0, False, True)])
def test_a_late_timer_and_missed_datagrams_are_told(late: float, missed: bool, deaf: bool) -> None:
    """N27: silence proves nothing while the process was stopped or busy, or datagrams got lost on this side."""

    async def scenario(driver: Driver, initiator: FakeInitiator, _: list[Any], clock: list[float]) -> None:
        driver._deaf = lambda: missed
        driver.start(PATH)
        clock[0] += 5 + late
        driver.flush()
        await asyncio.sleep(0.05)
        assert initiator.deaf == [deaf]

    run(scenario)


def test_receiving_arms_the_timer_only_for_another_deadline() -> None:
    """N27: an armed timer that is replaced for each datagram is work, and garbage in the loop's heap."""

    async def scenario(driver: Driver, initiator: FakeInitiator, _: list[Any], __: list[float]) -> None:
        driver.start(PATH)
        armed = driver._timer
        for _ in range(3):
            driver.receive(b"x", PATH)
        assert driver._timer is armed
        initiator.deadline = 101.0
        driver.receive(b"x", PATH)
        assert driver._timer is not armed

    run(scenario)


def test_closed_resolves_with_the_last_event_and_no_timer_is_left() -> None:
    async def scenario(driver: Driver, initiator: FakeInitiator, _: list[Any], clock: list[float]) -> None:
        driver.start(PATH)
        driver.close()
        assert (await driver.closed).error is None
        clock[0] += 3600
        await asyncio.sleep(0.02)
        assert initiator.timer_calls == []

    run(scenario)


def test_what_is_closed_goes_on_telling_the_gateway_until_nothing_is_left_to_say() -> None:
    """K20: the DELETE of a login that was given up is repeated."""

    async def scenario(driver: Driver, initiator: FakeInitiator, _: list[Any], __: list[float]) -> None:
        driver.start(PATH)
        driver.give_up()
        assert driver.closed.done()
        assert not driver.done.done()
        await asyncio.wait_for(driver.done, 5)
        assert len(initiator.timer_calls) == 1

    run(scenario)


def test_what_is_closed_and_has_nothing_to_say_is_done() -> None:
    async def scenario(driver: Driver, *_: Any) -> None:
        driver.start(PATH)
        driver.close()
        assert driver.done.done()

    run(scenario)


def test_abandoning_ends_the_wait_for_the_end() -> None:
    async def scenario(driver: Driver, *_: Any) -> None:
        driver.start(PATH)
        driver.abandon()
        assert await asyncio.wait_for(driver.closed, 1) == Closed()
        assert driver.done.done()

    run(scenario)


def test_what_only_a_person_could_answer_is_refused_at_once() -> None:
    """G1: a gateway that wants another one-time password would be waited for until the attempt is out of time."""

    async def scenario(driver: Driver, initiator: FakeInitiator, log: list[Any], _: list[float]) -> None:
        need = Need(kind=NeedKind.PASSWORD, request="Token")
        initiator.events.append(need)
        driver.flush()
        ((refused, error),) = initiator.refused
        assert refused is need
        assert (error.message, error.reason) == ("the gateway asks for a credential", "the gateway says: Token")
        assert log == [Closed(error=error)]
        assert driver.closed.result().error is error

    run(scenario)
