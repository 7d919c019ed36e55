"""The files that keys go to: new ones of our own, in a directory of our own, or none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ikeclient.errors import UsageError
from ikeclient.tunnel.keylog import NAMES, KeyLog

OTHER = 54321


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.mkdir(mode=0o700)
    return path


def refusal(directory: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        KeyLog(directory)
    return caught.value


def test_both_files_are_new_and_private_whatever_the_umask_says(keys: Path) -> None:
    """O17"""
    before = os.umask(0)
    try:
        KeyLog(keys)
    finally:
        os.umask(before)
    assert sorted(path.name for path in keys.iterdir()) == sorted(NAMES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["file", "other's file", "hard link", "symbolic link", "dangling link", "fifo"])
def test_what_is_there_already_is_neither_written_to_nor_waited_for(
    tmp_path: Path, keys: Path, name: str, kind: str
) -> None:
    """F18, O17: a file of another user, a link to one that others can read, a FIFO; and no half of it is left."""
    victim = tmp_path / "victim"
    if kind != "dangling link":
        victim.write_text("theirs\n")
    match kind:
        case "file":
            (keys / name).write_text("theirs\n")
        case "other's file":
            (keys / name).write_text("theirs\n")
            if os.geteuid() == 0:
                os.chown(keys / name, OTHER, OTHER)
        case "hard link":
            os.link(victim, keys / name)
        case "fifo":
            os.mkfifo(keys / name)
        case _:
            (keys / name).symlink_to(victim)
    error = refusal(keys)
    assert error.message == f"{keys / name} is there already"
    assert "another directory" in (error.hint or "")
    assert [path.name for path in keys.iterdir()] == [name]
    if kind == "dangling link":
        assert not victim.exists()
    else:
        assert victim.read_text() == "theirs\n"


def test_a_second_connection_needs_another_directory(tmp_path: Path, keys: Path) -> None:
    """F18"""
    KeyLog(keys)
    assert "is there already" in refusal(keys).message
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    KeyLog(other)
    assert len(list(other.iterdir())) == 2


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720, 0o702])
def test_a_directory_that_others_can_write_to_is_refused(keys: Path, mode: int) -> None:
    """F18: the sticky bit is not enough, since others could be first."""
    keys.chmod(mode)
    assert f"others may change (mode {mode:04o})" in refusal(keys).message
    assert not list(keys.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_directory_of_another_user_is_refused_and_so_is_one_below_it(tmp_path: Path, keys: Path) -> None:
    """F18: its owner could put another directory in its place."""
    os.chown(keys, OTHER, OTHER)
    assert f"belongs to another user (uid {OTHER})" in refusal(keys).message
    inner = keys / "inner"
    inner.mkdir(mode=0o700)
    assert f"is reached through {keys}, which belongs to another user" in refusal(inner).message
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    os.chown(keys, 0, 0)
    assert "belongs to another user" in refusal(link / "keys").message
    assert not list(inner.iterdir())


@pytest.mark.parametrize("name", ["missing", "file", "nul\0"])
def test_what_is_no_directory_is_an_error_with_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    error = refusal(tmp_path / name)
    assert "cannot write keys to" in error.message
    assert error.exit_code == 2


def test_a_directory_without_room_is_an_error_and_leaves_nothing(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O12"""
    really = os.open

    def full(path: str, flags: int, *rest: int, **more: int) -> int:
        if path == NAMES[1]:
            raise OSError(28, "No space left on device")
        return really(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", full)
    assert refusal(keys).reason == "No space left on device"
    assert not list(keys.iterdir())
