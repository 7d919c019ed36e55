"""Code that waits without an event loop."""

from __future__ import annotations

import pytest

from ikeclient.errors import NoResponse
from ikeclient.tunnel.script import Script, Task, Wait, pause


class World:
    """What a script waits for, and what it did."""

    def __init__(self) -> None:
        self.there = False
        self.done: list[object] = []

    def script(self) -> Script[None]:
        self.done.append("began")
        self.done.append((yield Wait(lambda: self.there, deadline=10.0)))
        yield pause(20.0)
        self.done.append("ended")


def test_a_wait_takes_its_time_if_nothing_happens() -> None:
    world = World()
    task = Task(world.script())
    assert task.run(0.0)
    assert (task.deadline, world.done) == (10.0, ["began"])
    assert not task.run(9.9)
    assert task.run(10.0)
    assert (task.deadline, world.done) == (20.0, ["began", False])
    assert task.run(20.0)
    assert (task.done, task.error, task.deadline) == (True, None, None)
    assert world.done == ["began", False, "ended"]


def test_what_is_waited_for_ends_a_wait_and_not_a_pause() -> None:
    world = World()
    task = Task(world.script())
    task.run(0.0)
    world.there = True
    assert task.run(1.0)
    assert world.done == ["began", True]
    assert not task.run(2.0)


def test_what_is_true_already_is_not_waited_for() -> None:
    def script() -> Script[None]:
        for _ in range(3):
            assert (yield Wait(lambda: True))

    task = Task(script())
    assert task.run(0.0)
    assert task.done


@pytest.mark.parametrize("error", [NoResponse("silence"), KeyError("a bug")])
def test_what_a_script_raises_is_the_tasks_error(error: Exception) -> None:
    def script() -> Script[None]:
        yield pause(1.0)
        raise error

    task = Task(script())
    task.run(0.0)
    task.run(1.0)
    assert task.done
    assert task.error is error


def test_a_task_that_is_cancelled_goes_no_further() -> None:
    world = World()
    task = Task(world.script())
    task.run(0.0)
    task.cancel()
    assert task.done
    assert not task.run(100.0)
    assert world.done == ["began"]


def test_a_script_that_cancels_itself_ends_where_it_waits_next() -> None:
    done = []

    def script() -> Script[None]:
        task.cancel()
        done.append("before")
        yield pause(0.0)
        done.append("after")

    task = Task(script())
    task.run(1.0)
    assert (task.done, done) == (True, ["before"])
