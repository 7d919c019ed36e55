"""The profile's commands: what they see, and that nothing they do hurts the tunnel."""

from __future__ import annotations

import asyncio
import os
from ipaddress import ip_interface
from pathlib import Path

import pytest

from ikeclient.ike.events import Configuration
from ikeclient.tunnel import hooks
from ikeclient.tunnel.hooks import environment, run_hooks
from ikeclient.tunnel.status import Status

STATUS = Status(name="work", interface="ike0", mtu=1400, routes=("10.99.0.0/24", "fd99::/64"))
STATUS.configuration = Configuration(addresses=(ip_interface("10.88.0.1/32"),))


def test_a_command_sees_the_tunnel_and_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F15: the environment is an allow-list."""
    monkeypatch.setenv("SECRET_OF_MINE", "S3cr3t-CANARY")
    seen = tmp_path / "seen"
    warnings = asyncio.run(run_hooks([("/bin/sh", "-c", f"env > {seen}; pwd >> {seen}")], STATUS, "up", tmp_path))
    assert warnings == []
    text = seen.read_text()
    assert "IKECLIENT_ROUTES=10.99.0.0/24 fd99::/64\n" in text
    assert "IKECLIENT_REASON=up\n" in text
    assert str(tmp_path) in text
    assert "CANARY" not in text


def test_nothing_is_interpreted_by_a_shell(tmp_path: Path) -> None:
    asyncio.run(run_hooks([("/bin/echo", f"; touch {tmp_path}/made")], STATUS, "up", tmp_path))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/nonexistent/program",), "cannot run"),
        (("/bin/sh", "-c", "exit 3"), "status 3"),
        (("/bin/sh", "-c", "kill -9 $$"), "status -9"),
    ],
)
def test_a_failing_command_is_a_warning_and_the_next_one_runs(
    tmp_path: Path, command: tuple[str, ...], words: str
) -> None:
    """F15: a hook's failure has no other effect."""
    warnings = asyncio.run(run_hooks([command, ("/bin/touch", f"{tmp_path}/next")], STATUS, "up", tmp_path))
    assert len(warnings) == 1
    assert words in warnings[0]
    assert (tmp_path / "next").exists()


def test_a_command_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F15: the time is limited, and the process is gone afterwards."""
    monkeypatch.setattr(hooks, "TIMEOUT", 0.2)
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}; exec sleep 60"
    [warning] = asyncio.run(run_hooks([("/bin/sh", "-c", script)], STATUS, "down", tmp_path))
    assert "was stopped" in warning
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_command_that_prints_without_end_does_not_fill_anything(tmp_path: Path) -> None:
    """F15: output goes nowhere."""
    assert asyncio.run(run_hooks([("/bin/sh", "-c", "head -c 50000000 /dev/zero")], STATUS, "up", tmp_path)) == []


def test_every_variable_is_text_without_line_breaks() -> None:
    assert all("\n" not in value for value in environment(STATUS, "up").values())
