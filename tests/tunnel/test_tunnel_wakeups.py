"""What ends a wait of the tunnel before its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sim_tunnel import VirtualLoop

from ikeclient.errors import NoResponse, PlatformError
from ikeclient.tunnel.wakeups import Wakeup, Wakeups

Scenario = Callable[[Wakeups, VirtualLoop], Coroutine[Any, Any, None]]


def play(scenario: Scenario) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        await scenario(Wakeups(loop.time), loop)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def test_a_wait_takes_its_time_if_nothing_happens() -> None:
    async def scenario(wakeups: Wakeups, loop: VirtualLoop) -> None:
        began = loop.time()
        assert not await wakeups.wait(Wakeup.COMMAND, seconds=60)
        assert loop.time() - began == pytest.approx(60)

    play(scenario)


def test_only_what_is_waited_for_ends_a_wait() -> None:
    """S21: a change of the network does not shorten the pause after refused credentials."""

    async def scenario(wakeups: Wakeups, loop: VirtualLoop) -> None:
        began = loop.time()
        loop.call_later(5, wakeups.give, Wakeup.NETWORK)
        loop.call_later(10, wakeups.give, Wakeup.COMMAND)
        assert await wakeups.wait(Wakeup.COMMAND, seconds=60)
        assert loop.time() - began == pytest.approx(10)

    play(scenario)


def test_a_wakeup_is_kept_until_it_is_taken() -> None:
    async def scenario(wakeups: Wakeups, loop: VirtualLoop) -> None:
        wakeups.give(Wakeup.COMMAND)
        assert await wakeups.wait(Wakeup.COMMAND, seconds=60)
        assert wakeups.take(Wakeup.COMMAND)
        assert not wakeups.take(Wakeup.COMMAND)
        assert not await wakeups.wait(Wakeup.COMMAND, seconds=1)

    play(scenario)


def test_a_stop_ends_every_wait_and_nothing_counts_after_it() -> None:
    async def scenario(wakeups: Wakeups, loop: VirtualLoop) -> None:
        loop.call_later(1, wakeups.stop, PlatformError("the first reason"))
        assert await wakeups.wait()
        wakeups.stop(NoResponse("a later one"))
        wakeups.give(Wakeup.COMMAND)
        assert wakeups.stopping
        assert not wakeups.given(Wakeup.COMMAND)
        assert wakeups.error is not None
        assert wakeups.error.message == "the first reason"

    play(scenario)


def test_an_answer_is_given_up_at_a_stop() -> None:
    async def scenario(wakeups: Wakeups, loop: VirtualLoop) -> None:
        began = loop.time()
        loop.call_later(2, wakeups.stop)
        assert await wakeups.unless_stopped(asyncio.sleep(3600, "too late")) is None
        assert loop.time() - began == pytest.approx(2)

    play(scenario)


def test_an_answer_that_comes_in_time_is_the_result_and_so_is_its_error() -> None:
    async def scenario(wakeups: Wakeups, loop: VirtualLoop) -> None:
        async def refused() -> None:
            raise NoResponse("no such name")

        assert await wakeups.unless_stopped(asyncio.sleep(1, "found")) == "found"
        with pytest.raises(NoResponse, match="no such name"):
            await wakeups.unless_stopped(refused())

    play(scenario)
