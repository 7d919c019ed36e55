"""What a tunnel's helper does when asked, and what it refuses to a tunnel that was taken over."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from ikeclient.errors import PlatformError
from ikeclient.ipc.messages import pack, receive
from ikeclient.net.changes.journal import SUFFIX, encode, load, open_directory, this_process
from ikeclient.net.changes.steps import Link, ResolvConfFile, ResolvedLink, Route, Step
from ikeclient.net.dns.resolv_conf import ResolvConf
from ikeclient.net.model import DnsConfig
from ikeclient.process.helper.channel import CODEC, HelperChannel, HelperDns, HelperJournal, Keeper
from ikeclient.process.helper.messages import ApplyDns, Done, Remove, Request, UndoDns, WriteJournal

CONFIG = DnsConfig(servers=(ip_address("10.99.0.53"),), domains=("corp.example",), mode="all")
BEFORE = "nameserver 203.0.113.53\n"
LINK = Link(interface="ike0", index=7, mtu=1400, old_mtu=1500, was_up=False)


class FileDns:
    """Name resolution by a file of the test's."""

    def __init__(self, file: ResolvConf) -> None:
        self._file = file

    def prepare(self, config: DnsConfig, interface: str, previous: object) -> object:
        return self._file.prepare(config, previous if isinstance(previous, ResolvConfFile) else None)

    def apply(self, step: ResolvConfFile) -> list[str]:
        return self._file.apply(step)

    def undo(self, step: ResolvConfFile) -> list[str]:
        return self._file.undo(step)


@contextmanager
def channel_to(keeper: Keeper) -> Iterator[HelperChannel]:
    """A channel with the keeper behind it in a thread."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, suppress(OSError):
            while (request := receive(theirs.recv)) is not None:
                theirs.sendall(pack(keeper.answer(request)))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield HelperChannel(ours, patience=10)
    finally:
        ours.close()
        thread.join(10)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def resolv_conf(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "resolv.conf"
    path.parent.mkdir()
    path.write_text(BEFORE)
    return path


@pytest.fixture
def keeper(state_dir: Path, resolv_conf: Path) -> Keeper:
    owner = this_process("work")
    return Keeper(state_dir, owner, dns=FileDns(ResolvConf(resolv_conf, owner)))  # type: ignore[arg-type]


def test_name_resolution_goes_there_and_back(keeper: Keeper, resolv_conf: Path) -> None:
    with channel_to(keeper) as channel:
        dns = HelperDns(channel)
        step, _ = dns.prepare(CONFIG, "ike0", None)
        assert isinstance(step, ResolvConfFile)
        assert dns.apply(step) == []
        assert "nameserver 10.99.0.53" in resolv_conf.read_text()
        again, _ = dns.prepare(CONFIG, "ike0", step)
        assert again == step
        assert dns.undo(step) == []
    assert resolv_conf.read_text() == BEFORE


def test_the_journal_is_written_for_the_tunnel(keeper: Keeper, state_dir: Path) -> None:
    """O3: what is to be undone names the tunnel's process, and is gone when nothing is left."""
    with channel_to(keeper) as channel:
        journal = HelperJournal(channel)
        journal.write([LINK])
        with open_directory(state_dir) as directory:
            assert load(directory, "work" + SUFFIX) == (this_process("work"), [LINK], True)
        journal.write([])
    assert list(state_dir.iterdir()) == []


def test_of_many_steps_only_the_new_ones_travel(keeper: Keeper, state_dir: Path) -> None:
    """S18: a change of the MTU does not send hundreds of routes again; what is written is the same."""
    many: list[Step] = [
        Route(destination=ip_network((0x0A000000 + (number << 8), 24)), table=7400, kind="throw")
        for number in range(500)
    ]
    changed: list[Step] = [*many[250:], replace(LINK, mtu=1300), *many[:250]]
    sizes = []
    with channel_to(keeper) as channel:
        ask = channel.ask

        def measured(request: Request) -> Done:
            sizes.append(len(pack(CODEC.encode(request))))
            return ask(request)

        channel.ask = measured  # type: ignore[method-assign]
        journal = HelperJournal(channel)
        for steps in ([LINK, *many], changed):
            journal.write(steps)
            with open_directory(state_dir) as directory:
                assert load(directory, "work" + SUFFIX) == (this_process("work"), steps, True)
        journal.write([])
    assert sizes[0] > 10 * sizes[1]


@pytest.mark.parametrize("number", [-1, 1, True, 2**64, "0", 0.0])
def test_a_step_is_not_named_by_any_other_number(keeper: Keeper, number: object) -> None:
    with channel_to(keeper) as channel:
        channel.ask(WriteJournal(steps=(encode(LINK),)))
        with pytest.raises(PlatformError, match="refuses"):
            channel.ask(WriteJournal(steps=(number,)))  # type: ignore[arg-type]
        channel.ask(WriteJournal(steps=(0,)))


def test_the_tunnels_own_files_are_removed_and_no_others(keeper: Keeper, state_dir: Path) -> None:
    state_dir.mkdir(mode=0o700)
    for name in ("work.sock", "work.log", "other.sock"):
        (state_dir / name).touch()
    with channel_to(keeper) as channel:
        channel.remove("socket")
        channel.remove("log")
        channel.remove("log")
        for name in ("other.sock", "../etc/resolv.conf", "work.log"):
            with pytest.raises(PlatformError, match="refuses"):
                channel.ask(Remove(file=name))  # type: ignore[arg-type]
    assert [path.name for path in state_dir.iterdir()] == ["other.sock"]


FORGED = ResolvConfFile(text="nameserver 192.0.2.66\n", link=None, content=b"x", mode=0o777, uid=0, gid=0)
OTHER_LINK = ResolvedLink(interface="eth0", index=2, servers=(), domains=("~.",), default_route=True)


@pytest.mark.parametrize("step", [FORGED, OTHER_LINK, LINK])
@pytest.mark.parametrize("do", [ApplyDns, UndoDns, WriteJournal])
def test_a_change_that_the_helper_did_not_prepare_is_refused(
    keeper: Keeper, resolv_conf: Path, state_dir: Path, step: Step, do: type[ApplyDns | UndoDns | WriteJournal]
) -> None:
    """A tunnel that was taken over cannot have files of its choice written, now or by the next start's repair."""
    if step is LINK and do is WriteJournal:
        return  # addresses and links are journalled as they are: undoing them needs no more than CAP_NET_ADMIN
    request = WriteJournal(steps=(encode(step),)) if do is WriteJournal else do(step=encode(step))  # type: ignore[call-arg]
    with channel_to(keeper) as channel, pytest.raises(PlatformError, match="refuses"):
        channel.ask(request)
    assert resolv_conf.read_text() == BEFORE
    assert not state_dir.exists()


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"is": "Shell", "command": "id"},
        {"is": "WriteJournal"},
        {"is": "WriteJournal", "steps": [{"step": "link"}]},
        {"is": "WriteJournal", "steps": [None]},
        {"is": "ApplyDns"},
        {"is": "ApplyDns", "step": {"step": "resolv.conf", "text": 1}},
        {"is": "PrepareDns", "previous": {"step": "route"}, "servers": [], "domains": [], "mode": "all"},
        {
            "is": "PrepareDns",
            "previous": None,
            "servers": "10.0.0.1",
            "domains": [],
            "mode": "all",
            "interface": "ike0",
        },
        {"is": "PrepareDns", "previous": None, "servers": ["x"], "domains": [], "mode": "all", "interface": "ike0"},
        {"is": "PrepareDns", "previous": None, "servers": [], "domains": [], "mode": "none", "interface": "ike0"},
        {"is": "PrepareDns", "previous": None, "servers": [], "domains": [], "mode": "all", "interface": "-h"},
        {"is": "PrepareDns", "previous": None, "servers": [[]], "domains": [{}], "mode": [], "interface": None},
        {"is": "Remove"},
        {"is": "Remove", "file": ["socket"]},
        {"is": "Remove", "file": "socket", "more": 1},
        {"is": "Done", "warnings": [], "step": None},
    ],
)
def test_nonsense_is_an_error_and_nothing_else(keeper: Keeper, request_: dict[str, object]) -> None:
    answer = keeper.answer(request_)
    assert answer["is"] == "Failure"
    assert "refuses" in str(answer["message"])


def test_a_domain_that_is_none_never_reaches_the_file(keeper: Keeper) -> None:
    """K15: the helper checks again what the tunnel says that the gateway said."""
    answer = keeper.answer(
        {
            "is": "PrepareDns",
            "previous": None,
            "servers": ["10.99.0.53", "127.0.0.1"],
            "domains": ["corp.example\nnameserver 192.0.2.66", "ok.example"],
            "mode": "all",
            "interface": "ike0",
        }
    )
    assert "192.0.2.66" not in str(answer["step"])
    assert "127.0.0.1" not in str(answer["step"])
    assert len(answer["warnings"]) == 2  # type: ignore[arg-type]


def test_failures_come_back_as_they_were(keeper: Keeper, state_dir: Path) -> None:
    """O12: no journal can be written, and the tunnel hears why."""
    state_dir.mkdir(mode=0o777)
    os.chmod(state_dir, 0o777)
    with channel_to(keeper) as channel, pytest.raises(PlatformError) as caught:
        HelperJournal(channel).write([LINK])
    assert "others can write to it" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("words", [b"", b"\x05\x00\x00\x00nope!", b"\xff\xff\xff\xff", b"\x02\x00\x00\x00[]"])
def test_a_helper_that_is_gone_or_mad_is_an_error(words: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(words)
    theirs.shutdown(socket.SHUT_WR)
    with ours, theirs, pytest.raises(PlatformError, match="cannot change this machine any more"):
        HelperChannel(ours, patience=5).ask(Remove(file="log"))
