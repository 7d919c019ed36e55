"""What of a file's life rings the bell, with the kernel's own events."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ikeclient.net.watch.files import FileBell

CHANGES: dict[str, Callable[[Path], object]] = {
    "rewritten": lambda path: path.write_text("b"),
    "appended to": lambda path: os.truncate(path, 0),
    "replaced": lambda path: (path.with_name("new").write_text("b"), path.with_name("new").replace(path)),
    "removed": lambda path: path.unlink(),
    "a link now": lambda path: (path.unlink(), path.symlink_to("/dev/null")),
    "in another directory": lambda path: path.parent.rename(path.parent.with_name("other")),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "resolv.conf"
    path.parent.mkdir()
    path.write_text("a")
    return path


@pytest.fixture
def bell(path: Path) -> Iterator[FileBell]:
    bell = FileBell([str(path)])
    yield bell
    bell.close()


def rings(bell: FileBell) -> bool:
    """What is there already; the kernel queues an event before the call that causes it returns."""
    return bool(select.select([bell], [], [], 0)[0]) and bell.rung()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_happens_to_a_file_rings(bell: FileBell, path: Path, change: Callable[[Path], object]) -> None:
    """O10: a DHCP client writes in place, a network manager renames over it."""
    assert not rings(bell)
    change(path)
    assert rings(bell)
    assert not rings(bell)


def test_it_goes_on_after_a_look(bell: FileBell, path: Path) -> None:
    for turn in range(3):
        path.with_name("new").write_text(str(turn))
        path.with_name("new").replace(path)
        assert rings(bell)
        bell.watch()
        path.write_text("again")
        assert rings(bell)
        bell.watch()


def test_other_files_beside_it_are_no_reason(bell: FileBell, path: Path) -> None:
    path.with_name("hosts").write_text("b")
    path.with_name("hosts").unlink()
    path.read_text()
    assert not rings(bell)


def test_a_directory_that_is_not_there_yet_rings_when_it_appears(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "systemd" / "resolve"
    bell = FileBell([str(directory)])
    for each in (directory.parent.parent, directory.parent, directory):
        each.mkdir()
        assert rings(bell), each
        bell.watch()
    (directory / "stub-resolv.conf").write_text("x")
    assert not rings(bell), "what is in it is not asked for"
    bell.close()


def test_every_name_in_a_directory_rings_if_that_is_asked_for(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "ikeclient"
    bell = FileBell([str(directory)], inside=[str(directory)])
    for each in (directory.parent, directory, directory / "work"):
        each.mkdir()
        assert rings(bell), each
        bell.watch()
    (directory / "work").rename(directory / "home")
    assert rings(bell)
    (directory / "home").rmdir()
    assert rings(bell)
    (directory / ".lock").touch()
    assert not rings(bell), "what is hidden is not asked for"
    bell.close()


def test_the_file_that_a_link_leads_to_counts(tmp_path: Path) -> None:
    target, link = tmp_path / "run" / "stub.conf", tmp_path / "resolv.conf"
    target.parent.mkdir()
    target.write_text("a")
    link.symlink_to(target)
    bell = FileBell([str(link)])
    for change in (lambda: target.write_text("b"), lambda: target.unlink(), lambda: link.unlink()):
        change()
        assert rings(bell)
    bell.close()
