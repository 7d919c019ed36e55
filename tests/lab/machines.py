"""Machines made of namespaces.

A `Machine` is a named network namespace plus a mount namespace with its own /run and /etc, so that charon,
ikeclient and their commands find a computer of their own: their pid files, control sockets and resolv.conf never
meet the host's. A process called the holder (`sleep`) keeps the mount namespace alive; everything else enters
through it.

Nothing may survive a test run. `close` kills whatever still runs in the namespace, every process is tied to our
life by the parent-death signal, an exit handler closes what a test forgot, and `sweep` removes what a killed run
left behind.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")

_SETUP = """
mount -t tmpfs -o mode=755 lab /run
mount -t tmpfs -o mode=755 lab "$1"
cp -a /etc/. "$1"
mount --move "$1" /etc
rm -f /etc/resolv.conf
printf 'nameserver 203.0.113.53\\n' > /etc/resolv.conf
printf '127.0.0.1 localhost\\n::1 localhost\\n' > /etc/hosts
for family in default all; do
  echo 0 > /proc/sys/net/ipv6/conf/$family/accept_dad
  echo 0 > /proc/sys/net/ipv6/conf/$family/accept_ra
  echo 0 > /proc/sys/net/ipv4/conf/$family/rp_filter
done
ip link set lo up
echo ready
exec sleep infinity
"""
_FOLDER = "ikeclient-lab-"
_TIED = ("setpriv", "--pdeathsig", "KILL")
_open: dict[str, Machine] = {}


class LabError(RuntimeError):
    """The lab itself did not do what it was asked; never the verdict of a test."""


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that they have: other labs run on the same machine."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with suppress(OSError):  # it is gone
                children = [int(child) for child in task.read_text().split()]
                found.update(children)
                waiting += children
    return found


def wait_for(probe: Callable[[], T | None], *, timeout: float, what: str, interval: float = 0.02) -> T:
    """Call `probe` until it returns something true, and return that; `LabError` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout} s in vain for {what}")
        time.sleep(interval)
    return found


def host_run(*argv: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command of the lab's own outside every machine; `LabError` when it fails and `check` is set."""
    done = subprocess.run(argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout)
    if check and done.returncode:
        said = f"{done.stdout[-1000:]}{done.stderr[-1000:]}".strip()
        raise LabError(f"{' '.join(argv)[:500]}: exit {done.returncode}: {said}")
    return done


def stat_fields(pid: int) -> list[str]:
    """What /proc/PID/stat says of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def make_directory(prefix: str) -> Path:
    """A short-named directory (socket paths end at 107 bytes) that `sweep` recognises as ours."""
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{prefix}{os.getpid()}-", dir="/tmp"))


class Rules:
    """A table of nftables rules put into a machine's way."""

    def __init__(self, machine: Machine, table: str) -> None:
        self._machine = machine
        self.table = table

    def hits(self) -> int:
        """How many packets met the rules of this table so far."""
        listing = json.loads(self._machine.run("nft", "-j", "list", "table", "inet", self.table).stdout)
        rules = (item["rule"]["expr"] for item in listing["nftables"] if "rule" in item)
        return sum(part["counter"]["packets"] for expression in rules for part in expression if "counter" in part)

    def remove(self) -> None:
        """Let the packets pass again."""
        self._machine.run("nft", "delete", "table", "inet", self.table)


class Machine:
    """One computer of the lab, called `name` as a network namespace; its mount point is made below `directory`."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self._children: list[subprocess.Popen[Any]] = []
        self._tables = itertools.count(1)
        mount_point = directory / f"etc-{name}"
        mount_point.mkdir()
        host_run("ip", "netns", "add", name)
        _open[name] = self
        setup = ("ip", "netns", "exec", name, "sh", "-ec", _SETUP, "machine", str(mount_point))
        self._holder = subprocess.Popen([*_TIED, *setup], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self.close()
            raise LabError(f"machine {name} did not come up")

    def command(self, *argv: str, cwd: str | Path = "/") -> list[str]:
        """`argv` as a command line for the host that runs it in this machine; the process keeps its process id."""
        return [*_TIED, "nsenter", "-t", str(self._holder.pid), "-m", "-n", f"--wdns={cwd}", "--", *argv]

    def run(
        self,
        *argv: str,
        check: bool = True,
        timeout: float = 30.0,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in this machine to its end; `LabError` with its output when it fails and `check` is set."""
        command = self.command(*argv)
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, input=stdin, env=env, timeout=timeout
        )
        if check and done.returncode:
            raise LabError(f"{self.name}: {' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}{done.stdout}")
        return done

    def start(
        self,
        *argv: str,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.DEVNULL,
        stderr: int | IO[Any] = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command in this machine; it is killed when the machine closes."""
        child = subprocess.Popen(self.command(*argv), stdin=stdin, stdout=stdout, stderr=stderr, env=env)
        self._children.append(child)
        return child

    def ip(self, *arguments: str) -> None:
        """Run `ip` with `arguments` on this machine's network, without the cost of entering it."""
        host_run("ip", "-n", self.name, *arguments)

    def read_file(self, path: str) -> str:
        """A file as this machine sees it."""
        return self.run("cat", path).stdout

    def write_file(self, path: str, text: str) -> None:
        """Put a file into this machine; only /etc and /run are its own, the rest is the host's."""
        self.run("tee", path, stdin=text)

    def sysctl(self, key: str, value: int) -> None:
        """Set a network sysctl, for example `net.ipv4.ip_forward`."""
        self.run("sysctl", "-qw", f"{key}={value}")

    def set_link(self, interface: str, *, up: bool | None = None, mtu: int | None = None) -> None:
        """Pull or plug a cable, or set its MTU."""
        if mtu is not None:
            self.ip("link", "set", interface, "mtu", str(mtu))
        if up is not None:
            self.ip("link", "set", interface, "up" if up else "down")

    def hide(self, path: str) -> None:
        """Cover a directory, such as /dev/net, by an empty one in this machine alone."""
        self.run("mount", "-t", "tmpfs", "lab", path)

    def add_rules(self, hook: str, *rules: str, priority: int = 0) -> Rules:
        """Install nftables rules of a filter chain on `hook`; write `counter` into a rule to see its `hits`."""
        table = f"lab{next(self._tables)}"
        body = "\n".join(rules)
        header = f"type filter hook {hook} priority {priority}"
        self.run("nft", "-f", "-", stdin=f"table inet {table} {{\nchain rules {{\n{header}\n{body}\n}}\n}}\n")
        return Rules(self, table)

    def drop_fragments(self) -> Rules:
        """Drop IP fragments that arrive, before the kernel can put them together (conntrack does at -400)."""
        return self.add_rules(
            "prerouting", "ip frag-off & 0x3fff != 0 counter drop", "exthdr frag exists counter drop", priority=-500
        )

    def block_udp_port(self, port: int) -> Rules:
        """Silence one UDP port: what arrives for it and what is sent to it disappears."""
        table = self.add_rules("input", f"udp dport {port} counter drop")
        outgoing = f"type filter hook output priority 0\nudp dport {port} counter drop"
        self.run("nft", "-f", "-", stdin=f"table inet {table.table} {{\nchain outgoing {{\n{outgoing}\n}}\n}}\n")
        return table

    def close(self) -> None:
        """Kill everything that runs here and remove the machine. Harmless the second time."""
        if _open.pop(self.name, None) is None:
            return
        _remove_namespace(self.name)
        for child in [*self._children, self._holder]:
            with suppress(ProcessLookupError):
                child.kill()
            child.wait(timeout=10)
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()


def plug(left: Machine, left_interface: str, right: Machine, right_interface: str, *, mtu: int = 1500) -> None:
    """Lay a cable between two machines and switch it on at both ends."""
    # Without segmentation on the cable, captures show datagrams as a real network would carry them.
    size = ("mtu", str(mtu), "gso_max_segs", "1")
    end, peer = (
        ("name", left_interface, *size, "netns", left.name),
        ("name", right_interface, *size, "netns", right.name),
    )
    host_run("ip", "link", "add", *end, "type", "veth", "peer", *peer)
    left.set_link(left_interface, up=True)
    right.set_link(right_interface, up=True)


def addresses(machine: Machine, interface: str, *prefixes: str) -> None:
    """Give an interface its addresses, usable at once (no duplicate address detection)."""
    for prefix in prefixes:
        machine.ip("address", "add", prefix, "dev", interface, *(("nodad",) if ":" in prefix else ()))


def _remove_namespace(name: str) -> None:
    """Kill the processes of a namespace of ours, also those that forked meanwhile, then delete it."""

    def empty() -> bool:
        pids = host_run("ip", "netns", "pids", name, check=False).stdout.split()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        return not pids

    wait_for(empty, timeout=10, what=f"the processes of {name} to die")
    host_run("ip", "netns", "delete", name, check=False)


def sweep(prefix: str) -> None:
    """Remove namespaces and directories of runs with this prefix that were killed before they could clean up."""
    for path in Path("/run/netns").glob(f"{prefix}*"):
        if _ownerless(rf"{prefix}(\d+)-\d+[a-z]+", path.name):
            _remove_namespace(path.name)
    for path in Path("/tmp").glob(f"{_FOLDER}{prefix}*"):
        if _ownerless(rf"{_FOLDER}{prefix}(\d+)-\w+", path.name):
            shutil.rmtree(path, ignore_errors=True)


def _ownerless(pattern: str, name: str) -> bool:
    owner = re.fullmatch(pattern, name)
    return owner is not None and not Path(f"/proc/{owner[1]}").exists()


@atexit.register
def _close_all() -> None:
    for machine in list(_open.values()):
        machine.close()
