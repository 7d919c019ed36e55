"""The decisions of `ikeclient watch` as files: read back, and whatever else may lie in a user's directory passed by."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ikeclient.control import automatic


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_a_decision_is_read_back_until_it_is_removed(directory: Path) -> None:
    automatic.write(directory, "work", "connect", "no rule fits network (wired on eth0)", "cannot be started")
    found = dict(automatic.decisions(directory))["work"]
    assert (found.action, found.reason, found.trouble) == (
        "connect",
        "no rule fits network (wired on eth0)",
        "cannot be started",
    )
    assert found.pid == os.getpid()
    assert found.since is not None
    automatic.remove(directory, "work")
    assert dict(automatic.decisions(directory)) == {}


def test_a_decision_of_a_dead_process_is_none_also_if_another_has_its_number(directory: Path) -> None:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as other:
        automatic.write(directory, "work", "connect", "why")
        path = directory / f"work{automatic.SUFFIX}"
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {"pid": other.pid}))
        assert dict(automatic.decisions(directory)) == {}
        with open(f"/proc/{other.pid}/stat") as file:
            started = int(file.read().rpartition(") ")[2].split()[19])
        path.write_text(json.dumps(values | {"pid": other.pid, "started": started}))
        assert dict(automatic.decisions(directory)).keys() == {"work"}
        assert other.stdin is not None
        other.stdin.close()
        other.wait()
        assert dict(automatic.decisions(directory)) == {}


def test_a_directory_that_cannot_be_written_costs_the_decision(directory: Path) -> None:
    directory.chmod(0o777)  # not ours alone
    automatic.write(directory, "work", "connect", "why")
    assert list(directory.iterdir()) == []
    automatic.remove(directory / "missing", "work")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "[" * 16000,
        '{"reason": "b", "pid": OURS}',
        *(f'{{"action": "a", "reason": "b", "pid": {pid}}}' for pid in (0, -1, 10**30, '"1"', "null", "OURS")),
    ],
)
def test_what_is_no_decision_of_a_living_process_is_passed_by(directory: Path, content: str) -> None:
    (directory / f"odd{automatic.SUFFIX}").write_text(content.replace("OURS", str(os.getpid())))
    assert dict(automatic.decisions(directory)) == {}


@pytest.mark.timeout(20)
def test_neither_a_pipe_nor_a_link_is_waited_for(directory: Path) -> None:
    """Root's `status` reads directories of users."""
    os.mkfifo(directory / f"pipe{automatic.SUFFIX}")
    target = directory / "elsewhere"
    automatic.write(directory, "true", "connect", "why")
    (directory / f"true{automatic.SUFFIX}").rename(target)
    (directory / f"link{automatic.SUFFIX}").symlink_to(target)
    assert dict(automatic.decisions(directory)) == {}
