"""`wait`: up and down, before, during and after the life of a tunnel."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported


def is_asleep(pid: int) -> bool:
    """Whether a process waits for something."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_waiting_for_a_tunnel_that_does_not_run_yet_ends_when_it_is_up(shell: Shell) -> None:
    waiting = [shell.start("wait", *name, "--for", "up", "--timeout", "30") for name in (["work"], [])]
    for each in waiting:
        shell.until(lambda each=each: is_asleep(each.pid))
        assert each.poll() is None
    shell.connected("work")
    for each in waiting:
        assert each.communicate(timeout=20) == ("", "")
        assert each.returncode == 0


def test_waiting_for_a_tunnel_that_is_up_ends_at_once(shell: Shell) -> None:
    shell.connected("work")
    assert shell.run("wait", "work").returncode == 0  # there is no further event that could end it


def test_waiting_for_a_tunnel_that_does_not_come_up_ends_in_time_with_5(shell: Shell) -> None:
    for begin in (lambda: None, lambda: shell.connected("work", mode="waiting")):
        begin()
        done = shell.run("wait", "work", "--for", "up", "--timeout", "0.5")
        assert (done.returncode, done.stdout) == (5, "")
        assert done.stderr == "error: tunnel 'work' was not up within 0.5 s\n"


def test_waiting_listens_and_does_not_ask_again_and_again(shell: Shell) -> None:
    shell.connected("work", mode="waiting")
    waiting = shell.start("wait", "work", "--timeout", "30")
    shell.until(lambda: shell.status("work")["listeners"] == 1)
    used = Path(f"/proc/{waiting.pid}/stat").read_text().split()
    time.sleep(1)
    later = Path(f"/proc/{waiting.pid}/stat").read_text().split()
    assert int(later[13]) - int(used[13]) <= 2  # clock ticks of 10 ms


def test_waiting_for_the_end_ends_with_the_process_and_at_once_without_one(shell: Shell) -> None:
    process = shell.connected("work")
    late = shell.run("wait", "work", "--for", "down", "--timeout", "0.3")
    assert (late.returncode, late.stderr) == (5, "error: tunnel 'work' was not down within 0.3 s\n")
    waiting = shell.start("wait", "--for", "down")
    shell.until(lambda: is_asleep(waiting.pid))
    process.send_signal(signal.SIGTERM)
    assert waiting.communicate(timeout=20) == ("", "")
    assert waiting.returncode == 0
    assert process.wait(timeout=20) == 0
    assert shell.run("wait", "work", "--for", "down").returncode == 0


def test_which_of_several_tunnels_has_to_be_said(shell: Shell) -> None:
    for name in ("one", "two"):
        shell.connected(name)
    for state in ("up", "down"):
        done = shell.run("wait", "--for", state)
        assert done.returncode == 2
        assert "one, two" in done.stderr
        assert shell.run("wait", "one", "--for", state, "--timeout", "0.2").returncode == (0 if state == "up" else 5)
    assert shell.run("wait", "no/name").returncode == 2
    assert shell.run("wait", "one", "--for", "sideways").returncode == 2
