"""The decisions of `ikeclient watch` as files: read back, and whatever else may lie in a user's directory passed by."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ikeclient.control import automatic


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_a_decision_is_read_back_until_it_is_removed(directory: Path) -> None:
    automatic.write(directory, "work", "connect", "no rule fits wired on eth0")
    [found] = automatic.decisions(directory)
    assert (found.name, found.action, found.pid) == ("work", "connect", os.getpid())
    automatic.remove(directory, "work")
    assert automatic.decisions(directory) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "[" * 16000,
        *(json.dumps({"action": "a", "why": "b", "since": "c", "pid": pid}) for pid in (0, -1, 10**30, "1", None)),
    ],
)
def test_what_is_no_decision_of_a_living_process_is_passed_by(directory: Path, content: str) -> None:
    (directory / f"odd{automatic.SUFFIX}").write_text(content)
    assert automatic.decisions(directory) == []


@pytest.mark.timeout(20)
def test_neither_a_pipe_nor_a_link_is_waited_for(directory: Path) -> None:
    """Root's `status` reads directories of users."""
    os.mkfifo(directory / f"pipe{automatic.SUFFIX}")
    target = directory / "elsewhere"
    target.write_text(json.dumps({"action": "a", "why": "b", "since": "c", "pid": os.getpid()}))
    (directory / f"link{automatic.SUFFIX}").symlink_to(target)
    assert automatic.decisions(directory) == []
