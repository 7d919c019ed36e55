"""`block` and `unblock` on the command line."""

from __future__ import annotations

from typing import Any

import pytest

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported


def test_nothing_to_open_is_an_error_that_names_it(shell: Shell) -> None:
    done = shell.run("unblock", "work")
    assert done.returncode == 8
    assert "tunnel 'work' keeps nothing closed" in done.stderr


@pytest.mark.parametrize("time", ["", "5 parsecs", "0", "25h", "-1"])
def test_a_time_that_is_none_is_a_usage_error(shell: Shell, time: str) -> None:
    assert shell.run("unblock", "work", "--for", time).returncode == 2


def test_a_name_and_all_do_not_go_together(shell: Shell) -> None:
    assert shell.run("unblock", "work", "--all").returncode == 2


def test_a_profile_that_is_missing_closes_nothing(shell: Shell) -> None:
    assert shell.run("block", "nowhere").returncode == 10
