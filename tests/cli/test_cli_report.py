"""`report`: what it holds, and what it must not."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from cli_fake_tunnel import CANARY

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported


def test_a_report_has_what_a_fault_needs_and_no_secret(shell: Shell, home: Path) -> None:
    """F12: the log of the attempt that failed is in it, also of one in the foreground."""
    secret = home / "config/ikeclient/profiles/psk"
    secret.write_text(CANARY)
    assert shell.run("connect", "work", mode="refused").returncode == 4
    shell.connected("home")
    done = shell.run("report", "-o", str(home / "report.txt"), IKECLIENT_NETWORK_DNS="none")
    assert (done.returncode, done.stdout) == (0, f"{home}/report.txt\n")
    path = home / "report.txt"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    for part in (
        '"python"',
        "TUN device",
        "IKECLIENT_NETWORK_DNS",
        '"state": "connected"',
        "== profile work ==",
        'psk = { file = "psk" }',
        "negotiating with 203.0.113.7",
        "error: the gateway refused us / AUTHENTICATION_FAILED / check the password",
        "== profile home ==",
    ):
        assert part in text, part
    assert CANARY not in text
    again = shell.run("report", "-o", str(path))
    assert again.returncode == 2, "nothing is overwritten"
    assert again.stderr == f"error: {path} is there already\n  --output names another\n"
    assert shell.run("report", "-o", str(home / "misspelt/report.txt")).returncode == 2
    assert not (home / "misspelt").exists()


def test_a_report_is_made_of_what_there_is(shell: Shell, home: Path) -> None:
    done = shell.run("report", "nowhere", "-o", str(home / "report.txt"))
    assert done.returncode == 0
    assert 'there is no profile "nowhere"' in (home / "report.txt").read_text()


def test_a_report_does_not_wait_for_a_log_that_is_none(shell: Shell, home: Path) -> None:
    shell.runtime.mkdir(mode=0o700, exist_ok=True)
    os.mkfifo(shell.runtime / "pipe.log")
    assert shell.run("report", "-o", str(home / "report.txt")).returncode == 0
    assert "cannot be read: not a regular file" in (home / "report.txt").read_text()
