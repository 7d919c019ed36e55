"""Files opened where others may have put something else under the name."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ikeclient.nofollow import create_file, open_directory, open_regular, take_lock, try_lock


def _link(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(b"of another")
    path.symlink_to(target)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


OTHERS: list[Callable[[Path], object]] = [_link, _socket, os.mkfifo, Path.mkdir]


def test_a_regular_file_is_read_by_its_path_and_below_an_open_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    directory = open_directory(tmp_path)
    try:
        with open_regular(tmp_path / "file") as by_path, open_regular("file", directory) as below:
            assert by_path.read() == below.read() == b"content"
    finally:
        os.close(directory)


@pytest.mark.parametrize("make", OTHERS)
def test_anything_but_a_regular_file_is_refused_and_nothing_stays_open(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "file")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "file")
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_takes_the_place_of_a_file_between_looking_and_opening_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    look = os.stat

    def looked(*args: object, **kwargs: object) -> os.stat_result:
        status = look(*args, **kwargs)  # type: ignore[call-overload]
        (tmp_path / "pipe").rename(tmp_path / "file")
        return status  # type: ignore[no-any-return]

    monkeypatch.setattr(os, "stat", looked)
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "file")


def test_a_new_file_is_the_owners_only_and_takes_the_place_of_nothing(tmp_path: Path) -> None:
    with create_file(tmp_path / "file") as file:
        file.write(b"new")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "dangling"):
        with pytest.raises(FileExistsError):
            create_file(tmp_path / name)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(NotADirectoryError):
        open_directory(tmp_path / "link")


def test_a_lock_is_one_holders_until_it_is_given_up(tmp_path: Path) -> None:
    held = try_lock(tmp_path / "lock")
    assert held is not None
    assert try_lock(tmp_path / "lock") is None
    os.close(held)
    again = try_lock(tmp_path / "lock")
    assert again is not None
    os.close(again)


def test_who_waits_for_a_lock_whose_file_was_removed_locks_the_next_file(tmp_path: Path) -> None:
    """The lock on a file without a name keeps nobody out who comes later."""
    path = tmp_path / "lock"
    held = take_lock(path)
    taken: list[int] = []
    waiting = threading.Thread(target=lambda: taken.append(take_lock(path)))
    waiting.start()
    path.unlink()
    path.touch()  # the next holder's
    os.close(held)
    waiting.join()
    assert os.path.samestat(os.fstat(taken[0]), path.stat())
    assert try_lock(path) is None
    os.close(taken[0])
