"""What people see when the machine has run out of something: no bug of ours, and what to do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ikeclient.errors import PlatformError, shortage

ROOT = Path(__file__).parents[1]


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("S3cr3t-CANARY"), "not enough memory"),
        (OSError(errno.ENOMEM, "x"), "not enough memory"),
        (ImportError("libcrypto.so: failed to map segment from shared object"), "not enough memory"),
        (caused(ValueError("odd"), MemoryError()), "not enough memory"),
        (OSError(errno.EMFILE, "x"), "not enough file descriptors"),
        (OSError(errno.ENFILE, "x"), "not enough file descriptors"),
        (RuntimeError("can't start new thread"), "no further thread"),
    ],
)
def test_running_out_of_something_is_no_bug(error: BaseException, words: str) -> None:
    """O13"""
    lack = shortage(error)
    assert isinstance(lack, PlatformError)
    assert words in lack.message
    assert lack.hint
    assert "CANARY" not in " ".join(lack.lines())


@pytest.mark.parametrize("error", [ValueError("x"), OSError(errno.EIO, "x"), RuntimeError("x"), ImportError("x")])
def test_everything_else_may_be_one(error: BaseException) -> None:
    assert shortage(error) is None


@pytest.mark.parametrize(
    "words", [["version"], ["--help"], ["connect", "--help"], ["status", "--json"], ["profile", "new", "-"]]
)
@pytest.mark.parametrize("standard_error", ["open", "full", "closed"])
def test_a_full_disk_on_standard_output_is_no_bug_of_ours(
    tmp_path: Path, words: list[str], standard_error: str
) -> None:
    """O12: exit code 12, in words where they can be read, and no report of a bug."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "IKECLIENT_RUNTIME_DIR": str(tmp_path / "run")}
    redirect = {"open": "", "full": "2>/dev/full", "closed": "2>&-"}[standard_error]
    script = f'exec "$@" >/dev/full {redirect}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-m", "ikeclient", *words],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == 12
    expected = "error: cannot write to standard output\n  No space left on device\n" if standard_error == "open" else ""
    assert done.stderr == expected
    assert not (tmp_path / "run").exists(), "no report of a bug"
