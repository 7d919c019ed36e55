"""`status`, `events`, `disconnect` and `reconnect` against running tunnels."""

from __future__ import annotations

import json
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cli_example import example, keys

from ikeclient.control import client, protocol
from ikeclient.errors import NoResponse

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported


@contextmanager
def strangers(directory: Path, replies: Sequence[bytes]) -> Iterator[None]:
    """Sockets x0, x1 ... that accept everybody and answer with these bytes, or never."""
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in replies]
        for number, each in enumerate(listening):
            each.bind(str(directory / f"x{number}.sock"))
            each.listen(16)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                for ready in select.select(listening, [], [], 0.05)[0]:
                    connection = stack.enter_context(ready.accept()[0])
                    with suppress(OSError):
                        connection.sendall(replies[listening.index(ready)])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(10)


def test_nothing_running_is_an_empty_list(shell: Shell) -> None:
    done = shell.run("status", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"schema": "ikeclient.status/1", "tunnels": []}
    assert shell.run("status").stdout == "disconnected  no tunnel is running\n"
    assert shell.run("status", "-f", "name,ike.suite").stdout == ""
    assert shell.run("status", "-f", "name,bogus").returncode == 2, "a typo is one before the first tunnel as well"


def test_the_document_has_all_tunnels_with_every_promised_key(shell: Shell) -> None:
    shell.connected("work")
    shell.connected("home")
    document = json.loads(shell.run("status", "--json").stdout)
    assert document["schema"] == "ikeclient.status/1"
    assert [tunnel["name"] for tunnel in document["tunnels"]] == ["home", "work"]
    for tunnel in document["tunnels"]:
        assert keys(tunnel) == keys(example())
    only = json.loads(shell.run("status", "work", "--json").stdout)
    assert [tunnel["name"] for tunnel in only["tunnels"]] == ["work"]


def test_tunnels_that_do_not_answer_hide_no_other_and_are_waited_for_together(shell: Shell) -> None:
    """O23: another user may have sockets that say nothing, or no."""
    shell.connected("work")
    refusal = protocol.encode(protocol.failure("no \x1b[31m"))
    with strangers(shell.runtime, [b"", b"", b"", b"", b"", refusal]):
        before = time.monotonic()
        done = shell.run("status", "--json")
        took = time.monotonic() - before
    assert done.returncode == 0, done.stderr
    tunnels = {each["name"]: each for each in json.loads(done.stdout)["tunnels"]}
    assert tunnels["work"]["state"] == "connected"
    assert {tunnels[f"x{number}"]["state"] for number in range(6)} == {"unresponsive"}
    assert "refused" in tunnels["x5"]["last_error"]
    assert took < 4 * 2.0  # one after the other it would be five times the time for one


def test_nobody_holds_the_sleep_of_the_machine_back_for_long(shell: Shell) -> None:
    """O23: what the service manager runs before it asks every tunnel at the same time."""
    shell.connected("work")
    with strangers(shell.runtime, [b""] * 20):
        before = time.monotonic()
        done = shell.run("suspend", "--all", "--timeout", "1s")
        took = time.monotonic() - before
    assert done.returncode == 5
    assert "work suspended" in done.stderr
    assert took < 15  # one after the other it would be 20 s and more


def test_the_text_form_and_the_fields(shell: Shell) -> None:
    process = shell.connected("work")
    text = shell.run("status").stdout
    assert text.startswith("connected  work")
    assert max(map(len, text.splitlines())) <= 80
    assert shell.run().stdout.split()[:2] == ["connected", "work"]
    fields = shell.run("status", "-f", "name,pid,gateway.address,children.suite").stdout
    assert fields == f"work\t{process.pid}\t203.0.113.7\taes256gcm16\n"
    assert shell.run("status", "-f", "bogus").returncode == 2


def test_check_tells_up_from_down(shell: Shell) -> None:
    """Exit code 3 is `not connected`, for a tunnel that does not run just as for one that is still connecting."""
    assert shell.run("status", "--check", "up").returncode == 3
    assert shell.run("status", "work", "--check", "up").returncode == 3
    shell.connected("work")
    assert shell.run("status", "--check", "up").returncode == 0
    assert shell.run("status", "work", "--check", "up").returncode == 0
    shell.connected("home", mode="waiting")
    done = shell.run("status", "--check", "up")
    assert (done.returncode, done.stderr) == (3, "error: tunnel 'home' is connecting\n")
    assert shell.run("status", "work", "--check", "up").returncode == 0


@pytest.mark.parametrize("command", [["status"], ["disconnect"], ["reconnect"], ["events"]], ids=lambda each: each[0])
def test_a_name_that_does_not_run_is_8_and_names_those_that_do(shell: Shell, command: list[str]) -> None:
    shell.connected("work")
    done = shell.run(*command, "office")
    assert done.returncode == 8
    assert done.stderr == "error: no tunnel 'office' is running\n  running: work\n"


def test_waiting_for_a_reconnect_that_takes_longer_says_that_it_goes_on(shell: Shell) -> None:
    shell.connected("work")
    done = shell.run("reconnect", "--wait", "--timeout", "1")
    assert done.returncode == 5
    assert done.stderr.splitlines() == [
        "error: tunnel 'work' was not connected again within 1 s",
        "  it goes on trying: `ikeclient wait work` returns when it is",
    ]


def test_several_tunnels_need_a_name_and_one_does_not(shell: Shell) -> None:
    work = shell.connected("work")
    assert shell.run("reconnect").returncode == 0
    home = shell.connected("home")
    done = shell.run("disconnect")
    assert done.returncode == 2
    assert "running: home, work" in done.stderr
    assert shell.run("disconnect", "--all").returncode == 0
    assert (work.wait(1), home.wait(1)) == (0, 0)
    assert shell.run("disconnect").returncode == 8
    assert shell.run("disconnect", "--all").returncode == 0


def test_disconnect_returns_when_the_process_is_gone(shell: Shell) -> None:
    process = shell.connected("work")
    done = shell.run("disconnect", "work")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "work disconnected\n")
    assert process.wait(0.1) == 0
    assert not (shell.runtime / "work.sock").exists()


def test_a_tunnel_that_hangs_is_shown_as_such(shell: Shell) -> None:
    shell.connected("work")
    stuck = shell.connected("home")
    stuck.send_signal(signal.SIGSTOP)
    try:
        tunnels = json.loads(shell.run("status", "--json").stdout)["tunnels"]
        assert [(each["name"], each["state"]) for each in tunnels] == [("home", "unresponsive"), ("work", "connected")]
        assert tunnels[0]["pid"] == stuck.pid
        assert tunnels[0].keys() == tunnels[1].keys()
        assert shell.run("disconnect", "home").returncode == 5
    finally:
        stuck.send_signal(signal.SIGCONT)


def test_a_stale_socket_is_no_tunnel(shell: Shell) -> None:
    """F16: after a kill nothing seems to run, and the next start is not in the way."""
    process = shell.connected("work")
    process.kill()
    process.wait()
    assert (shell.runtime / "work.sock").exists()
    assert shell.run("status", "work").returncode == 8
    assert not (shell.runtime / "work.sock").exists()
    shell.connected("work")


def test_events_are_lines_until_the_tunnel_ends(shell: Shell) -> None:
    shell.connected("work")
    text, lines = shell.start("events"), shell.start("events", "work", "--json")
    wait_for_listeners(shell, 2)
    shell.run("reconnect")
    shell.run("disconnect")
    shown, complaints = text.communicate(timeout=30)
    assert (text.returncode, complaints) == (0, "")
    assert shown.splitlines() == [
        "2026-11-23T08:00:00Z  reconnecting: asked to",
        "2026-11-23T08:00:00Z  disconnected",
    ]
    events = [json.loads(line) for line in lines.communicate(timeout=30)[0].splitlines()]
    assert [event["event"] for event in events] == ["reconnecting", "disconnected"]
    assert events[0]["tunnel"] == "work"


def test_ctrl_c_ends_events_with_130_and_is_no_error(shell: Shell) -> None:
    shell.connected("work")
    process = shell.start("events")
    wait_for_listeners(shell, 1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130
    assert shell.run("status", "--check", "up").returncode == 0


def test_a_reader_of_events_that_leaves_leaves_the_tunnel_alone(shell: Shell) -> None:
    shell.connected("work")
    process = shell.start("events")
    wait_for_listeners(shell, 1)
    process.stdout.close()
    shell.run("reconnect")
    assert process.wait(30) == 141
    assert shell.run("status", "--check", "up").returncode == 0


def test_watch_prints_again_when_something_changed(shell: Shell) -> None:
    shell.connected("work")
    process = shell.start("status", "--watch", "-f", "name,state")
    assert process.stdout.readline() == "work\tconnected\n"
    shell.connected("home", mode="waiting")
    assert [process.stdout.readline(), process.stdout.readline()] == ["home\tconnecting\n", "work\tconnected\n"]


def wait_for_listeners(shell: Shell, number: int) -> None:
    """The fake tunnel tells how many listen to its events."""
    shell.until(lambda: shell.status("work")["listeners"] == number)


def test_all_goes_on_past_a_tunnel_that_does_not_end(
    home: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ikeclient.cli.app import main

    ended = []

    def disconnect(name: str, **_: object) -> bool:
        if name == "a":
            raise NoResponse("tunnel 'a' does not answer")
        ended.append(name)
        return name != "b"

    monkeypatch.setattr(client, "list_tunnels", lambda **_: ["a", "b", "c"])
    monkeypatch.setattr(client, "running_pid", lambda _: 7)
    monkeypatch.setattr(client, "disconnect", disconnect)
    assert main(["disconnect", "--all"]) == 5
    assert ended == ["b", "c"]
    assert "its process is 7" in capsys.readouterr().err
