"""The profile's commands: what they see, and that nothing they do hurts the tunnel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ikeclient.control.events import HOOKS
from ikeclient.ike.events import Configuration
from ikeclient.process.helper import command
from ikeclient.tunnel.hooks import Hooks, environment
from ikeclient.tunnel.status import Status

STATUS = Status(name="work", interface="ike0", mtu=1400, routes=("10.99.0.0/24", "fd99::/64"))
STATUS.configuration = Configuration(addresses=(ip_interface("10.88.0.1/32"),))


Commands = Sequence[Sequence[str]]


def hooks_in(directory: Path, up: Commands, down: Commands, warnings: list[str]) -> Hooks:
    """Hooks whose commands run in a directory."""

    async def runner(_: str, words: Sequence[str], variables: Mapping[str, str]) -> str | None:
        return await command.run_command(words, variables, directory)

    events: Any = SimpleNamespace(warn=warnings.append)
    return Hooks({"up": up, "down": down}, events, runner)


def told(directory: Path, *events: str, up: Commands = (), down: Commands = ()) -> list[str]:
    """Tell of these events and finish each one's commands; the warnings."""
    warnings: list[str] = []

    async def play() -> None:
        hooks = hooks_in(directory, up, down, warnings)
        for event in events:
            hooks.tell(event, STATUS)
        await hooks.settle()

    asyncio.run(play())
    return warnings


def run(words: Sequence[str], directory: Path) -> list[str]:
    return told(directory, "connected", up=[words])


def test_a_command_sees_the_tunnel_and_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F15: the environment is an allow-list."""
    monkeypatch.setenv("SECRET_OF_MINE", "S3cr3t-CANARY")
    seen = tmp_path / "seen"
    assert run(("/bin/sh", "-c", f"env > {seen}; pwd >> {seen}"), tmp_path) == []
    text = seen.read_text()
    assert "IKECLIENT_ROUTES=10.99.0.0/24 fd99::/64\n" in text
    assert "IKECLIENT_REASON=up\n" in text
    assert str(tmp_path) in text
    assert "CANARY" not in text


def test_nothing_is_interpreted_by_a_shell(tmp_path: Path) -> None:
    run(("/bin/echo", f"; touch {tmp_path}/made"), tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("failing", "words"),
    [
        (("/nonexistent/program",), "cannot run"),
        (("/bin/sh", "-c", "exit 3"), "status 3"),
        (("/bin/sh", "-c", "kill -9 $$"), "status -9"),
    ],
)
def test_a_failing_command_is_a_warning_and_the_next_one_runs(
    tmp_path: Path, failing: tuple[str, ...], words: str
) -> None:
    """F15: a hook's failure has no other effect."""
    warnings = told(tmp_path, "connected", up=[failing, ("/bin/touch", f"{tmp_path}/next")])
    assert len(warnings) == 1
    assert words in warnings[0]
    assert (tmp_path / "next").exists()


def test_a_command_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F15: the time is limited, and the process is gone afterwards."""
    monkeypatch.setattr(command, "TIMEOUT", 0.2)
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}; exec sleep 60"
    [warning] = run(("/bin/sh", "-c", script), tmp_path)
    assert "was stopped" in warning
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_command_that_prints_without_end_does_not_fill_anything(tmp_path: Path) -> None:
    """F15: output goes nowhere."""
    assert run(("/bin/sh", "-c", "head -c 50000000 /dev/zero"), tmp_path) == []


@pytest.mark.parametrize("event", list(HOOKS))
def test_every_variable_is_text_without_line_breaks(event: str) -> None:
    assert all("\n" not in value for value in environment(STATUS, event).values())


def test_every_transition_is_told_once_and_in_order(tmp_path: Path) -> None:
    """What comes before the first connection is none, nor is each further attempt of a reconnection."""
    log = tmp_path / "log"
    note = [("/bin/sh", "-c", f"echo $IKECLIENT_REASON $IKECLIENT_EVENT >> {log}")]
    events = ["resolving", "reconnecting", "connected", "roamed", "roamed", "notice"]
    events += ["reconnecting", "negotiating", "reconnecting", "connected", "reauthenticated"]
    assert told(tmp_path, *events, up=note, down=note) == []
    assert log.read_text().splitlines() == [
        "up connected",
        "up roamed",
        "up roamed",
        "down reconnecting",
        "up connected",
        "up reauthenticated",
    ]


def test_the_end_waits_for_nothing_but_its_own_commands(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def play() -> None:
        down = [("/bin/sh", "-c", f"echo $IKECLIENT_EVENT >> {log}")]
        hooks = hooks_in(tmp_path, [("/bin/sleep", "60")], down, [])
        hooks.tell("connected", STATUS)
        hooks.tell("reconnecting", STATUS)
        await asyncio.sleep(0.05)
        await asyncio.wait_for(hooks.finish(STATUS), 10)

    asyncio.run(play())
    assert log.read_text() == "disconnected\n"


def test_without_a_connection_there_is_no_end_to_tell_of(tmp_path: Path) -> None:
    async def play() -> None:
        hooks = hooks_in(tmp_path, (), [("/bin/touch", f"{tmp_path}/made")], [])
        hooks.tell("reconnecting", STATUS)
        await hooks.finish(STATUS)

    asyncio.run(play())
    assert not (tmp_path / "made").exists()
