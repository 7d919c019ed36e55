"""What is left of a bug: enough to find it, nothing that quotes a secret."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest
from cli_fake_tunnel import CANARY

from ikeclient.cli import failure
from ikeclient.cli.context import settings
from ikeclient.process.bug_report import outline


def caught() -> BaseException:
    password = CANARY
    try:
        try:
            int(password)
        except ValueError as error:
            raise KeyError(password) from error
    except KeyError as error:
        return error


def test_the_outline_has_places_and_kinds_but_no_message() -> None:
    """F12: a traceback does not quote what it failed on."""
    text = outline(caught())
    assert CANARY not in text
    assert "builtins.KeyError" in text
    assert "because of" in text
    assert "builtins.ValueError" in text
    assert "int(password)" in text


def test_an_error_of_the_system_keeps_the_systems_words() -> None:
    assert "No space left on device" in outline(OSError(errno.ENOSPC, f"{CANARY}"))


def test_a_missing_module_is_named() -> None:
    assert "No module named 'pyroute3'" in outline(ModuleNotFoundError("No module named 'pyroute3'"))


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert outline(first).count("builtins.ValueError") == 1


def test_a_bug_leaves_a_private_file_and_one_sentence(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = failure.unexpected(caught())
    path = home / "run/crash.log"
    assert error.exit_code == 1
    assert error.lines() == ["unexpected KeyError", f"this is a bug in ikeclient; the traceback is in {path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "int(password)" in path.read_text()
    assert CANARY not in path.read_text()
    assert capsys.readouterr().err == ""


def test_without_a_place_for_the_file_the_traceback_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """O12: nothing can be written, and the error is still told."""
    monkeypatch.setenv("IKECLIENT_RUNTIME_DIR", "/proc/nowhere")
    assert "the traceback is above" in (failure.unexpected(caught()).reason or "")
    shown = capsys.readouterr().err
    assert "int(password)" in shown
    assert CANARY not in shown


def test_a_link_in_place_of_the_file_is_not_followed(home: Path) -> None:
    (home / "run").mkdir(mode=0o700)
    (home / "victim").touch()
    (home / "run/crash.log").symlink_to(home / "victim")
    failure.unexpected(caught())
    assert (home / "victim").read_text() == ""


def test_debug_shows_the_traceback_on_stderr(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(settings, "debug", True)
    failure.unexpected(caught())
    shown = capsys.readouterr().err
    assert "builtins.KeyError" in shown
    assert CANARY not in shown
    assert not (home / "run/crash.log").exists()
