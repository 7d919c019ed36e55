"""Completion, asked as a shell asks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Any

import pytest

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported


def completed(shell: Shell, *words: str) -> list[str]:
    """What bash is told could stand where the last of the words is."""
    line = " ".join(("ikeclient", *words))
    asked = {"_IKECLIENT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    done = shell.run(**asked)
    assert (done.returncode, done.stderr) == (0, "")
    return list(done.stdout.split())


def test_commands_options_profiles_and_tunnels_complete(shell: Shell) -> None:
    shell.connected("office")
    assert completed(shell, "rec") == ["reconnect"]
    assert "--detach" in completed(shell, "connect", "--d")
    assert completed(shell, "connect", "wo") == ["work"]
    assert completed(shell, "exec", "wo") == ["work"]
    assert completed(shell, "profile", "edit", "") == ["office", "work"]
    assert completed(shell, "disconnect", "") == ["office"]
    assert completed(shell, "status", "o") == ["office"]
    assert completed(shell, "doctor", "--for", "e") == ["exec"]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell: Shell, name: str) -> None:
    done = shell.run("completion", name)
    assert done.returncode == 0
    assert "_IKECLIENT_COMPLETE" in done.stdout
    assert shell.run("completion", "csh").returncode == 2


def test_a_real_bash_takes_the_script(shell: Shell) -> None:
    bash = shutil.which("bash")
    assert bash
    tool = shell.home / "ikeclient"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m ikeclient "$@"\n')
    tool.chmod(0o755)
    program = (
        f'export PATH={shell.home}:$PATH; eval "$(ikeclient completion bash)"; COMP_WORDS=(ikeclient connect w); '
        'COMP_CWORD=2; _ikeclient_completion ikeclient; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run([bash, "-c", program], env=shell.environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("work\n", "")
