"""What a forked process keeps of whoever forked it: what it was told to, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ikeclient.ipc.fork import daemonise, fork


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_exit_code_is_what_the_child_returns() -> None:
    assert ended(fork(lambda: 7)) == 7


def test_an_exception_ends_the_child_and_stays_in_it() -> None:
    def life() -> int:
        raise SystemExit(0)

    assert ended(fork(life)) == 1


def test_buffered_output_is_written_once() -> None:
    program = (
        "import os, sys; from ikeclient.ipc.fork import fork\n"
        "print('line')\n"
        "os.waitpid(fork(lambda: sys.stdout.flush() or 0), 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "line\n"


def test_a_daemon_keeps_what_it_was_told_to(tmp_path: Path) -> None:
    with (tmp_path / "kept").open("w") as kept, (tmp_path / "other").open("w") as other:
        assert other.fileno() > 2

        def life() -> int:
            assert daemonise([kept.fileno()]) == [kept.fileno()]
            here = [f"session {os.getsid(0) == os.getpid()}"]
            for number in range(200):
                try:
                    here.append(os.readlink(f"/proc/self/fd/{number}"))
                except OSError:
                    continue
            os.write(kept.fileno(), "\n".join(here).encode())
            return 0

        assert ended(fork(life)) == 0
    assert (tmp_path / "kept").read_text().splitlines() == [
        "session True",
        *["/dev/null"] * 3,
        str(tmp_path / "kept"),
    ]


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)])
def test_a_kept_descriptor_is_never_a_standard_file(tmp_path: Path, closed: tuple[int, ...]) -> None:
    """The caller may have closed them, and a pipe then has the number of one."""
    program = (
        "import os, sys; from ikeclient.ipc.fork import daemonise, fork\n"
        f"[os.close(number) for number in {closed}]\n"
        "number = os.open(sys.argv[1], os.O_WRONLY)\n"
        "assert number == 0\n"
        "def life():\n"
        "    [moved] = daemonise([number])\n"
        "    os.write(moved, b'fine' if moved > 2 else b'wrong')\n"
        "    return 0\n"
        "os._exit(os.waitstatus_to_exitcode(os.waitpid(fork(life), 0)[1]))\n"
    )
    (tmp_path / "file").touch()
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "file")], timeout=60).returncode == 0
    assert (tmp_path / "file").read_text() == "fine"
