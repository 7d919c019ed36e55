"""The asking side: which tunnel is meant, and servers that misbehave."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ikeclient.control import automatic, client, protocol
from ikeclient.control.directory import Peer
from ikeclient.control.protocol import Command
from ikeclient.control.status import TunnelStatus
from ikeclient.errors import NoResponse, NoSuchTunnel, UsageError

Rig = Any  # the fixture's class lives in conftest.py, which cannot be imported


@contextmanager
def impostor(directory: Path, reply: bytes, *, close: bool = True) -> Iterator[None]:
    """Something at the tunnel's socket that answers every request with `reply`."""
    directory.mkdir(mode=0o700, exist_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(directory / "work.sock"))
    server.listen(16)
    kept = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            kept.append(connection)
            try:
                if connection.recv(65536):
                    connection.sendall(reply)
            except OSError:
                pass
            if close:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)
        for connection in kept:
            connection.close()


def test_running_tunnels_are_listed_and_dead_sockets_cleared(rig: Rig) -> None:
    """F16: stale sockets."""
    rig.server("work")
    rig.server("home")
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(rig.directory / "dead.sock"))
    dead.close()
    (rig.directory / "notes.txt").touch()
    assert client.list_tunnels(rig.directory) == ["home", "work"]
    assert sorted(path.name for path in rig.directory.iterdir()) == ["home.sock", "notes.txt", "work.sock"]


STRANGE = ("a b", "\x1b[31mx", "new\nline", "\udcff", "-rf", "root:work", ".hidden", "x" * 65)


def test_what_has_no_name_of_a_tunnel_is_none(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O23: another user can bind sockets of any name, and they must not end root's commands with an error."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(0o700)
    monkeypatch.setattr(client, "runtime_directory", lambda: rig.directory)
    monkeypatch.setattr(client, "system_directories", list)
    monkeypatch.setattr(client, "user_directories", lambda: [theirs])
    rig.server("work")
    monkeypatch.chdir(theirs)
    with ExitStack() as stack:
        for name in STRANGE:
            server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            server.bind(os.fsencode(f"{name}.sock"))
            server.listen()
            automatic.write(theirs, name, "disconnect", "because")
        assert client.survey() == (["work"], {})
        assert client.list_tunnels() == ["work"]
        assert client.resolve(None) == "work"


def test_a_survey_reads_the_decisions_for_tunnels_that_do_not_run(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running one's is read when it is asked for its status; that of somebody else's tunnel is not its own."""
    other = tmp_path / "other"
    monkeypatch.setattr(client, "runtime_directory", lambda: rig.directory)
    monkeypatch.setattr(client, "system_directories", list)
    monkeypatch.setattr(client, "user_directories", lambda: [other])
    rig.server("work")
    for directory, name in ((rig.directory, "work"), (rig.directory, "home"), (other, "work")):
        automatic.write(directory, name, "disconnect", f"trusted network in {directory.name}")
    read = []
    monkeypatch.setattr(
        automatic, "decision", lambda *where, read_it=automatic.decision: read.append(where) or read_it(*where)
    )
    running, down = client.survey()
    assert running == ["work"]
    assert {name: decision.reason for name, decision in down.items()} == {
        "home": f"trusted network in {rig.directory.name}",
        f"{pwd.getpwuid(os.getuid()).pw_name}:work": "trusted network in other",
    }
    assert read == [(rig.directory, "home"), (other, "work")]
    assert client.decision("work") == automatic.decision(rig.directory, "work") is not None


def test_a_missing_directory_means_that_nothing_runs(tmp_path: Path) -> None:
    assert client.list_tunnels(tmp_path / "missing") == []


def test_the_only_tunnel_needs_no_name(rig: Rig) -> None:
    rig.server("work")
    assert client.resolve(None, rig.directory) == "work"
    assert client.resolve("work", rig.directory) == "work"


def test_several_tunnels_need_a_name(rig: Rig) -> None:
    rig.server("work")
    rig.server("home")
    with pytest.raises(UsageError) as caught:
        client.resolve(None, rig.directory)
    assert caught.value.reason == "running: home, work"


def test_a_tunnel_that_does_not_run_is_answered_with_those_that_do(rig: Rig) -> None:
    rig.server("home")
    rig.server("work")
    for ask in (
        lambda: client.resolve("office", rig.directory),
        lambda: client.request("office", Command.STATUS, directory=rig.directory),
        lambda: client.events("office", directory=rig.directory),
        lambda: client.disconnect("office", directory=rig.directory),
    ):
        with pytest.raises(NoSuchTunnel, match="no tunnel 'office' is running") as caught:
            ask()
        assert caught.value.reason == "running: home, work"
        assert caught.value.exit_code == 8


def test_nothing_running_is_said_as_such(tmp_path: Path) -> None:
    with pytest.raises(NoSuchTunnel, match="no tunnel is running"):
        client.resolve(None, tmp_path)
    with pytest.raises(NoSuchTunnel, match="no tunnel 'work' is running") as caught:
        client.resolve("work", tmp_path)
    assert caught.value.reason == "nor is any other one"


@pytest.mark.parametrize("reply", [b"nonsense\n", b"[1]\n", b"\xff\n", b"x" * (protocol.MAXIMUM_REPLY + 70_000)])
def test_a_reply_that_makes_no_sense_is_an_error_of_the_tree(directory: Path, reply: bytes) -> None:
    with impostor(directory, reply), pytest.raises(NoResponse, match="makes no sense"):
        client.request("work", Command.STATUS, directory=directory)


@pytest.mark.parametrize("result", ["connected", None, ["connected"], 1])
def test_a_status_that_is_no_object_makes_no_sense(directory: Path, result: object) -> None:
    with impostor(directory, protocol.encode(protocol.success(result))):  # noqa: SIM117
        with pytest.raises(NoResponse, match="makes no sense"):
            client.status("work", directory=directory)


def test_the_status_of_a_tunnel_is_one_value(rig: Rig) -> None:
    rig.server("work", status=lambda: {"name": "work", "state": "connected", "roams": 2, "new": True})
    user = pwd.getpwuid(os.geteuid()).pw_name
    shown = TunnelStatus(name="work", pid=os.getpid(), user=user, state="connected", roams=2)
    assert client.status("work", directory=rig.directory) == shown
    automatic.write(rig.directory, "work", "connect", "untrusted network 'Free'")
    watched = client.status("work", directory=rig.directory).watch
    assert watched is not None
    assert watched.reason == "untrusted network 'Free'"


def test_who_a_tunnel_is_is_not_its_own_word(directory: Path) -> None:
    """O23: another user's process at its own socket passes for no other tunnel and no other process."""
    reply = protocol.encode(protocol.success({"name": "home", "pid": 1, "state": "connected", "user": "root"}))
    with impostor(directory, reply):
        told = client.status("work", directory=directory)
    assert (told.name, told.pid, told.state) == ("work", os.getpid(), "connected")
    assert told.user == pwd.getpwuid(os.geteuid()).pw_name


def test_a_tunnel_that_ends_instead_of_answering_is_said_as_such(directory: Path) -> None:
    with impostor(directory, b""), pytest.raises(NoSuchTunnel, match="ended before it answered"):
        client.request("work", Command.STATUS, directory=directory)


def test_a_tunnel_that_does_not_answer_is_given_up(directory: Path) -> None:
    with impostor(directory, b"", close=False), pytest.raises(NoResponse, match="does not answer"):
        client.request("work", Command.STATUS, directory=directory, timeout=0.2)


def test_a_tunnel_that_drips_its_answer_is_given_up_at_the_same_deadline(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(directory / "work.sock"))
        server.listen(1)

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                for _ in range(200):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(NoResponse):
            client.request("work", Command.STATUS, directory=directory, timeout=0.3)
        thread.join()
        assert time.monotonic() - began < 5  # two hundred drips take ten seconds


SLOW_TUNNEL = """
import asyncio, sys
from pathlib import Path
from ikeclient.control.server import ControlServer, Orders

async def main():
    stop = asyncio.Event()
    orders = Orders(disconnect=stop.set, reconnect=print, suspend=print, resume=print)
    server = ControlServer("work", Path(sys.argv[1]), status=dict, orders=orders)
    await server.start()
    print("ready", flush=True)
    await stop.wait()
    await server.close()
    await asyncio.sleep(float(sys.argv[2]))  # the restoration of the machine, after the socket is gone

asyncio.run(main())
"""


@contextmanager
def tunnel_process(directory: Path, goodbye: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SLOW_TUNNEL, str(directory), str(goodbye)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()


def test_disconnect_returns_when_the_process_is_gone_and_not_before(directory: Path) -> None:
    with tunnel_process(directory, 0.5) as process:
        assert client.disconnect("work", directory=directory, timeout=20) is True
        assert process.wait(1) == 0
    assert not list(directory.iterdir())


def test_disconnect_says_so_when_the_process_stays(directory: Path) -> None:
    with tunnel_process(directory, 30) as process:
        assert client.disconnect("work", directory=directory, timeout=0.5) is False
        assert process.poll() is None


def test_without_process_descriptors_the_socket_tells_the_end(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "pidfd_open", refused)
    with tunnel_process(directory, 0):
        assert client.disconnect("work", directory=directory, timeout=20) is True


def test_a_stopped_tunnel_is_listed_but_does_not_answer(directory: Path) -> None:
    with tunnel_process(directory, 0) as process:
        process.send_signal(signal.SIGSTOP)
        assert client.list_tunnels(directory) == ["work"]
        assert client.running_pid("work", directory) == process.pid
        with pytest.raises(NoResponse):
            client.request("work", Command.STATUS, directory=directory, timeout=0.2)


def test_a_process_that_joins_is_told_the_way_in_and_known_by_the_kernels_word(rig: Rig) -> None:
    asked: list[Peer] = []

    def way(who: Peer) -> object:
        asked.append(who)
        return {"pid": 4711}

    rig.server("work", on_join=way)
    assert client.join("work", directory=rig.directory) == {"pid": 4711}
    assert asked == [Peer(os.getpid(), os.geteuid())]


def test_a_tunnel_without_a_namespace_cannot_be_joined(rig: Rig) -> None:
    rig.server("work")
    with pytest.raises(UsageError) as caught:
        client.join("work", directory=rig.directory)
    assert "ordinary mode" in str(caught.value.reason)


def test_a_tunnel_that_is_about_to_end_has_no_way_in(rig: Rig) -> None:
    def refuse(_: Peer) -> object:
        raise UsageError(protocol.ENDING)

    rig.server("work", on_join=refuse)
    assert client.join("work", directory=rig.directory) is None


def test_who_joins_waits_while_too_many_ask(rig: Rig) -> None:
    """Those before us are served or dropped within seconds, so patience is all it takes."""
    rig.server("work", on_join=lambda _: "in")
    crowd = []
    for _ in range(protocol.MAXIMUM_CLIENTS):
        waiting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        waiting.connect(str(rig.directory / "work.sock"))
        crowd.append(waiting)
    threading.Timer(0.3, lambda: [each.close() for each in crowd]).start()
    assert client.join("work", directory=rig.directory) == "in"
