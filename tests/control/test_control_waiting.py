"""Waiting for a tunnel to be up or gone, whatever it does meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ikeclient.control import client, waiting
from ikeclient.control.events import happened
from ikeclient.control.server import ControlServer
from ikeclient.errors import NoResponse, UsageError

Rig = Any  # the fixture's class lives in conftest.py, which cannot be imported

LONG = 30.0  # seconds; what is waited for happens much sooner


@contextmanager
def waiter(name: str | None, directory: Path) -> Iterator[list[str]]:
    """`wait_up` in a thread of its own; at the end of the block it has returned, with what it returned in the list."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(waiting.wait_up(name, LONG, directory)))
    thread.start()
    try:
        yield found
    finally:
        thread.join(LONG)
    assert not thread.is_alive()


def test_a_tunnel_that_is_connected_is_up(rig: Rig) -> None:
    rig.server("work")
    assert waiting.wait_up("work", LONG, rig.directory) == "work"
    assert waiting.wait_up(None, LONG, rig.directory) == "work"


def test_a_tunnel_that_connects_is_noticed_by_its_event(rig: Rig) -> None:
    server = rig.server("work", status=lambda: {"name": "work", "state": "connecting"})
    with waiter("work", rig.directory) as found:
        deadline = time.monotonic() + LONG
        while not server._subscribers:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        rig.call(server.publish, happened("negotiating", "work", gateway="192.0.2.1"))
        assert not found
        rig.call(server.publish, happened("connected", "work"))
    assert found == ["work"]


def test_a_tunnel_need_not_run_yet(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    missed = threading.Event()
    pause = waiting._pause
    monkeypatch.setattr(waiting, "_pause", lambda deadline: (missed.set(), pause(deadline)))
    with waiter("work", rig.directory) as found:
        assert missed.wait(LONG)
        rig.server("work")
    assert found == ["work"]


def test_a_tunnel_that_stays_as_it_is_is_given_up(rig: Rig) -> None:
    rig.server("work", status=lambda: {"name": "work", "state": "reconnecting"})
    with pytest.raises(NoResponse, match=r"tunnel 'work' was not up within 0\.3 s"):
        waiting.wait_up("work", 0.3, rig.directory)
    with pytest.raises(NoResponse, match="a tunnel was not up"):
        waiting.wait_up(None, 0.1, rig.directory / "nothing")


def test_which_of_several_is_meant_has_to_be_said(rig: Rig) -> None:
    rig.server("work")
    rig.server("home")
    with pytest.raises(UsageError, match="several"):
        waiting.wait_up(None, LONG, rig.directory)
    with pytest.raises(UsageError, match="several"):
        waiting.wait_down(None, LONG, rig.directory)
    with pytest.raises(UsageError, match="cannot be the name"):
        waiting.wait_up("../work", LONG, rig.directory)


def test_a_tunnel_that_makes_no_sense_is_asked_now_and_then(rig: Rig) -> None:
    """Whatever answers at once and wrongly costs no processor."""
    asked: list[str] = []

    def nonsense() -> Any:
        asked.append("status")
        return "connected"

    rig.server("work", status=nonsense)
    with pytest.raises(NoResponse, match="was not up"):
        waiting.wait_up("work", 1.0, rig.directory)
    assert 1 <= len(asked) <= 1.0 / waiting.LOOK_SECONDS + 2


def test_a_tunnel_that_does_not_run_is_down(directory: Path) -> None:
    waiting.wait_down("work", LONG, directory)
    waiting.wait_down(None, LONG, directory)


def test_a_tunnel_that_runs_is_not_down(rig: Rig) -> None:
    rig.server("work")
    with pytest.raises(NoResponse, match=r"tunnel 'work' was not down within 0\.2 s"):
        waiting.wait_down("work", 0.2, rig.directory)


def test_the_end_of_its_process_is_the_end_of_a_tunnel(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket may be gone before the machine is restored: only the process tells."""
    server: ControlServer = rig.server("work")
    reading, writing = os.pipe()  # whose end becomes readable as that of a process would

    watched, asked = threading.Event(), client.running_pid

    @contextmanager
    def process(pid: int) -> Iterator[int]:
        assert pid == os.getpid()
        monkeypatch.setattr(client, "running_pid", running_pid)
        yield reading

    def running_pid(name: str, directory: Path | None = None) -> int | None:
        found = asked(name, directory)
        watched.set()
        return found

    monkeypatch.setattr(client, "process", process)
    ended = threading.Event()
    thread = threading.Thread(target=lambda: (waiting.wait_down("work", LONG, rig.directory), ended.set()))
    thread.start()
    assert watched.wait(LONG)
    rig.run(server.close())
    assert not ended.wait(0.3)
    os.close(writing)
    assert ended.wait(LONG)
    thread.join(LONG)
    os.close(reading)
