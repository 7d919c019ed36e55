"""Who answers for the rules and routes that are in force here.

Rules and routes stay when their process dies, and nothing in the kernel says whose they were. So a tunnel holds a mark
for each table, inner address and port that its rules and routes are about: a Unix socket with an abstract name, which
lives in the same network namespace as they do and goes with its process, whatever way that ends. What is shaped like
ours and has no mark is a leftover, whichever directory its journal was in and whether or not there still is one.

Anybody can take such a name. So a mark counts only if its process could have made the rules: it is root's, ours, or has
CAP_NET_ADMIN. One that cannot be seen counts too, since taking away a living tunnel's rules is worse than leaving some.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from struct import Struct

from ikeclient.net.changes.steps import Route, Rule, Step, tunnel_table
from ikeclient.net.rights.drop_privileges import CAP_NET_ADMIN

_ASKERS = 128
_LISTENING = "00010000"  # flags in /proc/net/unix
_CREDENTIALS = Struct("3i")  # struct ucred: pid, uid, gid


def mark_of(step: Step) -> str | None:
    """The name of the mark that goes with a step; None for what dies with the device."""
    match step:
        case Route(table=table):
            return f"table/{tunnel_table(table)}"
        case Rule(source_port=port) if port:
            return f"port/{port}"
        case Rule(priority=0, destination=destination):
            return f"address/{destination}"
        case Rule(table=table):
            return f"table/{tunnel_table(table)}"
    return None


def table_mark(table: int) -> str:
    """The name of the mark of a tunnel's table."""
    return f"table/{table}"


class Marks:
    """The marks that this process holds. Closed with the process, or by `hold` with nothing."""

    def __init__(self) -> None:
        self._held: dict[str, socket.socket] = {}

    def take(self, name: str) -> bool:
        """Hold a mark; whether it is ours now."""
        if name not in self._held:
            mark = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                mark.bind(_address(name))
                mark.listen(_ASKERS)
            except OSError:
                mark.close()
                return False
            self._held[name] = mark
        return True

    def hold(self, steps: Iterable[Step], *others: str) -> None:
        """Hold the marks of these steps and `others`, and no more. One that another process has is left to it."""
        wanted = {name for step in steps if (name := mark_of(step))} | set(others)
        for name in wanted:
            self.take(name)
        for name in self._held.keys() - wanted:
            self._held.pop(name).close()

    def answered_for(self, step: Step) -> bool:
        """Whether a living process, this one included, holds the mark that goes with a step."""
        name = mark_of(step)
        if name is None:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as question:
            try:
                question.connect(_address(name))
            except BlockingIOError:  # nobody accepts, so this many have asked, or somebody pretends that they have
                return _may_change_networks(_holder(name))
            except OSError as error:
                return error.errno != errno.ECONNREFUSED
            credentials = question.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(credentials)
        return uid in (0, os.geteuid()) or _may_change_networks(pid)

    def __del__(self) -> None:
        for mark in self._held.values():
            mark.close()


def _holder(name: str) -> int:
    """The process that has the socket of a mark open; 0 if it is not to be seen."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/thread-self/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()
        ours = (line.split() for line in lines if line.endswith(f" @ikeclient/{name}"))
        inode = next((words[6] for words in ours if words[3] == _LISTENING), None)
        for link in Path("/proc").glob("[0-9]*/fd/*") if inode else ():
            with contextlib.suppress(OSError):
                if os.readlink(link) == f"socket:[{inode}]":
                    return int(link.parts[2])
    return 0


def _may_change_networks(pid: int) -> bool:
    if not pid:
        return True  # in another PID namespace
    with contextlib.suppress(OSError):
        if os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"):
            return False
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> CAP_NET_ADMIN & 1)


def _address(name: str) -> str:
    return f"\0ikeclient/{name}"
