"""The control server over real sockets, with clients that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from ikeclient.control import acceptor, client, protocol
from ikeclient.control.protocol import Command
from ikeclient.errors import PlatformError, UsageError

Rig = Any  # the fixture's class lives in conftest.py, which cannot be imported


def raw(rig: Rig, name: str = "work") -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect(str(rig.directory / f"{name}.sock"))
    return connection


def everything(connection: socket.socket) -> bytes:
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not become true"
        time.sleep(0.01)


def subscribe(rig: Rig) -> socket.socket:
    connection = raw(rig)
    connection.sendall(protocol.encode(protocol.request(Command.EVENTS)))
    assert json.loads(connection.recv(4096))["ok"] is True
    return connection


def test_the_directory_is_ours_alone_and_who_may_enter_it_may_ask(rig: Rig) -> None:
    rig.server()
    assert stat.S_IMODE(rig.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((rig.directory / "work.sock").stat().st_mode) == 0o666


def test_the_status_is_what_the_tunnel_says(rig: Rig) -> None:
    rig.server(status=lambda: {"name": "work", "mtu": 1400})
    assert client.request("work", Command.STATUS, directory=rig.directory) == {"name": "work", "mtu": 1400}


def test_commands_reach_the_tunnel_after_the_reply(rig: Rig) -> None:
    rig.server()
    for command in (Command.RECONNECT, Command.DISCONNECT):
        assert client.request("work", command, directory=rig.directory) is None
    eventually(lambda: rig.actions == ["reconnect work", "disconnect work"])


def test_every_subscriber_gets_every_event_in_order(rig: Rig) -> None:
    server = rig.server()
    with client.events("work", directory=rig.directory) as one, client.events("work", directory=rig.directory) as two:
        for number in range(5):
            rig.call(server.publish, {"event": "connecting", "number": number})
        for stream in (one, two):
            assert [next(stream)["number"] for _ in range(5)] == list(range(5))


def test_the_last_event_arrives_before_the_stream_ends(rig: Rig) -> None:
    server = rig.server()
    with client.events("work", directory=rig.directory) as stream:
        rig.call(server.publish, {"event": "disconnected"})
        rig.run(server.close())
        assert [event["event"] for event in stream] == ["disconnected"]


def test_closing_removes_the_socket_and_can_be_repeated(rig: Rig) -> None:
    server = rig.server()
    rig.run(server.close())
    rig.run(server.close())
    assert not list(rig.directory.iterdir())


def test_a_server_never_removes_the_socket_of_its_successor(rig: Rig) -> None:
    first = rig.server()
    (rig.directory / "work.sock").unlink()
    rig.server()
    rig.run(first.close())
    assert client.running_pid("work", rig.directory) == os.getpid()


def test_a_second_tunnel_of_the_same_name_is_told_who_runs(rig: Rig) -> None:
    """F16: two instances of one profile."""
    rig.server()
    with pytest.raises(UsageError, match=rf"tunnel 'work' is already running \(pid {os.getpid()}\)") as caught:
        rig.server()
    assert caught.value.exit_code == 2
    assert client.request("work", Command.STATUS, directory=rig.directory)


def test_a_stale_socket_is_cleared_and_taken_over(rig: Rig) -> None:
    """F16: what a killed process left behind does not block the next start."""
    program = (
        "import socket, sys, os, signal\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    rig.directory.mkdir(mode=0o700)
    subprocess.run([sys.executable, "-c", program, str(rig.directory / "work.sock")], check=False, timeout=30)
    assert (rig.directory / "work.sock").exists()
    rig.server()
    assert client.running_pid("work", rig.directory) == os.getpid()


def test_a_file_in_place_of_the_socket_is_an_error_and_stays(rig: Rig) -> None:
    rig.directory.mkdir(mode=0o700)
    (rig.directory / "work.sock").write_text("mine")
    with pytest.raises(PlatformError, match="cannot listen on"):
        rig.server()
    assert (rig.directory / "work.sock").read_text() == "mine"


@pytest.mark.parametrize(
    "line", [b"\n", b"garbage\n", b"\0" * 100 + b"\n", b"[]\n", b'{"version":99}\n', b"[" * 9999 + b"\n"]
)
def test_garbage_gets_one_sentence_and_the_door(rig: Rig, line: bytes) -> None:
    """O15: garbage."""
    rig.server()
    with raw(rig) as connection:
        connection.sendall(line)
        reply = json.loads(everything(connection))
    assert reply["ok"] is False
    assert client.request("work", Command.STATUS, directory=rig.directory)
    assert not rig.loop_errors


def test_a_request_without_an_end_is_cut_off_at_the_cap(rig: Rig) -> None:
    """O15: a message that wants to be 1 GB costs 64 KiB and is dropped."""
    rig.server()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent = 0
    with raw(rig) as connection:
        try:
            while sent < 2**30:
                sent += connection.send(b"x" * 65536)
        except OSError:
            pass
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert sent < 4 * 2**20
    assert grown < 32 * 1024
    assert client.request("work", Command.STATUS, directory=rig.directory)


def test_a_request_one_byte_below_the_cap_is_read_and_at_the_cap_refused(rig: Rig) -> None:
    rig.server()
    request = protocol.encode(protocol.request(Command.STATUS)).rstrip(b"\n")
    for length, ok in ((protocol.MAXIMUM_REQUEST - 1, True), (protocol.MAXIMUM_REQUEST, False)):
        with raw(rig) as connection:
            connection.sendall(request.ljust(length) + b"\n")
            assert json.loads(everything(connection))["ok"] is ok


def test_a_request_may_arrive_byte_by_byte(rig: Rig) -> None:
    rig.server()
    with raw(rig) as connection:
        for byte in protocol.encode(protocol.request(Command.STATUS)):
            connection.sendall(bytes([byte]))
        assert json.loads(everything(connection))["ok"] is True


def test_who_talks_on_after_the_request_is_dropped(rig: Rig) -> None:
    server = rig.server()
    with subscribe(rig) as connection:
        connection.sendall(b"and another thing\n")
        assert everything(connection) == b""
    rig.call(server.publish, {"event": "connected"})
    assert client.request("work", Command.STATUS, directory=rig.directory)


def test_a_thousand_clients_leave_the_tunnel_untouched(rig: Rig) -> None:
    """O15: 1,000 clients at once; all are answered or told to go, and then there is a place again."""
    rig.server()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    connections = []
    try:
        for _ in range(1000):
            connections.append(raw(rig))
            assert rig.call(lambda: True)  # the loop turns between any two of them
        eventually(lambda: len(rig.servers[0]._clients) <= protocol.MAXIMUM_CLIENTS)
        refused = json.loads(connections[-1].recv(4096))
        assert refused == {"version": 1, "ok": False, "error": "too many clients"}
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: not rig.servers[0]._clients)
    assert client.request("work", Command.STATUS, directory=rig.directory)
    assert not rig.loop_errors


def test_listeners_to_events_leave_room_for_commands(rig: Rig) -> None:
    """O15: subscribers cannot lock out `disconnect`."""
    rig.server()
    streams = [client.events("work", directory=rig.directory) for _ in range(protocol.MAXIMUM_SUBSCRIBERS)]
    with pytest.raises(UsageError, match="refused") as caught:
        client.events("work", directory=rig.directory)
    assert caught.value.reason == "too many listen to events already"
    client.request("work", Command.DISCONNECT, directory=rig.directory)
    eventually(lambda: rig.actions == ["disconnect work"])
    for stream in streams:
        stream.close()


def test_a_client_that_says_nothing_is_dropped_in_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """O15: silent clients do not keep their places."""
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.05)
    rig.server()
    silent = [raw(rig) for _ in range(protocol.MAXIMUM_CLIENTS)]
    for connection in silent:
        assert everything(connection) == b""
        connection.close()
    assert client.request("work", Command.STATUS, directory=rig.directory)


def test_a_client_that_never_reads_its_reply_is_dropped_in_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.2)
    rig.server(status=lambda: {"filler": "x" * 900_000})
    with raw(rig) as connection:
        connection.sendall(protocol.encode(protocol.request(Command.STATUS)))
        eventually(lambda: not rig.servers[0]._clients)


def test_a_slow_reader_is_dropped_and_a_quick_one_keeps_everything(rig: Rig) -> None:
    """O15: a subscriber that does not read costs a bounded amount of memory and nobody else's events."""
    server = rig.server()
    total = 600
    with subscribe(rig) as slow, client.events("work", directory=rig.directory) as quick:
        for number in range(total):
            rig.call(server.publish, {"event": "connecting", "number": number, "filler": "x" * 4096})
            assert next(quick)["number"] == number
        eventually(lambda: len(server._subscribers) == 1)
        assert len(everything(slow)) < total * 4096


def test_a_subscriber_that_leaves_frees_its_place(rig: Rig) -> None:
    server = rig.server()
    subscribe(rig).close()
    eventually(lambda: not server._clients and not server._subscribers)
    rig.call(server.publish, {"event": "connected"})
    assert not rig.loop_errors


def test_a_bug_in_the_status_is_an_answer_and_not_an_end(rig: Rig) -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("S3cr3t-CANARY")

    rig.server(status=broken)
    with pytest.raises(UsageError) as caught:
        client.request("work", Command.STATUS, directory=rig.directory)
    assert "CANARY" not in "".join(caught.value.lines())
    assert [str(context["exception"]) for context in rig.loop_errors] == ["S3cr3t-CANARY"]


STRANGER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c")
needs_strangers = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root to become somebody else"
)


def open_to_all(rig: Rig) -> None:
    """Let every user enter the directory, as `/run/ikeclient` does."""
    for path in (rig.directory, *rig.directory.parents):
        if path.name.startswith(("run", "test_", "pytest-", "popen-")):
            path.chmod(0o755)


@needs_strangers
@pytest.mark.parametrize("command", Command)
def test_another_user_may_look_and_not_order(rig: Rig, command: Command) -> None:
    """O15: the kernel's word about who asks decides."""
    rig.server(on_join=lambda _: {"pid": 1})
    open_to_all(rig)
    program = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(sys.argv[2].encode()); print(s.recv(1000).decode())\n"
    )
    words = [program, str(rig.directory / "work.sock"), protocol.encode(protocol.request(command)).decode()]
    done = subprocess.run([*STRANGER, *words], capture_output=True, text=True, timeout=30)
    reply = json.loads(done.stdout)
    if command in (Command.STATUS, Command.EVENTS):
        assert reply["ok"] is True
    else:
        assert reply == {"version": 1, "ok": False, "error": protocol.NOT_YOURS}
    rig.run(asyncio.sleep(0.05))
    assert rig.actions == []


@needs_strangers
def test_other_users_cannot_take_the_places_of_the_tunnels_own(rig: Rig) -> None:
    """O15: a hundred connections of somebody else that say nothing; its own user is answered all the same."""
    rig.server()
    open_to_all(rig)
    program = (
        "import socket, sys\n"
        "held = []\n"
        "for _ in range(100):\n"
        "    held.append(socket.socket(socket.AF_UNIX)); held[-1].connect(sys.argv[1])\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    words = [*STRANGER, program, str(rig.directory / "work.sock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "held\n"
        for _ in range(protocol.MAXIMUM_STRANGERS + 1):
            assert client.request("work", Command.STATUS, directory=rig.directory) == {
                "name": "work",
                "state": "connected",
            }
        listening = [subscribe(rig) for _ in range(protocol.MAXIMUM_CLIENTS - protocol.MAXIMUM_STRANGERS - 1)]
        client.request("work", Command.RECONNECT, directory=rig.directory)
        for each in listening:
            each.close()
        crowd.communicate("")
    rig.run(asyncio.sleep(0.05))
    assert rig.actions == ["reconnect work"]


def test_running_out_of_descriptors_is_survived(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """O13: without descriptors nobody is let in, the loop does not spin, and later everything works again."""
    monkeypatch.setattr(acceptor, "_EXHAUSTED_SECONDS", 0.2)
    rig.server()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), hard))  # the lowest free number is over the limit
        try:
            connection.connect(str(rig.directory / "work.sock"))
            connection.sendall(protocol.encode(protocol.request(Command.STATUS)))
            began = time.thread_time()
            assert rig.call(lambda: True)
            assert time.thread_time() - began < 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert json.loads(everything(connection))["ok"] is True


def test_a_question_about_the_inside_is_answered_when_the_answer_is_there(rig: Rig) -> None:
    async def ask(request: protocol.Request) -> object:
        await asyncio.sleep(0.05)
        if request.arguments["address"] == "nowhere":
            raise UsageError("that is no address")
        return {"rtt_ms": 1.5}

    rig.server(ask=ask)
    asked = client.request("work", Command.PING, {"address": "10.0.0.1", "timeout": 2}, directory=rig.directory)
    assert asked == {"rtt_ms": 1.5}
    with pytest.raises(UsageError, match="refused") as refused:
        client.request("work", Command.PING, {"address": "nowhere"}, directory=rig.directory)
    assert refused.value.reason == "that is no address"
    with pytest.raises(UsageError) as broken:  # a bug there ends neither the connection nor the tunnel
        client.request("work", Command.RESOLVE, directory=rig.directory)
    assert broken.value.reason == "the tunnel could not answer"
    assert isinstance(rig.loop_errors.pop()["exception"], KeyError)


def test_a_question_is_dropped_with_who_asked_it(rig: Rig) -> None:
    ended: list[str] = []

    async def ask(_: protocol.Request) -> object:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return None

    rig.server(ask=ask)
    with raw(rig) as connection:
        connection.sendall(protocol.encode(protocol.request(Command.PING, address="10.0.0.1")))
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    eventually(lambda: ended == ["cancelled"])


def test_a_tunnel_with_an_interface_says_that_it_is_not_asked_itself(rig: Rig) -> None:
    rig.server()
    with pytest.raises(UsageError) as refused:
        client.request("work", Command.RESOLVE, {"name": "x"}, directory=rig.directory)
    assert refused.value.reason == "its packets go through an interface: ask there"
