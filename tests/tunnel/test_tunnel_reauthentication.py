"""A new authentication beside the connection in use: a login, which time alone neither starts nor ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tunnel_fakes import CHILD

from ikeclient.errors import AuthenticationFailed, IkeclientError, NegotiationRefused, NoResponse
from ikeclient.ike.events import Closed, Event
from ikeclient.tunnel import reauthentication
from ikeclient.tunnel.reauthentication import Reauthentication


class Aside:
    """An attempt whose gateway does what a test says."""

    def __init__(self, heard: Callable[[Event], None]) -> None:
        self.heard = heard
        self.given_up = False
        self.initiator = SimpleNamespace(logging_in=False, refused_by_gateway=False)
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.driver = SimpleNamespace(closed=self.closed, initiator=self.initiator, give_up=self._give_up)

    def start(self) -> None:
        """Nothing is sent."""

    def _give_up(self) -> None:
        self.given_up = True


def run(
    scenario: Callable[[Reauthentication, list[Aside], list[Aside]], Any],
    *,
    take_over: Callable[..., None] = lambda *_: None,
    failed: Callable[[IkeclientError], None] = lambda _: None,
) -> None:
    async def main() -> None:
        opened: list[Aside] = []
        left: list[Aside] = []

        def open_(heard: Callable[[Event], None]) -> Any:
            opened.append(Aside(heard))
            return opened[-1]

        owner: Any = SimpleNamespace(
            open_parallel=open_,
            take_over=take_over,
            report=lambda *_: None,
            reauthentication_failed=failed,
            leave=left.append,
        )
        made = Reauthentication(owner, refusals=3)
        await asyncio.sleep(0)
        await scenario(made, opened, left)
        made.cancel()

    asyncio.run(main())


def test_a_login_under_way_is_waited_for_when_the_connection_in_use_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """K20: the gateway works on it, and another connection would be another login."""
    monkeypatch.setattr(reauthentication, "TIMEOUT", 0.01)

    async def scenario(made: Reauthentication, opened: list[Aside], left: list[Aside]) -> None:
        opened[0].initiator.logging_in = True
        waiting = asyncio.ensure_future(made.last_chance())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert not opened[0].given_up
        opened[0].closed.set_result(Closed(error=NoResponse("too late")))
        await asyncio.wait_for(waiting, 10)
        assert left == opened

    run(scenario)


def test_an_attempt_that_nobody_has_answered_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reauthentication, "TIMEOUT", 0.01)

    async def scenario(made: Reauthentication, opened: list[Aside], left: list[Aside]) -> None:
        await asyncio.wait_for(made.last_chance(), 10)
        assert opened[0].given_up
        assert left == opened

    run(scenario)


UP = replace(CHILD, local_selectors=(), remote_selectors=(), rekey_at=0.0)


def test_what_cannot_be_used_takes_nothing_over() -> None:
    """K12: an inner address of the LAN, granted at a later authentication. The connection in use stays."""
    told: list[IkeclientError] = []

    def take_over(*_: object) -> None:
        raise NegotiationRefused("the inner address 10.1.0.53 cannot be used")

    async def scenario(made: Reauthentication, opened: list[Aside], left: list[Aside]) -> None:
        opened[0].heard(UP)
        await until(lambda: bool(told))
        assert opened[0].given_up
        assert left == opened

    run(scenario, take_over=take_over, failed=told.append)
    assert "10.1.0.53" in told[0].message


def test_a_question_that_nobody_can_answer_ends_the_attempt_at_once() -> None:
    """G1: a gateway that wants another one-time password would be waited for until the attempt is out of time."""
    told: list[IkeclientError] = []

    async def scenario(made: Reauthentication, opened: list[Aside], left: list[Aside]) -> None:
        opened[0].closed.set_result(
            Closed(error=NegotiationRefused("the gateway asks for a credential", reason="Token"))
        )
        await until(lambda: bool(told))
        assert opened[0].given_up
        assert left == opened

    run(scenario, failed=told.append)
    assert told[0].reason == "Token"


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is true."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not become true")


def test_pauses_between_logins_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """K20: one that is refused or too slow is not tried every few seconds."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            await asyncio.Event().wait()

    async def scenario(made: Reauthentication, opened: list[Aside], left: list[Aside]) -> None:
        monkeypatch.setattr(reauthentication, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
        for number in range(6):
            await until(lambda number=number: len(opened) > number)  # type: ignore[misc]
            opened[number].closed.set_result(Closed(error=NoResponse("no")))
        await until(lambda: len(pauses) == 6)
        assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 80.0]
        assert all(each.given_up for each in opened)
        assert left == opened

    run(scenario)


@pytest.mark.parametrize("restarted", [False, True])
def test_credentials_that_a_proven_gateway_refuses_are_not_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """G2, E9: each attempt is a guess in the gateway's eyes, and the connection in use needs none."""

    async def sleep(_: float) -> None:
        """No pause."""

    async def scenario(made: Reauthentication, opened: list[Aside], left: list[Aside]) -> None:
        monkeypatch.setattr(reauthentication, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
        for number, proven in enumerate([True, False, True, True]):
            await until(lambda number=number: len(opened) > number)  # type: ignore[misc]
            opened[number].initiator.refused_by_gateway = proven
            opened[number].closed.set_result(Closed(error=AuthenticationFailed("the gateway refused our credentials")))
        await until(made._task.done)
        if restarted:
            made.restart()
            await until(made._task.done)
        assert len(opened) == 4
        assert left == opened

    run(scenario)
