"""The resolver's configuration file: what stood there returns exactly, whatever it was and whatever happens."""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from net_lab import CLONE_NEWNS, in_child, sh, unshare

from ikeclient.errors import PlatformError
from ikeclient.net.changes.journal import Owner, decode, encode, this_process
from ikeclient.net.changes.steps import ResolvConfFile
from ikeclient.net.dns.resolv_conf import ResolvConf, servers_in
from ikeclient.net.model import DnsConfig

ORIGINAL = b"# by hand\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch home.example lan\noptions edns0 ndots:2\n"
ALL = DnsConfig(servers=(ip_address("10.99.0.53"), ip_address("fd99::53")), domains=("corp.example",), mode="all")
SPLIT = replace(ALL, mode="split")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc" / "resolv.conf"
    path.write_bytes(ORIGINAL)
    path.chmod(0o640)
    return path


def apply(file: ResolvConf, config: DnsConfig = ALL) -> list[str]:
    step, warnings = file.prepare(config, None)
    assert step is not None
    return warnings + file.apply(step)


def applied(file: ResolvConf, config: DnsConfig = ALL, previous: ResolvConfFile | None = None) -> ResolvConfFile:
    """The step that was made and applied."""
    step, _ = file.prepare(config, previous)
    assert step
    file.apply(step)
    return step


def dead(name: str = "work") -> Owner:
    return replace(this_process(name), start=1)


def test_everything_is_asked_from_the_tunnel(path: Path) -> None:
    file = ResolvConf(path, this_process("work"))
    assert apply(file) == []
    assert path.read_text().splitlines()[1:] == [
        "nameserver 10.99.0.53",
        "nameserver fd99::53",
        "search corp.example",
        "options edns0 ndots:2",
    ]
    assert path.stat().st_mode & 0o777 == 0o644


def test_split_puts_the_tunnels_servers_and_domains_first(path: Path) -> None:
    apply(ResolvConf(path, this_process("work")), SPLIT)
    assert path.read_text().splitlines()[1:] == [
        "nameserver 10.99.0.53",
        "nameserver fd99::53",
        "nameserver 192.0.2.1",
        "search corp.example home.example lan",
        "options edns0 ndots:2",
    ]


def test_what_cannot_be_printed_is_not_taken_over_but_returns(path: Path) -> None:
    """O3, O10: a NUL in a line that is kept would make a journal that nobody can undo."""
    odd = ORIGINAL + b"options rot\0ate timeout:3\nsearch \x1b[2J lan\n"
    path.write_bytes(odd)
    file = ResolvConf(path, this_process("work"))
    step = applied(file, SPLIT)
    assert "options timeout:3" in step.text
    assert "search corp.example lan" in step.text
    assert decode(json.loads(json.dumps(encode(step)))) == step
    file.undo(step)
    assert path.read_bytes() == odd


def test_a_file_returns_with_its_content_mode_and_owner(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, 1000, 1001)
    before = path.stat()
    file = ResolvConf(path, this_process("work"))
    step = applied(file)
    assert file.undo(step) == []
    after = path.stat()
    assert path.read_bytes() == ORIGINAL
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [entry.name for entry in path.parent.iterdir()] == ["resolv.conf"]
    assert file.undo(step) == [], "undoing twice is fine"


@pytest.mark.parametrize("target", ["../run/resolv.conf", "../run/nowhere"])
def test_a_link_returns_as_the_same_link_and_its_target_is_never_written(path: Path, target: str) -> None:
    """O10: resolvconf, NetworkManager and others keep the file elsewhere."""
    run = path.parent.parent / "run"
    run.mkdir()
    (run / "resolv.conf").write_bytes(ORIGINAL)
    path.unlink()
    path.symlink_to(target)
    file = ResolvConf(path, this_process("work"))
    step = applied(file, SPLIT)
    assert not path.is_symlink()
    assert (b"192.0.2.1" in path.read_bytes()) == (target == "../run/resolv.conf")
    assert file.undo(step) == []
    assert os.readlink(path) == target
    assert (run / "resolv.conf").read_bytes() == ORIGINAL
    assert sorted(entry.name for entry in run.iterdir()) == ["resolv.conf"]


def test_where_there_was_no_file_there_is_none_again(path: Path) -> None:
    path.unlink()
    file = ResolvConf(path, this_process("work"))
    step = applied(file)
    assert b"10.99.0.53" in path.read_bytes()
    file.undo(step)
    assert list(path.parent.iterdir()) == []


def test_a_file_somebody_else_rewrote_is_left_alone(path: Path) -> None:
    """O10: a DHCP client renewed its lease in the middle of the session."""
    file = ResolvConf(path, this_process("work"))
    step = applied(file)
    path.write_bytes(b"nameserver 192.0.2.9\n")
    (warning,) = file.undo(step)
    assert "changed by another program" in warning
    assert path.read_bytes() == b"nameserver 192.0.2.9\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["resolv.conf"]


def test_applying_again_after_somebody_else_rewrote_it_remembers_the_new_content(path: Path) -> None:
    file = ResolvConf(path, this_process("work"))
    first = applied(file)
    path.write_bytes(b"nameserver 192.0.2.9\n")
    second = applied(file, ALL, first)
    assert file.undo(second) == []
    assert path.read_bytes() == b"nameserver 192.0.2.9\n"


def test_a_new_configuration_keeps_the_memory_of_the_original(path: Path) -> None:
    file = ResolvConf(path, this_process("work"))
    first = applied(file)
    second, _ = file.prepare(SPLIT, first)
    assert second
    assert b"192.0.2.1" in second.text.encode()
    file.apply(second)
    assert file.undo(second) == []
    assert path.read_bytes() == ORIGINAL


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_file_that_cannot_be_written_is_a_warning(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """O10: read-only roots, immutable files."""
    file = ResolvConf(path, this_process("work"))
    refuse_writing(monkeypatch, code)
    (warning,) = apply(file)
    assert warning == f"DNS is left alone: {path} cannot be written ({os.strerror(code)})"
    monkeypatch.undo()
    assert path.read_bytes() == ORIGINAL
    assert [entry.name for entry in path.parent.iterdir()] == ["resolv.conf"]


def refuse_writing(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    real = os.open

    def refuse(path: str, flags: int, *arguments: int, **named: int) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY and "journal" not in str(path):
            raise OSError(code, os.strerror(code))
        return real(path, flags, *arguments, **named)

    monkeypatch.setattr(os, "open", refuse)


def test_a_full_disk_is_an_error_and_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O11, O12."""
    file = ResolvConf(path, this_process("work"))
    step, _ = file.prepare(ALL, None)
    assert step

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PlatformError) as caught:
        file.apply(step)
    assert caught.value.lines() == [f"cannot write {path}", "No space left on device"]
    assert path.read_bytes() == ORIGINAL
    assert [entry.name for entry in path.parent.iterdir()] == ["resolv.conf"]


def test_a_huge_file_is_left_alone(path: Path) -> None:
    path.write_bytes(b"#" * 100_000)
    step, warnings = ResolvConf(path, this_process("work")).prepare(ALL, None)
    assert step is None
    assert "larger than 64 KiB" in warnings[0]


def test_more_servers_than_the_resolver_reads_are_worth_a_warning(path: Path) -> None:
    many = replace(ALL, servers=tuple(ip_address(f"10.99.0.{number}") for number in range(1, 6)))
    assert apply(ResolvConf(path, this_process("work")), many) == ["only the first 3 name servers are used"]
    assert len(servers_in(path.read_bytes())) == 3


def test_after_a_power_loss_the_file_is_given_back_without_the_tunnels_journal(path: Path) -> None:
    """O3: /run is empty after it, and this file is not."""
    apply(ResolvConf(path, dead()))
    later = ResolvConf(path, this_process("repair"))
    assert later.repair() == [f"gave {path} back its content from before the tunnel work"]
    assert path.read_bytes() == ORIGINAL
    assert later.repair() == []


def test_the_file_of_a_living_tunnel_is_not_repaired_and_serves_no_other(path: Path) -> None:
    first = ResolvConf(path, this_process("first"))
    step = applied(first)
    second = ResolvConf(path, this_process("second"))
    assert second.repair() == []
    assert second.prepare(SPLIT, None) == (None, [f"DNS is left alone: {path} serves the tunnel first"])
    assert first.undo(step) == []
    assert path.read_bytes() == ORIGINAL


def test_a_rewrite_that_was_cut_short_counts_as_ours(path: Path) -> None:
    file = ResolvConf(path, this_process("work"))
    step = applied(file)
    path.write_bytes(step.text.encode()[:20])
    assert file.undo(step) == []
    assert path.read_bytes() == ORIGINAL


@pytest.mark.lab
@pytest.mark.parametrize("directory_is_read_only", [False, True])
def test_a_file_mounted_into_a_container_is_rewritten_in_place(path: Path, directory_is_read_only: bool) -> None:
    """O10: it cannot be renamed over (EBUSY), or nothing can be made beside it (EROFS)."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount file systems")

    def body() -> None:
        unshare(CLONE_NEWNS)
        sh("mount --make-rprivate /")
        outside = path.parent.parent / "outside"
        outside.write_bytes(ORIGINAL)
        sh(f"mount --bind {outside} {path}")
        if directory_is_read_only:
            sh(f"mount --bind {path.parent} {path.parent} && mount -o remount,bind,ro {path.parent}")
            sh(f"mount --bind {outside} {path}")
        inode = path.stat().st_ino
        file = ResolvConf(path, this_process("work"))
        step, _ = file.prepare(ALL, None)
        assert step
        assert file.apply(step) == []
        assert outside.read_text() == step.text
        assert path.stat().st_ino == inode
        assert file.undo(step) == []
        assert outside.read_bytes() == ORIGINAL
        sh(f"mount -o remount,bind,ro {path}")
        (warning,) = file.apply(step)
        assert "cannot be written (Read-only file system)" in warning
        assert file.undo(step) == []

    in_child(body)


def test_the_file_is_never_seen_half_written(path: Path) -> None:
    """A reader that looks all the time sees the one content or the other."""
    file = ResolvConf(path, this_process("work"))
    step, _ = file.prepare(ALL, None)
    assert step
    child = os.fork()
    if child == 0:
        deadline = time.monotonic() + 20
        while path.exists() and time.monotonic() < deadline:
            try:
                if path.read_bytes() not in (ORIGINAL, step.text.encode()):
                    os._exit(1)
            except FileNotFoundError:
                break
        os._exit(0)
    for _ in range(50):
        file.apply(step)
        file.undo(step)
    path.unlink()
    assert os.waitpid(child, 0)[1] == 0
