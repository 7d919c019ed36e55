"""The profile's commands: what they see, and that nothing they do hurts anybody."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ikeclient.process.helper import command
from ikeclient.tunnel.hooks import environment
from ikeclient.tunnel.status import InnerNetwork, Status

STATUS = Status(name="work", interface="ike0", network=InnerNetwork(mtu=1400, routes=("10.99.0.0/24", "fd99::/64")))


def run(words: Sequence[str], directory: Path) -> str | None:
    return asyncio.run(command.run_command(words, environment(STATUS, "connected"), directory))


def test_a_command_sees_the_tunnel_and_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F15: the environment is an allow-list."""
    monkeypatch.setenv("SECRET_OF_MINE", "S3cr3t-CANARY")
    seen = tmp_path / "seen"
    assert run(("/bin/sh", "-c", f"env > {seen}; pwd >> {seen}"), tmp_path) is None
    text = seen.read_text()
    assert "IKECLIENT_ROUTES=10.99.0.0/24 fd99::/64\n" in text
    assert "IKECLIENT_REASON=up\n" in text
    assert str(tmp_path) in text
    assert "CANARY" not in text


def test_nothing_is_interpreted_by_a_shell(tmp_path: Path) -> None:
    assert run(("/bin/echo", f"; touch {tmp_path}/made"), tmp_path) is None
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("failing", "words"),
    [
        (("/nonexistent/program",), "cannot run"),
        (("/bin/sh", "-c", "exit 3"), "status 3"),
        (("/bin/sh", "-c", "kill -9 $$"), "status -9"),
    ],
)
def test_what_went_wrong_is_said(tmp_path: Path, failing: tuple[str, ...], words: str) -> None:
    """F15"""
    problem = run(failing, tmp_path)
    assert problem is not None
    assert words in problem


def test_a_command_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F15: the time is limited, and the process is gone afterwards."""
    monkeypatch.setattr(command, "TIMEOUT", 0.2)
    pid_file = tmp_path / "pid"
    problem = run(("/bin/sh", "-c", f"echo $$ > {pid_file}; exec sleep 60"), tmp_path)
    assert problem is not None
    assert "was stopped" in problem
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_command_that_prints_without_end_does_not_fill_anything(tmp_path: Path) -> None:
    """F15: output goes nowhere."""
    assert run(("/bin/sh", "-c", "head -c 50000000 /dev/zero"), tmp_path) is None
