"""A living tunnel keeps everything, wherever another one starts; a dead one is known to be dead everywhere."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from net_lab import FULL, SPLIT, Lan, a_lan, device, in_child, inside, sh, state, tun

from ikeclient.errors import PlatformError
from ikeclient.ipc.messages import pack, receive
from ikeclient.net.changes.journal import Journal, this_process
from ikeclient.net.machine.kernel import Kernel
from ikeclient.net.machine.machine import Machine, remove_leftovers, repair
from ikeclient.process.helper.channel import HelperChannel, HelperJournal, Keeper

pytestmark = pytest.mark.lab

OTHER = replace(
    SPLIT,
    interface="ike1",
    addresses=(ip_interface("10.77.0.1/32"),),
    routes=(ip_network("10.77.0.0/24"),),
    table=7401,
)
ELSEWHERE = ("unshare", "--pid", "--fork", "--mount-proc")
REPAIR = """
import sys
from pathlib import Path
from ikeclient.net.machine.machine import remove_leftovers, repair
print(repair(Path(sys.argv[1]), resolv_conf=Path(sys.argv[2])) + remove_leftovers())
"""
START = """
import sys
from pathlib import Path
from ikeclient.errors import UsageError
from ikeclient.net.machine.machine import Machine
try:
    Machine(Path(sys.argv[1]), "work", resolv_conf=Path(sys.argv[2])).check()
except UsageError as error:
    print(error.message)
"""
LIVE = """
import sys, time
sys.path[:0] = [sys.argv[3]]
from pathlib import Path
from net_lab import FULL, tun
from ikeclient.net.machine.machine import Machine
device = tun()
machine = Machine(Path(sys.argv[1]), "work", resolv_conf=Path(sys.argv[2]))
machine.apply(FULL)
print("up", flush=True)
time.sleep(600)
"""


def script(text: str, state_dir: Path, *prefix: str) -> str:
    """Run Python code about `state_dir`, by way of `prefix`, and return what it prints."""
    command = [*prefix, sys.executable, "-c", text, str(state_dir), str(state_dir / "resolv.conf")]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@contextmanager
def living(state_dir: Path, *prefix: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has a full tunnel on this machine."""
    here = str(Path(__file__).parent)
    command = [*prefix, sys.executable, "-c", LIVE, str(state_dir), str(state_dir / "resolv.conf"), here]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("prefix", [(), ELSEWHERE], ids=["here", "in another PID namespace"])
@inside
def test_a_start_leaves_a_living_tunnel_alone(lan: Lan, state_dir: Path, prefix: Sequence[str]) -> None:
    """O19: its process is not to be seen from there, but its lock and its marks are."""
    with living(state_dir):
        before = state()
        assert script(REPAIR, state_dir, *prefix) == "[]"
        assert "is already running" in script(START, state_dir, *prefix)
        assert state() == before
        assert device("8.8.8.8") == "ike0"


@pytest.mark.parametrize("prefix", [(), ELSEWHERE], ids=["here", "from another PID namespace"])
@inside
def test_a_tunnel_that_was_killed_in_another_pid_namespace_is_repaired(
    lan: Lan, state_dir: Path, prefix: Sequence[str]
) -> None:
    """O19: dead is dead, whoever looks."""
    before = state()
    with living(state_dir, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc") as process:
        assert script(REPAIR, state_dir) == "[]"
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        while (told := script(REPAIR, state_dir, *prefix)) == "[]":
            assert time.monotonic() < deadline
        assert "changes that the tunnel work" in told
        assert state() == before
        assert list(state_dir.iterdir()) == []


def test_a_journal_of_another_network_is_neither_replayed_nor_lost(lan: Lan, state_dir: Path) -> None:
    """O19: two networks share a directory. Each tunnel may be called alike, and each crash is repaired at its place."""
    before: list[str] = []

    def crash() -> None:
        before.append(state())
        with living(state_dir) as process:
            process.kill()
            process.wait()
        (state_dir / "left").write_text(state())

    def elsewhere() -> None:
        with living(state_dir) as process:
            up = state()
            assert repair(state_dir, resolv_conf=state_dir / "resolv.conf") == []
            assert remove_leftovers() == []
            assert state() == up
            process.kill()
            process.wait()
        (line,) = repair(state_dir, resolv_conf=state_dir / "resolv.conf")
        assert "changes that the tunnel work" in line

    def home() -> None:
        assert state() == (state_dir / "left").read_text()
        (line,) = repair(state_dir, resolv_conf=state_dir / "resolv.conf")
        assert "changes that the tunnel work" in line
        assert "7400" not in state()

    lan.inside(crash)
    journal = json.loads((state_dir / "work.undo.json").read_text())
    with a_lan("other") as other:
        other.inside(elsewhere)
    (kept,) = state_dir.glob("*.undo.json")
    assert json.loads(kept.read_text()) == journal
    lan.inside(home)
    assert not list(state_dir.glob("*.undo.json"))


@inside
def test_a_living_tunnel_of_the_same_name_in_another_network_is_told(lan: Lan, state_dir: Path) -> None:
    """O19: both would write one journal."""
    with living(state_dir):
        told = script(START, state_dir, "unshare", "--net")
        assert "is already running" in told
        assert "in another network namespace" in told


def test_the_file_beside_resolv_conf_waits_for_its_tunnels_end_from_everywhere(tmp_path: Path) -> None:
    """O19: /etc may be shared; a name server is taken back only from the dead."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    text = """
import sys, time
from ipaddress import ip_address
from pathlib import Path
from ikeclient.net.dns.resolv_conf import ResolvConf
from ikeclient.net.model import DnsConfig
from ikeclient.net.changes.journal import this_process
file = ResolvConf(Path(sys.argv[2]), this_process("work"))
step, _ = file.prepare(DnsConfig(servers=(ip_address("10.99.0.53"),), mode="all"), None)
file.apply(step)
print("up", flush=True)
time.sleep(600)
"""
    look = "import sys; from pathlib import Path; from ikeclient.net.dns.backends import Dns; " + (
        "from ikeclient.net.changes.journal import this_process; "
        "print(Dns(this_process('r'), Path(sys.argv[2])).repair())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", text, str(tmp_path), str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        for prefix in ((), ELSEWHERE, ("unshare", "--net"), (*ELSEWHERE, "--net")):
            assert script(look, tmp_path, *prefix) == "[]"
            assert "10.99.0.53" in path.read_text()
        process.kill()
        process.wait()
        assert "back its content" in script(look, tmp_path, *ELSEWHERE, "--net")
    assert path.read_text() == "nameserver 192.0.2.53\n"


@inside
def test_what_no_journal_tells_of_goes_and_a_living_neighbour_stays(lan: Lan, state_dir: Path, tmp_path: Path) -> None:
    """O20: the directory of the journal went with the crash; the neighbour has another one."""
    _ike1 = tun("ike1")
    neighbour = Machine(tmp_path / "elsewhere", "other")
    neighbour.apply(OTHER)
    before = state()
    with living(state_dir) as process:
        process.kill()
        process.wait()
    (state_dir / "work.undo.json").unlink()
    left = state()
    planned = remove_leftovers(dry_run=True)
    assert state() == left
    done = remove_leftovers()
    assert state() == before
    assert len(done) == len(planned) > 10
    assert remove_leftovers() == []
    neighbour.revert()


@inside
def test_another_directorys_old_journal_does_not_undo_who_took_the_table(
    lan: Lan, state_dir: Path, tmp_path: Path
) -> None:
    """O19, O20: table, priorities and inner address came again."""
    with living(state_dir) as process:
        process.kill()
        process.wait()
    remove_leftovers()
    _ike0 = tun()
    later = Machine(tmp_path / "later", "later")
    later.apply(FULL)
    before = state()
    (line,) = repair(state_dir, resolv_conf=state_dir / "resolv.conf")
    assert "that the tunnel work" in line
    assert state() == before
    later.revert()


@inside
def test_what_others_made_is_no_leftover(lan: Lan) -> None:
    """O20: of our protocol number, in our tables or at our priorities, but not ours."""
    for command in (
        "ip rule add priority 20010 lookup 7400",
        "ip rule add priority 20010 fwmark 0x1ce lookup 7400 protocol kernel",
        "ip rule add priority 500 not fwmark 0x1ce lookup 7400 protocol kernel",
        "ip rule add priority 20000 not fwmark 0x1ce lookup 100 protocol kernel",
        "ip rule add priority 20000 not fwmark 0x1ce lookup 7402 protocol kernel suppress_prefixlength 0",
        "ip rule add priority 20000 not fwmark 0x1ce from 10.0.0.0/8 lookup 7402 protocol kernel",
        "ip rule add priority 19990 to 203.0.113.7 lookup main protocol kernel",
        "ip route add 10.5.0.0/16 via 192.0.2.1 table 7400",
        "ip route add unreachable 10.6.0.0/16 table 7600 protocol kernel",
    ):
        sh(command)
    before = state()
    assert remove_leftovers() == []
    assert state() == before


@pytest.mark.parametrize("busy", [False, True])
@inside
def test_a_stranger_cannot_answer_for_a_dead_tunnel(lan: Lan, state_dir: Path, busy: bool) -> None:
    """O20: any user can take the name of a mark, and be too busy to be asked."""
    before = state()
    with living(state_dir) as process:
        process.kill()
        process.wait()
    (state_dir / "work.undo.json").unlink()
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        kept = []
        for name in ("table/7400", "address/10.88.0.1/32", "address/fd88::1/128"):
            mark = socket.socket(socket.AF_UNIX)
            mark.bind(f"\0ikeclient/{name}")
            mark.listen(0 if busy else 100)
            kept.append(mark)
            if busy:
                asker = socket.socket(socket.AF_UNIX)
                asker.connect(f"\0ikeclient/{name}")
                kept.append(asker)
        os.write(writable, b"up")
        time.sleep(600)
    assert os.read(readable, 2) == b"up"
    try:
        assert remove_leftovers()
        assert state() == before
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@inside
def test_a_living_tunnel_that_many_asked_for_still_lives(lan: Lan, state_dir: Path) -> None:
    """O19: any user can ask, and nobody answers."""
    with living(state_dir):
        (state_dir / "work.undo.json").unlink()
        before = state()
        askers = []
        for _ in range(1000):
            asker = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            askers.append(asker)
            if asker.connect_ex("\0ikeclient/table/7400") == errno.EAGAIN:
                break
        else:
            pytest.fail("it has time for everybody")
        sh("ip link set ike0 down")  # else its carrier would tell
        down = state()
        assert "lookup 7400" in before
        assert remove_leftovers() == []
        assert state() == down
        for asker in askers:
            asker.close()


@inside
def test_two_tunnels_that_start_at_once_get_tables_of_their_own(lan: Lan, state_dir: Path) -> None:
    """O20: between the choice of a table and its first route there is nothing to be seen in the kernel."""
    first, second = Machine(state_dir, "first"), Machine(state_dir, "second")
    assert (first.reserve_table(), second.reserve_table()) == (7400, 7401)


def test_a_kernel_is_told_many_things_at_once(lan: Lan, state_dir: Path) -> None:
    """S18: 256 granted networks are one journal write up and one down, and a system call for dozens of routes."""

    class Counting(Journal):
        writes = 0

        def write(self, steps: Sequence[object]) -> None:
            Counting.writes += 1
            super().write(steps)  # type: ignore[arg-type]

    def body() -> None:
        _ike0 = tun()
        before = state()
        journal = Counting(state_dir, "work.undo.json", this_process("work"))
        kernel = Kernel()
        machine = Machine(state_dir, "work", kernel=kernel, journal=journal)
        many = replace(FULL, routes=tuple(ip_network(f"10.{i}.{j}.0/24") for i in range(16) for j in range(0, 32, 2)))
        machine.apply(many)
        assert len(sh("ip route show table 7400").splitlines()) == 256
        assert len(sh("ip route show table 7464").splitlines()) == 256
        assert Counting.writes == 1
        machine.apply(many)
        assert Counting.writes == 1
        machine.revert()
        assert Counting.writes == 2
        assert state() == before

    lan.inside(body)


def test_hundreds_of_routes_hold_up_the_loop_for_a_moment_only(lan: Lan, state_dir: Path) -> None:
    """S18: seconds of processor time, since others may be busy, with the journal in another process, as in a tunnel.

    It took 8 to 18 seconds when each route was a step of its own.
    """
    many = replace(FULL, routes=tuple(ip_network(f"10.{i}.{j}.0/24") for i in range(16) for j in range(0, 32, 2)))

    def body() -> None:
        _ike0 = tun()
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            keeper = Keeper(state_dir, replace(this_process("work"), pid=os.getppid()))
            while True:
                theirs.sendall(pack(keeper.answer(receive(theirs.recv) or {})))
        theirs.close()
        machine = Machine(state_dir, "work", journal=HelperJournal(HelperChannel(ours)))

        def spent() -> float:
            nanoseconds, *_ = Path(f"/proc/{child}/schedstat").read_text().split()
            return time.process_time() + int(nanoseconds) / 1e9

        async def session() -> dict[str, float]:
            took = {}
            works = {
                "up": lambda: machine.apply(many),
                "again": lambda: machine.apply(many),
                "another MTU": lambda: machine.apply(replace(many, mtu=1390)),
                "look": machine.uphold,
                "down": machine.revert,
            }
            for name, work in works.items():
                began = spent()
                work()
                took[name] = spent() - began
            return took

        best = asyncio.run(session())
        for _ in range(4):
            best = {name: min(best[name], each) for name, each in asyncio.run(session()).items()}
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert max(best.values()) < 0.2, best

    lan.inside(body)


@inside
def test_a_table_that_is_taken_is_refused(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    sh("ip route add unreachable 10.6.0.0/16 table 7464")
    with pytest.raises(PlatformError, match="routing table 7464 is in use"):
        Machine(state_dir, "work").apply(FULL)


def test_routes_and_rules_read_back_are_the_steps_that_were_taken(lan: Lan, state_dir: Path) -> None:
    """O18: else what is in force would be put back for ever."""

    def body() -> None:
        sh("echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter")
        _ike0 = tun()
        machine = Machine(state_dir, "work")
        machine.apply(replace(FULL, exclude=(ip_network("198.51.100.0/24"), ip_network("2001:db8:9::/48"))))
        assert machine.uphold() == []
        machine.revert()

    in_child(body, namespace=lan.client)


SHARED = """
import sys
from ipaddress import ip_address
from pathlib import Path
from ikeclient.net.dns.backends import Dns
from ikeclient.net.model import DnsConfig
from ikeclient.net.changes.journal import this_process
names = Dns(this_process("work"), Path(sys.argv[2]), directories=())
step, warnings = names.prepare(DnsConfig(servers=(ip_address("10.99.0.53"),), mode="all"), "ike0", None)
print(step is not None, warnings)
if step is not None:
    names.apply(step)
    print(sorted(path.name for path in Path(sys.argv[1]).glob("resolv.conf*")))
    names.undo(step)
"""


@pytest.mark.parametrize(
    ("prefix", "command", "left_alone"),
    [
        ((), "{}", False),
        (("unshare", "--net"), "{}", True),
        (ELSEWHERE, "unshare --net {}", True),
        ((*ELSEWHERE, "--net"), "{}", False),
        (("unshare", "--net", "--mount"), "mount --bind $own $path; {}", False),
        (("unshare", "--net", "--mount"), "mount -t tmpfs none $dir; cp $own $path; {}", False),
    ],
    ids=["the machine", "a network", "a network in a container", "a container", "ip netns exec", "its own directory"],
)
def test_a_file_that_serves_another_network_is_left_alone(
    tmp_path: Path, prefix: Sequence[str], command: str, left_alone: bool
) -> None:
    """O10, O19: what serves everybody else is not ours; a container's own file is, and so is one of /etc/netns."""
    directory = tmp_path / "etc"
    directory.mkdir()
    path, own = directory / "resolv.conf", tmp_path / "own"
    for file in (path, own):
        file.write_text("nameserver 192.0.2.53\n")
    python = shlex.join([sys.executable, "-c", SHARED, str(directory), str(path)])
    names = {"own": str(own), "path": str(path), "dir": str(directory)}
    done = subprocess.run(
        [*prefix, "sh", "-ec", command.format(python) + "; true"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **names},
        timeout=60,
    )
    prepared, _, warning = done.stdout.partition("\n")[0].partition(" ")
    assert prepared == str(not left_alone), done.stdout + done.stderr
    assert ("serves another network namespace" in warning) == left_alone
    assert path.read_text() == own.read_text() == "nameserver 192.0.2.53\n"
    assert [each.name for each in directory.iterdir()] == ["resolv.conf"]


def test_files_mounted_over_one_another_do_not_share_a_journal(tmp_path: Path) -> None:
    """O19: `ip netns exec` mounts the file of each namespace over the machine's, in one directory."""
    path = tmp_path / "resolv.conf"
    journals = set()
    for number in range(2):
        own = tmp_path / f"own{number}"
        for file in (path, own):
            file.write_text("nameserver 192.0.2.53\n")
        python = shlex.join([sys.executable, "-c", SHARED, str(tmp_path), str(path)])
        command = ["unshare", "--net", "--mount", "sh", "-ec", f"mount --bind {own} {path}; {python}"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()[1]
        journals.add(shown)
    assert len(journals) == 2
