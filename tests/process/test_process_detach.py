"""A tunnel in a child process: what it reports arrives, whatever its size, and nothing quotes a secret."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ikeclient.errors import AuthenticationFailed, IkeclientError, Interrupted, PlatformError
from ikeclient.ipc.fork import fork
from ikeclient.process import detach
from ikeclient.process.detach import Events, Prepared, prepare_and_run_detached, run_detached

CANARY = "S3cr3t-CANARY"


def detached(place: Path, work: Callable[[Events], None]) -> list[dict[str, object]]:
    """The events that were shown until the child was connected; it has ended then."""
    shown: list[dict[str, object]] = []
    pid = run_detached(work, shown.append, lambda event: f"line {event['event']}", place / "run" / "work.log", 0)
    os.waitpid(pid, 0)
    return shown


def test_events_arrive_until_the_tunnel_is_connected(tmp_path: Path) -> None:
    def work(report: Events) -> None:
        report({"event": "resolving", "host": "\x1b[2J\udcff"})
        report({"event": "connected", "interface": "ike0", "when": Path("/a")})
        report({"event": "roamed"})

    assert detached(tmp_path, work) == [
        {"event": "resolving", "host": "\x1b[2J\udcff"},
        {"event": "connected", "interface": "ike0", "when": "/a"},
    ]
    assert not (tmp_path / "run" / "work.log").exists(), "it ended cleanly"


def test_of_an_event_that_is_too_long_the_essential_arrives(tmp_path: Path) -> None:
    def work(report: Events) -> None:
        report({"event": "connected", "interface": "ike0", "routes": ["192.0.2.0/24"] * 1000})

    assert detached(tmp_path, work) == [{"event": "connected", "interface": "ike0"}]


@pytest.mark.parametrize("character", ["x", "\u20ac", "\U0001f600", "\x1b"])
def test_an_error_arrives_however_long_it_is(tmp_path: Path, character: str) -> None:
    """O12: and with its own exit code."""

    def work(_: Events) -> None:
        raise AuthenticationFailed(character * 5000, reason=character * 5000, hint=character * 5000)

    with pytest.raises(IkeclientError) as caught:
        detached(tmp_path, work)
    assert caught.value.exit_code == 4
    assert len(caught.value.lines()) == 3
    assert all(line.isprintable() for line in caught.value.lines())
    assert (tmp_path / "run" / "work.log").read_text().startswith("error: ")


def test_a_bug_is_outlined_in_the_log(tmp_path: Path) -> None:
    """F12"""

    def work(_: Events) -> None:
        raise ValueError(CANARY)

    with pytest.raises(IkeclientError) as caught:
        detached(tmp_path, work)
    log = tmp_path / "run" / "work.log"
    assert caught.value.lines() == ["unexpected ValueError", f"this is a bug in ikeclient; the traceback is in {log}"]
    assert "raise ValueError(CANARY)" in log.read_text()
    assert CANARY not in log.read_text()


def test_a_child_that_dies_without_a_word_is_told_of(tmp_path: Path) -> None:
    def work(report: Events) -> None:
        report({"event": "resolving"})
        os._exit(9)

    with pytest.raises(IkeclientError) as caught:
        detached(tmp_path, work)
    assert (caught.value.message, caught.value.exit_code) == ("the tunnel failed", 9)

    def killed(_: Events) -> None:
        os.kill(os.getpid(), 9)

    with pytest.raises(PlatformError, match="process is gone"):
        detached(tmp_path, killed)


def test_ctrl_c_ends_a_child_that_has_only_just_been_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O4: the signal comes before it is known which process to stop."""
    children: list[int] = []

    def interrupted(life: Callable[[], int]) -> int:
        children.append(fork(life))
        os.kill(os.getpid(), signal.SIGINT)
        return children[-1]

    monkeypatch.setattr(detach, "fork", interrupted)
    with pytest.raises(Interrupted):
        detached(tmp_path, lambda _: time.sleep(60))
    with pytest.raises(ChildProcessError):
        os.waitpid(children[0], os.WNOHANG)


@pytest.mark.parametrize("length", [200, 4000])
def test_the_profile_was_read_is_told_whatever_was_typed(tmp_path: Path, length: int) -> None:
    """F12: a passphrase that does not fit into a message is left out, and none shows itself."""
    passphrases = {"asked for passphrase of alice.key": CANARY.encode().ljust(length)}
    told: list[Prepared] = []

    def prepare(_: Events) -> Prepared:
        return Prepared(log=tmp_path / "work.log", typed=True, passphrases=passphrases)

    pid = prepare_and_run_detached(
        prepare, lambda report: report({"event": "connected"}), lambda _: None, lambda _: "", 0, prepared=told.append
    )
    os.waitpid(pid, 0)
    [ready] = told
    assert (ready.typed, ready.passphrases) == (True, passphrases if length < 4000 else {})
    assert CANARY not in repr(ready)
