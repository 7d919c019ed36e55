"""Standing in for a command: its exit status, and signals handed on once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ikeclient.process.stand_in import wait_for_end

STAND_IN = """
import os, signal, sys
from ikeclient.process.stand_in import StandIn
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
stand_in = StandIn(command, tunnel, "work", print)
os.write(begun, b".")
code = stand_in.wait()
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
