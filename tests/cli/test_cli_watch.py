"""`watch`: which profiles it takes, what it says of the others, and what is seen of it from outside."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported

DOWN = '[when]\notherwise = "disconnect"\n'  # nothing is started in here
PASSWORD = """
version = 1
[gateway]
address = "vpn.example.com"
[auth]
method = "eap-mschapv2"
identity = "alice"
password = {source}
"""


@pytest.fixture
def profiles(home: Path) -> Path:
    place = home / "config/ikeclient/profiles"
    work = place / "work.toml"
    work.write_text(work.read_text() + DOWN)
    (home / "run").mkdir(mode=0o700)
    return place


def broken(profiles: Path) -> None:
    (profiles / "old.toml").write_text("version = 1\n" + DOWN)


def test_what_is_watched_is_seen_in_status_and_by_the_service_manager(shell: Shell, profiles: Path) -> None:
    broken(profiles)
    (profiles / "bare.toml").write_text((profiles / "work.toml").read_text().replace(DOWN, ""))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(shell.home / "notify"))
        manager.settimeout(30)
        process = shell.start("watch", NOTIFY_SOCKET=str(shell.home / "notify"), WATCHDOG_USEC="60000000")
        assert manager.recv(4096) == b"WATCHDOG=1"
        ready, status = manager.recv(4096).decode().split("\n")
        assert (ready, status.startswith("STATUS=work: ")) == ("READY=1", True)
        document = json.loads(shell.run("status", "--json").stdout)
        [tunnel] = document["tunnels"]
        assert (tunnel["name"], tunnel["state"], tunnel["pid"]) == ("work", "disconnected", 0)
        assert tunnel["watch"]["pid"] == process.pid
        assert status == f"STATUS=work: {tunnel['watch']['action']}: {tunnel['watch']['reason']}"
        again = shell.run("watch")
        assert (again.returncode, str(process.pid) in again.stderr) == (2, True)
        assert shell.run("status", "--check", "up").returncode == 3
        named = shell.run("status", "work", "--json")
        assert (named.returncode, json.loads(named.stdout)) == (8, document)
        assert named.stderr == "error: no tunnel 'work' is running\n"
        assert shell.run("status", "work", "--check", "up").returncode == 3
        assert shell.run("metrics").stdout.strip() == ""
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
        assert process.returncode == 0
        assert "profile 'old' is left out" in said
        assert "bare" not in said
        heard = []
        while not heard or "STOPPING" not in heard[-1]:
            heard.append(manager.recv(4096).decode())
    assert json.loads(shell.run("status", "--json").stdout)["tunnels"] == []


def test_a_terminal_that_is_closed_ends_it(shell: Shell, profiles: Path) -> None:
    def watched() -> bool:
        return bool(json.loads(shell.run("status", "--json").stdout)["tunnels"])

    process = shell.start("watch")
    shell.until(watched)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=30) == 0
    assert not watched()


def test_a_profile_that_is_named_and_broken_is_an_error_at_once(shell: Shell, profiles: Path) -> None:
    broken(profiles)
    done = shell.run("watch", "work", "old")
    assert (done.returncode, "key 'gateway" in done.stderr) == (9, True)
    assert shell.run("watch", "work", "other").returncode == 10


@pytest.mark.parametrize("kind", ["its content", "a file that is not there"])
def test_without_a_profile_that_can_be_used_it_is_an_error_too(shell: Shell, profiles: Path, kind: str) -> None:
    """And each fault is told once."""
    if kind == "its content":
        broken(profiles)
        (profiles / "work.toml").unlink()
    else:
        (profiles / "psk").unlink()
    done = shell.run("watch")
    fault = "key 'gateway' is missing" if kind == "its content" else str(profiles / "psk")
    assert (done.returncode, done.stderr.count(fault), "is left out" in done.stderr) == (9, 1, False), done.stderr
    assert done.stderr.startswith("error: ")


def test_of_several_that_cannot_be_used_the_last_one_is_the_error(shell: Shell, profiles: Path) -> None:
    broken(profiles)
    (profiles / "psk").unlink()
    done = shell.run("watch")
    assert (done.returncode, done.stderr.count("is left out"), done.stderr.count("error: ")) == (9, 1, 1)
    assert done.stderr.count(str(profiles / "psk")) == 1


@pytest.mark.parametrize("source", ["{ prompt = true }", ""])
def test_a_profile_that_asks_is_refused_with_what_to_do(shell: Shell, profiles: Path, source: str) -> None:
    text = PASSWORD.format(source=source)
    text = text if source else "\n".join(line for line in text.splitlines() if "password" not in line)
    (profiles / "ask.toml").write_text(text + "\n" + DOWN)
    done = shell.run("watch", "work", "ask")
    assert done.returncode == 2
    assert "profile 'ask' asks for its password" in done.stderr
    assert "set auth.password to" in done.stderr


def test_a_profile_without_rules_is_an_error_if_it_is_named(shell: Shell, profiles: Path) -> None:
    (profiles / "bare.toml").write_text((profiles / "work.toml").read_text().replace(DOWN, ""))
    done = shell.run("watch", "bare")
    assert (done.returncode, "[when]" in done.stderr) == (2, True)
    (profiles / "work.toml").unlink()
    done = shell.run("watch")
    assert (done.returncode, "no profile has a section [when]" in done.stderr) == (2, True)
