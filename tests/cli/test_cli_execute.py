"""Whether a command can be run at all, told before anything is started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ikeclient.cli.execute import unusable
from ikeclient.cli.inside import Wish
from ikeclient.cli.supervise import wait_for_end


@pytest.mark.parametrize(("mode", "expected"), [(None, 127), (0o644, 126), (0o755, 0)])
def test_a_program_is_looked_for_as_a_shell_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None, expected: int
) -> None:
    """F16"""
    if mode is not None:
        (tmp_path / "tool").touch(mode)
        (tmp_path / "tool").chmod(mode)
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}")
    assert unusable("tool") == expected
    assert unusable(str(tmp_path / "tool")) == expected


def test_a_directory_is_no_program(tmp_path: Path) -> None:
    assert unusable(str(tmp_path)) == 126


@pytest.mark.parametrize(("profile", "name"), [("work", "work"), ("./a/home.toml", "home"), ("home.toml", "home")])
def test_a_tunnel_is_named_after_its_profile(profile: str, name: str) -> None:
    assert Wish(profile=profile, show=lambda _: None).name == name


STAND_IN = """
import os, signal, sys
from ikeclient.cli.supervise import Supervisor
from ikeclient.net.syscalls import die_with_parent
parent = os.getpid()
begin, begun = os.pipe()
command = os.fork()
if command == 0:
    die_with_parent(signal.SIGKILL, parent)
    os.read(begin, 1)
    os.execvp("sh", ["sh", "-c", sys.argv[1]])
tunnel = os.fork()
if tunnel == 0:
    die_with_parent(signal.SIGKILL, parent)
    signal.pause()
supervisor = Supervisor(command, tunnel, "work")
os.write(begun, b".")
code = supervisor.wait()
os.kill(tunnel, signal.SIGKILL)
sys.exit(code)
"""


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -TERM $$", 143), ("(exit 1) & exit 0", 0)])
def test_the_status_is_the_one_a_shell_would_give(script: str, status: int) -> None:
    assert subprocess.run([sys.executable, "-c", STAND_IN, script], timeout=30).returncode == status


def test_a_signal_for_the_stand_in_is_handed_on_once() -> None:
    script = "trap 'echo one' USR1; trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen([sys.executable, "-c", STAND_IN, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "one\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
        assert process.wait(20) == 6


def test_the_end_of_a_child_is_waited_for() -> None:
    short = os.fork()
    if short == 0:
        os._exit(0)
    assert wait_for_end(short, 10)
    assert wait_for_end(short, 0), "seen before"
    long = os.fork()
    if long == 0:
        signal.pause()
        os._exit(0)
    assert not wait_for_end(long, 0.05)
    os.kill(long, signal.SIGKILL)
    assert wait_for_end(long, 10)
