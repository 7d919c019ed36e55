"""One tunnel kept up or down, under virtual time and with processes that end as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from fake_programs import FakeProcess, FakePrograms
from virtual_time import VirtualLoop

from ikeclient.when.supervisor import END, FIRST_PAUSE, LONGEST_PAUSE, Supervisor


class Bench:
    """A supervisor at work."""

    def __init__(self, programs: FakePrograms) -> None:
        self.programs = programs
        self.said: list[str] = []
        self.supervisor = Supervisor("work", "work", ["ikeclient"], self.said.append, programs)
        self._task = asyncio.get_running_loop().create_task(self.supervisor.run())

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def tunnel(self) -> FakeProcess:
        return self.programs.tunnels[-1]

    @property
    def trouble(self) -> str:
        return self.said[-1] if self.said else ""

    async def order(self, *, up: bool, after: float = 0.01) -> None:
        self.supervisor.order(up=up)
        await asyncio.sleep(after)

    async def ends(self, code: int) -> None:
        self.tunnel.end(code)
        await asyncio.sleep(0.01)

    async def close(self) -> None:
        self.supervisor.close()
        await self._task


def run(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.wait_for(test, 10_000))


def test_a_tunnel_is_started_when_it_is_to_be_up_and_ended_when_it_is_to_be_down() -> None:
    async def work() -> None:
        bench = Bench(FakePrograms())
        await bench.order(up=True)
        await bench.order(up=False, after=5)
        assert bench.programs.seen == ["connect", "disconnect", "TERM 101", "disconnect"]
        assert (bench.tunnel.over, bench.trouble) == (True, "")
        await bench.close()

    run(work())


@pytest.mark.parametrize("has_socket", [True, False])
def test_a_network_that_is_back_while_the_tunnel_is_still_ending_has_it_up_again(*, has_socket: bool) -> None:
    async def work() -> None:
        programs = FakePrograms(goodbye=3.0)
        programs.has_socket = has_socket
        bench = Bench(programs)
        await bench.order(up=True)
        await bench.order(up=False, after=1)
        assert not bench.tunnel.over
        await bench.order(up=True, after=10)
        assert len(programs.tunnels) == 2
        assert (bench.tunnel.over, bench.trouble) == (False, "")
        await bench.close()

    run(work())


def test_an_order_that_stands_already_starts_nothing() -> None:
    async def work() -> None:
        bench = Bench(FakePrograms())
        await bench.order(up=True)
        await bench.order(up=True)
        assert bench.programs.seen == ["connect"]
        await bench.close()

    run(work())


@pytest.mark.parametrize("code", [1, 7])
def test_nothing_is_started_that_is_to_be_down(code: int) -> None:
    async def work() -> None:
        bench = Bench(FakePrograms())
        await bench.order(up=True)
        await bench.ends(code)
        await bench.order(up=False)
        bench.supervisor.moved()
        await asyncio.sleep(1000)
        assert len(bench.programs.tunnels) == 1
        await bench.close()

    run(work())


def test_a_program_that_cannot_be_started_is_said_and_tried_again() -> None:
    async def work() -> None:
        programs = FakePrograms()
        programs.missing = True
        bench = Bench(programs)
        await bench.order(up=True)
        assert bench.trouble == "cannot be started (ikeclient: No such file or directory), and is started again in 5 s"
        programs.missing = False
        await asyncio.sleep(FIRST_PAUSE)
        assert (len(programs.tunnels), bench.trouble) == (1, "")
        await bench.close()

    run(work())


def test_pauses_between_starts_begin_short_and_grow_to_a_limit_and_a_long_life_forgives() -> None:
    async def work() -> None:
        bench = Bench(FakePrograms())
        await bench.order(up=True)
        pauses = []
        for count in range(1, 9):
            ended = bench.now
            await bench.ends(1)
            await asyncio.sleep(LONGEST_PAUSE - 0.005)
            assert len(bench.programs.tunnels) == count + 1
            pauses.append(round(bench.programs.started[-1] - ended))
        assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]
        await asyncio.sleep(LONGEST_PAUSE + 1)
        await bench.ends(-11)
        assert bench.trouble == "was ended by signal 11, and is started again in 5 s"
        await bench.close()

    run(work())


@pytest.mark.parametrize("code", [0, 2, 4, 9, 10, 11, 130])
def test_what_was_refused_or_ended_by_somebody_stays_down_until_another_order(code: int) -> None:
    async def work() -> None:
        bench = Bench(FakePrograms())
        await bench.order(up=True)
        await bench.ends(code)
        bench.supervisor.moved()
        await asyncio.sleep(1000)
        assert len(bench.programs.tunnels) == 1
        assert "stays down until the rules decide otherwise" in bench.trouble
        await bench.order(up=False)
        assert bench.trouble == ""
        await bench.order(up=True)
        assert len(bench.programs.tunnels) == 2
        await bench.close()

    run(work())


@pytest.mark.parametrize("code", [6, 7])
def test_what_a_network_may_have_refused_is_tried_again_on_another(code: int) -> None:
    async def work() -> None:
        bench = Bench(FakePrograms())
        await bench.order(up=True)
        await bench.ends(code)
        await asyncio.sleep(1000)
        assert len(bench.programs.tunnels) == 1
        assert "not started again on this network" in bench.trouble
        bench.supervisor.moved()
        await asyncio.sleep(0.01)
        assert len(bench.programs.tunnels) == 2
        bench.supervisor.moved()
        await asyncio.sleep(1000)
        assert len(bench.programs.tunnels) == 2, "one that runs is left alone"
        await bench.close()

    run(work())


def test_another_network_cuts_a_pause_short() -> None:
    async def work() -> None:
        bench = Bench(FakePrograms())
        await bench.order(up=True)
        await bench.ends(5)
        bench.supervisor.moved()
        await asyncio.sleep(0.01)
        assert len(bench.programs.tunnels) == 2
        await bench.close()

    run(work())


def test_a_process_that_does_not_go_is_killed_and_what_it_left_undone() -> None:
    async def work() -> None:
        bench = Bench(FakePrograms(goodbye=None))
        await bench.order(up=True)
        await bench.order(up=False, after=END - 1)
        assert not bench.tunnel.over
        await asyncio.sleep(2)
        assert bench.programs.seen[1:] == ["disconnect", "TERM 101", "KILL 101", "repair", "disconnect"]
        assert bench.trouble == "had not ended 15 s after SIGTERM: its process 101 was killed"
        await bench.order(up=True)
        assert len(bench.programs.tunnels) == 2
        await bench.close()
        assert bench.tunnel.over

    run(work())


def test_a_tunnel_of_somebody_else_is_not_started_twice_and_what_keeps_it_from_ending_is_said() -> None:
    async def work() -> None:
        programs = FakePrograms()
        programs.is_foreign = True
        bench = Bench(programs)
        await bench.order(up=True)
        assert programs.tunnels == []
        await bench.order(up=False)
        assert bench.trouble == "cannot be ended: tunnel 'work' is not ours to control"
        await bench.close()

    run(work())


def test_the_end_of_the_watch_ends_the_process_and_leaves_a_kill_switch_closed() -> None:
    async def work() -> None:
        bench = Bench(FakePrograms())
        await bench.order(up=True)
        await bench.close()
        assert bench.programs.seen == ["connect", "TERM 101"]

    run(work())
