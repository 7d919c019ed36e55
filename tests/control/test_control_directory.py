"""Where sockets live and which of them are alive."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from ikeclient.control import directory as control_directory
from ikeclient.errors import PlatformError


def bound(path: Path, *, listening: bool) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    if listening:
        server.listen(4)
    return server


def test_the_environment_chooses_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IKECLIENT_RUNTIME_DIR", str(tmp_path))
    assert control_directory.runtime_directory() == tmp_path


@pytest.mark.parametrize(
    ("uid", "environment", "expected"),
    [
        (0, {"XDG_RUNTIME_DIR": "/run/user/1000", "HOME": "/root"}, "/run/ikeclient"),
        (1000, {"XDG_RUNTIME_DIR": "/run/user/1000", "HOME": "/home/a"}, "/run/user/1000/ikeclient"),
        (1000, {"XDG_RUNTIME_DIR": "relative", "HOME": "/home/a"}, "/home/a/.cache/ikeclient/run"),
        (1000, {"XDG_CACHE_HOME": "/cache", "HOME": "/home/a"}, "/cache/ikeclient/run"),
        (1000, {"HOME": "/home/a"}, "/home/a/.cache/ikeclient/run"),
        (987654, {}, "/tmp/ikeclient-987654"),
    ],
)
def test_each_kind_of_user_has_a_directory(
    monkeypatch: pytest.MonkeyPatch, uid: int, environment: dict[str, str], expected: str
) -> None:
    for name in ("IKECLIENT_RUNTIME_DIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "getuid", lambda: uid)  # what an unset HOME is looked up with
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert control_directory.runtime_directory() == Path(expected)


def test_a_home_that_cannot_be_written_to_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IKECLIENT_RUNTIME_DIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert control_directory.runtime_directory() == Path("/tmp/ikeclient-1000")


def test_a_claim_is_had_by_one_at_a_time_and_leaves_nothing(tmp_path: Path) -> None:
    first = control_directory.Claim.take(tmp_path, "work")
    assert first is not None
    assert control_directory.Claim.take(tmp_path, "work") is None
    other = control_directory.Claim.take(tmp_path, "home")
    assert other is not None
    other.release()
    first.release()
    assert list(tmp_path.iterdir()) == []
    second = control_directory.Claim.take(tmp_path, "work")
    assert second is not None
    second.release()


def test_a_claim_needs_a_directory(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="cannot write"):
        control_directory.Claim.take(tmp_path / "missing", "work")


def test_a_new_directory_is_ours_alone(tmp_path: Path) -> None:
    control_directory.prepare(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


@pytest.mark.parametrize("tail", ["", "work"])
def test_everybody_may_look_into_that_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tail: str
) -> None:
    """Whatever the umask is, that of a service included."""
    monkeypatch.setattr(control_directory, "SYSTEM_DIRECTORY", tmp_path / "ikeclient")
    before = os.umask(0o077)
    try:
        control_directory.prepare(tmp_path / "ikeclient" / tail)
    finally:
        os.umask(before)
    for place in (tmp_path / "ikeclient", tmp_path / "ikeclient" / tail):
        assert stat.S_IMODE(place.stat().st_mode) == 0o755


def test_a_service_has_what_systemd_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IKECLIENT_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/ikeclient/work:/run/other")
    assert control_directory.runtime_directory() == Path("/run/ikeclient/work")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/backup")  # that of a service which calls us
    assert control_directory.runtime_directory() == Path("/run/ikeclient")


def test_a_link_in_place_of_a_socket_is_not_followed(tmp_path: Path) -> None:
    """F14: it could lead to the socket of another program."""
    with bound(tmp_path / "real.sock", listening=True):
        (tmp_path / "link.sock").symlink_to("real.sock")
        assert control_directory.listener(tmp_path / "link.sock") is None
        assert control_directory.listener(tmp_path / "real.sock") == os.getpid()


def test_a_directory_others_can_write_to_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PlatformError, match="not safe"):
        control_directory.prepare(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o777


def test_a_symbolic_link_or_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    """F14: a planted link does not redirect the socket."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(PlatformError):
            control_directory.prepare(tmp_path / name)


def test_a_read_only_place_is_one_clear_error() -> None:
    """O12: no place for the socket is an error that says where."""
    with pytest.raises(PlatformError, match="cannot make /proc/ikeclient"):
        control_directory.prepare(Path("/proc/ikeclient"))


def test_the_kernel_tells_the_listener_and_its_absence(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    assert control_directory.listener(path) is None
    with bound(path, listening=True):
        assert control_directory.listener(path) == os.getpid()
    assert path.exists()
    assert control_directory.listener(path) is None


def test_a_listener_with_a_full_queue_counts_as_alive(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    waiting = []
    with bound(path, listening=True) as server:
        server.listen(0)
        for _ in range(4):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.setblocking(False)
            waiting.append(client)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break
        assert control_directory.listener(path) == 0
        for client in waiting:
            client.close()


def test_only_dead_sockets_are_removed(tmp_path: Path) -> None:
    """F16: what a crash left is cleared, and nothing else."""
    bound(tmp_path / "dead.sock", listening=False).close()
    (tmp_path / "file.sock").touch()
    with bound(tmp_path / "alive.sock", listening=True):
        for name in ("dead.sock", "file.sock", "alive.sock", "missing.sock"):
            control_directory.remove_dead(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alive.sock", "file.sock"]


def test_the_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with control_directory.try_lock(tmp_path) as first, control_directory.try_lock(tmp_path) as second:
        assert (first, second) == (True, False)
    with control_directory.try_lock(tmp_path) as again:
        assert again
