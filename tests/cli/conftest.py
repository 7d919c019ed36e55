"""A home, a runtime directory and a profile for every test, and ways to run the command line in them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ikeclient.control import client
from ikeclient.control.protocol import Command

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PROFILE = """
version = 1
[gateway]
address = "vpn.example.com"
[auth]
method = "psk"
identity = "alice"
psk = { file = "psk" }
"""


class Shell:
    """Runs `ikeclient` in processes of its own, with the real control sockets and a fake tunnel below."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.runtime = home / "run"
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "IKECLIENT_RUNTIME_DIR": str(self.runtime),
            "PYTHONPATH": f"{ROOT}:{HERE}",
            "LANG": "C.UTF-8",
            "IKECLIENT_LOG_FORMAT": "text",
        }
        self._started: list[subprocess.Popen[str]] = []

    def command(self, *arguments: str, mode: str | None = None) -> list[str]:
        """The argv of `ikeclient`; `mode` is how the tunnel it starts behaves."""
        fake = [str(HERE / "cli_fake_tunnel.py"), mode] if mode else ["-m", "ikeclient"]
        return [sys.executable, *fake, *arguments]

    def run(
        self, *arguments: str, mode: str | None = None, stdin: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; without `stdin` it is closed off."""
        given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            self.command(*arguments, mode=mode),
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **given,
        )

    def start(self, *arguments: str, mode: str | None = None, **environment: str) -> subprocess.Popen[str]:
        """Start in the background with pipes for stdout and stderr."""
        process = subprocess.Popen(
            self.command(*arguments, mode=mode),
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def connected(self, name: str = "work", mode: str = "connected") -> subprocess.Popen[str]:
        """A running `connect` whose tunnel is up."""
        (self.home / f"config/ikeclient/profiles/{name}.toml").write_text(PROFILE)
        process = self.start("connect", name, mode=mode)
        self.until(lambda: client.running_pid(name, self.runtime) is not None)
        self.until(lambda: self.status(name)["state"] == ("connecting" if mode == "waiting" else "connected"))
        return process

    def status(self, name: str) -> dict[str, Any]:
        """What a running tunnel says of itself."""
        answer = client.request(name, Command.STATUS, directory=self.runtime)
        assert isinstance(answer, dict)
        return answer

    @staticmethod
    def until(condition: Callable[[], bool], seconds: float = 20) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "did not happen"
            time.sleep(0.02)

    def stop(self) -> None:
        """End whatever is left, detached tunnels too."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for name in client.list_tunnels(self.runtime):
            if pid := client.running_pid(name, self.runtime):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    profiles = tmp_path / "config/ikeclient/profiles"
    profiles.mkdir(parents=True)
    (profiles / "work.toml").write_text(PROFILE)
    (profiles / "psk").touch(mode=0o600)
    (profiles / "psk").write_text("correct horse battery staple")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("IKECLIENT_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("IKECLIENT_LOG_FORMAT", "text")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path


@pytest.fixture
def shell(home: Path) -> Iterator[Shell]:
    shell = Shell(home)
    try:
        yield shell
    finally:
        shell.stop()
