"""The log: small, private, harmless, and never in the way."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ikeclient.process.log_file import CappedFile, log_to

CANARY = "S3cr3t-CANARY"


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


def test_the_file_is_private_whatever_it_was(tmp_path: Path) -> None:
    (tmp_path / "work.log").touch(mode=0o644)
    CappedFile(tmp_path / "work.log").line("hello")
    assert stat.S_IMODE((tmp_path / "work.log").stat().st_mode) == 0o600
    assert (tmp_path / "work.log").read_text() == "hello\n"


def test_the_file_never_outgrows_its_cap(tmp_path: Path) -> None:
    path = tmp_path / "work.log"
    log = CappedFile(path, maximum=1000)
    for number in range(500):
        log.line(f"line {number} " + "x" * (number % 100))
        assert path.stat().st_size <= 1000
        lines = path.read_text().splitlines()
        numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
        assert numbers == list(range(numbers[0], number + 1)), "whole lines, the latest"
        assert number < 20 or len(numbers) > 3
    assert lines[0] == "(what came before was cut off: the log was full)"
    log.line("y" * 100_000)
    assert path.stat().st_size <= 1000
    assert path.read_text().startswith("(what came before")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "work.log").symlink_to(tmp_path / "victim")
    CappedFile(tmp_path / "work.log").line("hello")
    assert not (tmp_path / "victim").exists()


def test_a_full_disk_or_a_missing_place_costs_only_lines(tmp_path: Path) -> None:
    """O12: logging degrades, the tunnel goes on."""
    CappedFile(Path("/proc/nowhere/work.log")).line("hello")
    log = CappedFile(tmp_path / "work.log")
    full = os.open("/dev/full", os.O_WRONLY)
    assert log._descriptor is not None
    os.dup2(full, log._descriptor)
    log.line("hello")
    os.close(full)
    os.close(log._descriptor)
    log.line("hello")


def test_records_are_harmless_lines_without_tracebacks(root_logger: logging.Logger) -> None:
    """F12: the log names the kind of an exception and not its message."""
    lines: list[str] = []
    log_to(lambda text, _: lines.append(text), 0)
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger("asyncio").exception("escape \x1b[2J and\nnewline")
    logging.getLogger("asyncio").info("quiet")
    assert lines == ["error: asyncio: escape \\x1b[2J and\\nnewline (ValueError)"]


@pytest.mark.parametrize(("verbosity", "expected"), [(0, 1), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_each_v_says_more(root_logger: logging.Logger, verbosity: int, expected: int) -> None:
    lines: list[str] = []
    log_to(lambda text, _: lines.append(text), verbosity)
    for level in (logging.WARNING, logging.INFO, logging.DEBUG):
        logging.getLogger("test").log(level, "line")
    assert len(lines) == expected


def test_a_broken_record_or_a_broken_sink_is_nobodys_problem(root_logger: logging.Logger) -> None:
    def broken(text: str, _: object) -> None:
        raise OSError

    log_to(broken, 0)
    logging.getLogger("test").warning("line")
    log_to(lambda *_: None, 0)
    logging.getLogger("test").warning("%d", "not a number")
