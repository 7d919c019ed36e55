"""`proxy` up to the point where a tunnel is needed; the rest is tests/lab/test_lab_proxy.py."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ikeclient.cli import proxy
from ikeclient.cli.app import main
from ikeclient.cli.view.terminal import read_secret
from ikeclient.control import client
from ikeclient.control.events import failed
from ikeclient.errors import NoSuchTunnel, PlatformError
from ikeclient.process import join_or_start
from ikeclient.process.tunnel_request import Display, TunnelRequest
from ikeclient.proxy.settings import Credentials

CANARY = "S3cr3t-CANARY"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--socks", "0.0.0.0:1080"], "--socks on 0.0.0.0 would let everybody who reaches it into the tunnel"),
        (["--http", "[::]:1080"], "--http on :: would let everybody"),
        (["--socks", "vpn:1080"], "--socks 'vpn:1080': what is listened on is an address"),
        (["--forward", "22"], "--forward '22': it takes a port, a host and a port"),
        (["--stdio", "host"], "--stdio 'host': a port is missing"),
        (["--stdio", "host:22", "--socks", "0"], "--stdio stands alone"),
        (["--stdio", "host:22", "--password-stdin"], "--stdio stands alone"),
        (["--socks", "0", "--password-from", CANARY], "--password-from names a source, not the password"),
        (["--socks", "0", "--password-from", "file:"], "--password-from names a source"),
        (["--socks", "0", "--password-from", "prompt"], "no password of the proxy given"),
    ],
)
def test_a_command_line_that_makes_no_sense_exits_with_2(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """F10, F13: a password on the command line is refused and not repeated; nobody to ask is an error at once."""
    assert main(["proxy", "work", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"error: {said}")
    assert len(lines) <= 3
    assert CANARY not in "".join(lines)


def test_a_port_in_use_is_12_before_any_packet(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["proxy", "work", "--socks", str(port)]) == 12
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_a_profile_that_does_not_exist_is_10(home: Path) -> None:
    assert main(["proxy", "nowhere", "--socks", "0"]) == 10


def test_without_listeners_the_usual_ones_are_meant() -> None:
    assert [(one.kind, one.host, one.port) for one in proxy._specs(None, None, None)] == [
        ("socks", "127.0.0.1", 1080),
        ("http", "127.0.0.1", 8080),
    ]
    assert [one.kind for one in proxy._specs(None, None, ["1:a:2"])] == ["forward"]


def test_the_password_comes_from_a_file_or_the_environment_and_is_kept_as_a_digest(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F10, F12: erased from the environment; nothing that is kept shows it."""
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(CANARY + "\n")
    monkeypatch.setenv("PROXY_PASSWORD", CANARY)
    for source in (f"file:{secret}", "env:PROXY_PASSWORD"):
        made = proxy._credentials("alice", source)
        assert made.accept(b"alice", CANARY.encode())
        assert CANARY.encode() not in b"".join(getattr(made, name) for name in Credentials.__slots__)
    assert "PROXY_PASSWORD" not in os.environ


def test_a_password_that_others_can_read_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F11."""
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    secret.chmod(0o644)
    assert main(["proxy", "work", "--socks", "0", "--password-from", f"file:{secret}"]) == 9
    assert capsys.readouterr().err.startswith(f"error: --password-from: {secret}: holds a secret")


def test_a_password_that_the_protocol_cannot_carry_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY_PASSWORD", "x" * 256)
    assert main(["proxy", "work", "--socks", "0", "--password-from", "env:PROXY_PASSWORD"]) == 2


def test_a_forward_for_others_is_warned_about(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proxy", "nowhere", "--forward", "0.0.0.0:0:git.corp.example:22"]) == 10
    assert "warning: port 0 on 0.0.0.0 leads everybody who reaches it" in capsys.readouterr().err


class Told:
    """A progress display that remembers."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def __call__(self, event: object) -> None:
        self.events.append(event)


def followed(monkeypatch: pytest.MonkeyPatch, *events: dict[str, object]) -> list[str]:
    class Events(list[dict[str, object]]):
        def __enter__(self) -> Events:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(client, "events", lambda name: Events(events))
    return [line for error in proxy._follow("work", Told()) for line in error.lines()]  # type: ignore[arg-type]


def test_the_end_of_the_tunnel_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: dict[str, object] = {"event": "reconnecting", "error": ["no response", "why"]}
    assert followed(monkeypatch, {"event": "roamed"}, {"event": "disconnected"}) == []
    assert followed(monkeypatch, lost, {"event": "connected"}, {"event": "disconnected"}) == []
    assert followed(monkeypatch, lost, {"event": "disconnected"}) == ["the tunnel has ended", "no response"]
    assert followed(monkeypatch) == ["the tunnel has ended", "its process is gone"]
    broken = PlatformError("the process that holds the namespace is gone", hint="connect again")
    told = followed(monkeypatch, lost, {"event": "disconnected"}, failed(broken, "work"))
    assert told == ["the tunnel has ended: the process that holds the namespace is gone", "connect again"]

    def gone(_: str) -> object:
        raise NoSuchTunnel("no tunnel 'work' is running")

    monkeypatch.setattr(client, "events", gone)
    assert [error.exit_code for error in proxy._follow("work", Told())] == [8]  # type: ignore[arg-type]


def test_everything_that_was_asked_for_is_passed_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requests: list[TunnelRequest] = []

    def run(request: TunnelRequest, work: object, display: Display) -> int:
        requests.append(request)
        display.warn("words")
        return 42

    monkeypatch.setattr(join_or_start, "run", run)
    arguments = ["--socks", "0", "--timeout", "7", "--set", "network.mtu=1300", "--password-stdin"]
    assert main(["proxy", "./work.toml", *arguments]) == 42
    request = requests[0]
    assert (request.profile, request.name, request.timeout, request.overrides, request.stdin) == (
        "./work.toml",
        "work",
        7.0,
        ("network.mtu=1300",),
        read_secret,
    )
    assert capsys.readouterr().err == "warning: words\n"


@pytest.mark.parametrize(("pid", "said"), [(None, ["disconnected"]), (4711, [])])
def test_ctrl_c_says_disconnected_when_the_tunnel_is_gone(
    pid: int | None, said: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """O4: but not of a tunnel that goes on for others."""
    monkeypatch.setattr("ikeclient.process.join_or_start.run", lambda *_: 130)
    monkeypatch.setattr(client, "running_pid", lambda _: pid)
    assert main(["proxy", "work", "--socks", "0"]) == 130
    assert [line.partition("  ")[2] for line in capsys.readouterr().err.splitlines()] == said
