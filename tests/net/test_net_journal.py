"""The journal: what is written can be read, and nothing else is ever acted on."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from net_lab import CLONE_NEWNS, in_child, sh, unshare

from ikeclient.errors import PlatformError
from ikeclient.net.changes.desired import Facts
from ikeclient.net.changes.journal import (
    Journal,
    JournalError,
    Owner,
    decode,
    encode,
    load,
    open_directory,
    this_process,
)
from ikeclient.net.changes.steps import (
    OURS,
    Address,
    Link,
    LocalRuleLast,
    ResolvConfFile,
    ResolvconfRecord,
    ResolvedLink,
    Route,
    Rule,
    Step,
)
from ikeclient.net.machine.fake import FakeDns, FakeKernel, Faults
from ikeclient.net.machine.machine import repair

STEPS: list[Step] = [
    Link(interface="ike0", index=7, mtu=1400, old_mtu=1500, was_up=False),
    Address(interface="ike0", index=7, address=ip_interface("10.88.0.1/24")),
    Address(interface="ike0", index=7, address=ip_interface("fd88::1/128")),
    Route(
        destination=ip_network("0.0.0.0/0"),
        table=7400,
        kind="unicast",
        interface="ike0",
        index=7,
        source=ip_address("10.88.0.1"),
    ),
    Route(destination=ip_network("::/0"), table=7400, kind="unreachable"),
    Rule(version=4, priority=20010, table=7400, mark=0x1CE),
    Rule(version=4, priority=19990, table=254, destination=ip_network("203.0.113.7/32"), source_port=4500),
    Rule(version=6, priority=0, table=0, protocol=OURS, destination=ip_network("fd88::1/128")),
    LocalRuleLast(version=6),
    ResolvedLink(
        interface="ike0", index=7, servers=(ip_address("10.99.0.53"),), domains=("~corp.example",), default_route=False
    ),
    ResolvconfRecord(interface="ike0", text="nameserver 10.99.0.53\n", exclusive=True),
    ResolvConfFile(text="nameserver ::1\n", link="../run/x", content=b"\xff\0\n", mode=0o644, uid=0, gid=0),
    ResolvConfFile(text="", link=None, content=None, mode=0o600, uid=1, gid=2),
]


def dead() -> Owner:
    return replace(this_process("work"), start=1)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_every_step_survives_the_journal(step: Step) -> None:
    assert decode(json.loads(json.dumps(encode(step)))) == step


def test_the_file_is_for_this_user_alone_and_goes_with_the_last_step(state_dir: Path) -> None:
    journal = Journal(state_dir, "work.undo.json", this_process("work"))
    journal.write(STEPS)
    path = state_dir / "work.undo.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert state_dir.stat().st_mode & 0o777 == 0o700
    with open_directory(state_dir) as directory:
        assert load(directory, path.name) == (this_process("work"), STEPS, True)
    journal.write([])
    assert list(state_dir.iterdir()) == []
    state_dir.rmdir()
    journal.write([])


def change(**changes: object) -> dict[str, object]:
    return {**encode(STEPS[3]), **changes}


def nested(depth: int) -> list[Any]:
    """A list in a list in a list; what reads JSON may not get that far down by itself."""
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


def rule(**changes: object) -> dict[str, object]:
    return {**encode(STEPS[5]), **changes}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"step": "run", "command": "id"},
        change(step="link"),
        change(extra=1),
        {key: value for key, value in change().items() if key != "table"},
        change(table=254),
        change(table=255),
        change(table=-1),
        change(table=True),
        change(table="7400"),
        change(kind="local"),
        change(interface=None),
        change(interface="../x"),
        change(destination="0.0.0.0/0; id"),
        change(destination=None),
        change(table=nested(700)),
        {"step": "route", "x": nested(950)},
        change(destination="10.0.0.1/8"),
        change(index=2**31),
        rule(priority=0),
        rule(table=254),
        rule(table=255),
        rule(mark=0),
        rule(protocol=3),
        rule(version=True),
        rule(priority=32766),
        {**encode(STEPS[0]), "interface": None},
        {**encode(STEPS[0]), "was_up": 1},
        {**encode(STEPS[9]), "servers": ["x"]},
        {**encode(STEPS[9]), "servers": "10.0.0.1"},
        {**encode(STEPS[11]), "content": "%%"},
        {**encode(STEPS[11]), "path": "/etc/shadow"},
        {**encode(STEPS[11]), "mode": 0o4755},
        {**encode(STEPS[11]), "link": "a\0b"},
        {**encode(STEPS[11]), "link": ""},
        {**encode(STEPS[11]), "text": "\ud800"},
    ],
)
def test_a_step_that_is_not_exactly_one_of_ours_is_refused(data: object) -> None:
    with pytest.raises(JournalError):
        decode(data)


def test_a_link_whose_target_is_not_utf8_is_kept() -> None:
    step = replace(STEPS[11], link=os.fsdecode(b"/run/\xff"))
    assert decode(json.loads(json.dumps(encode(step)))) == step


def document(**changes: Any) -> bytes:
    owner = dead()
    good = {
        "format": 1,
        "name": owner.name,
        "pid": owner.pid,
        "start": owner.start,
        "boot": owner.boot,
        "steps": [encode(STEPS[3])],
    }
    return json.dumps({**good, **changes}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        document()[:-1],
        document(format=3),
        document(name="../../etc/cron.d/x"),
        document(pid="1"),
        document(pid=0),
        document(steps={}),
        document(more=1),
        document(steps=[encode(STEPS[3]), {"step": "run"}]),
    ],
    ids=range(12),
)
def test_a_malformed_journal_is_moved_aside_and_never_acted_on(state_dir: Path, data: bytes) -> None:
    state_dir.mkdir(0o700)
    (state_dir / "work.undo.json").write_bytes(data)
    kernel, dns = FakeKernel([], Faults(), Facts()), FakeDns([], Faults())
    kernel.state = {STEPS[3].key: STEPS[3]}  # type: ignore[dict-item]
    (line,) = repair(state_dir, kernel=kernel, dns=dns, resolv_conf=state_dir / "resolv.conf")
    assert "nothing of it was undone" in line
    assert kernel.state
    assert [path.name for path in state_dir.iterdir()] == ["work.undo.json.malformed"]
    assert repair(state_dir, kernel=kernel, dns=dns, resolv_conf=state_dir / "resolv.conf") == []


def test_a_well_formed_journal_of_a_dead_process_is_undone(state_dir: Path) -> None:
    """The counterpart of the test above: its document is good but for the one change."""
    state_dir.mkdir(0o700)
    (state_dir / "work.undo.json").write_bytes(document())
    kernel, dns = FakeKernel([], Faults(), Facts()), FakeDns([], Faults())
    kernel.state = {STEPS[3].key: STEPS[3]}  # type: ignore[dict-item]
    repair(state_dir, kernel=kernel, dns=dns, resolv_conf=state_dir / "resolv.conf")
    assert kernel.state == {}


def test_what_repair_cannot_undo_is_kept_for_the_next_time(state_dir: Path) -> None:
    state_dir.mkdir(0o700)
    (state_dir / "work.undo.json").write_bytes(document(steps=[encode(step) for step in STEPS[3:6]]))
    faults = Faults()
    kernel, dns = FakeKernel([], faults, Facts()), FakeDns([], faults)
    faults.at = 2
    lines = repair(state_dir, kernel=kernel, dns=dns, resolv_conf=state_dir / "resolv.conf")
    assert lines[0].startswith("undid 2 changes")
    assert lines[1].startswith("not undone: `ip -6 route delete unreachable ::/0")
    with open_directory(state_dir) as directory:
        assert load(directory, "work.undo.json") == (replace(dead(), pids="", network=""), [STEPS[4]], False)


def test_a_link_in_place_of_the_journal_is_not_followed(state_dir: Path, tmp_path: Path) -> None:
    """F14."""
    state_dir.mkdir(0o700)
    elsewhere = tmp_path / "victim"
    elsewhere.write_bytes(document())
    (state_dir / "work.undo.json").symlink_to(elsewhere)
    (line,) = repair(state_dir, resolv_conf=tmp_path / "resolv.conf")
    assert "moved aside" in line
    Journal(state_dir, "other.undo.json", dead()).write(STEPS)
    (state_dir / "other.undo.json").unlink()
    (state_dir / "other.undo.json").symlink_to(elsewhere)
    Journal(state_dir, "other.undo.json", dead()).write(STEPS)
    assert elsewhere.read_bytes() == document()
    assert not (state_dir / "other.undo.json").is_symlink()


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(state_dir: Path, mode: int) -> None:
    """F14."""
    state_dir.mkdir()
    state_dir.chmod(mode)
    with pytest.raises(PlatformError, match="others can write to it"):
        repair(state_dir, resolv_conf=state_dir / "resolv.conf")
    with pytest.raises(PlatformError, match="others can write to it"):
        Journal(state_dir, "work.undo.json", this_process("work")).write(STEPS)


def test_a_link_in_place_of_the_directory_is_refused(state_dir: Path, tmp_path: Path) -> None:
    """F14."""
    (tmp_path / "elsewhere").mkdir()
    state_dir.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PlatformError):
        Journal(state_dir, "work.undo.json", this_process("work")).write(STEPS)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_full_disk_keeps_the_journal_that_was_there(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O12."""
    journal = Journal(state_dir, "work.undo.json", this_process("work"))
    journal.write(STEPS[:1])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PlatformError) as caught:
        journal.write(STEPS)
    assert caught.value.reason == "No space left on device"
    with open_directory(state_dir) as directory:
        assert load(directory, "work.undo.json")[1] == STEPS[:1]
    assert len(list(state_dir.iterdir())) == 1


@pytest.mark.lab
def test_a_read_only_or_full_run_directory_is_named_before_anything_changes(tmp_path: Path) -> None:
    """O12, on real file systems."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount file systems")

    def body() -> None:
        unshare(CLONE_NEWNS)
        sh("mount --make-rprivate /")
        full, read_only = tmp_path / "full", tmp_path / "read-only"
        for path, options in ((full, "size=4k"), (read_only, "ro")):
            path.mkdir()
            sh(f"mount -t tmpfs -o {options},mode=700 none {path}")
        (full / "ballast").write_bytes(bytes(4096))
        with pytest.raises(PlatformError) as no_space:
            Journal(full, "work.undo.json", this_process("work")).write(STEPS)
        assert no_space.value.reason == "No space left on device"
        with pytest.raises(PlatformError) as cannot_write:
            Journal(read_only / "run", "work.undo.json", this_process("work")).write(STEPS)
        assert cannot_write.value.reason == "Read-only file system"
        assert [path.name for path in full.iterdir()] == ["ballast"]

    in_child(body)


def test_a_process_is_known_by_more_than_its_number() -> None:
    ours = this_process("work")
    assert ours.is_alive(locked=False)
    assert not replace(ours, start=ours.start + 1).is_alive(locked=True), "another process has that number now"
    assert not replace(ours, boot="before").is_alive(locked=True)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    zombie = Owner(
        name="work", pid=child, start=int(Path(f"/proc/{child}/stat").read_text().split()[21]), boot=ours.boot
    )
    assert not zombie.is_alive(locked=True)
    os.waitpid(child, 0)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0", "-a", ".hidden", "x" * 65, "é"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a tunnel name"):
        this_process(name)
