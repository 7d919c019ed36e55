"""What an idle tunnel costs: its processes sleep, but for keepalives and timers that are due."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from lab.client import Connection
from lab.gateway import Offer
from lab.world import Lab

pytestmark = pytest.mark.waits

WINDOW, WINDOWS = 5.0, 2
LARGEST_MIB = 38.0  # 33 with CPython 3.11; it was 48 before much was loaded on demand
SETTLING = 27.0  # seconds after the last packet in which its consequences are looked for


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(each for child in children for each in family(int(child)))]


def switches(pid: int) -> int:
    """How often a process went to sleep, which is how often it was woken up."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def quietest(connection: Connection) -> dict[str, int]:
    """The wakeups of each process in the quietest of some windows."""
    processes = family(connection.process.pid)
    names = {pid: Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() + f" {pid}" for pid in processes}
    time.sleep(SETTLING)
    counted: list[dict[str, int]] = []
    for _ in range(WINDOWS):
        before = {pid: switches(pid) for pid in processes}
        time.sleep(WINDOW)
        counted.append({names[pid]: switches(pid) - before[pid] for pid in processes})
    return min(counted, key=lambda each: sum(each.values()))


def test_an_idle_tunnel_sleeps(lab: Lab) -> None:
    """With a kill switch, for which the tunnel and its helper watch the machine as well."""
    connection = lab.connected(
        Offer(local_ts=("0.0.0.0/0", "::/0")), network={"routes": "all"}, session={"kill_switch": True}
    )
    found = quietest(connection)
    assert len(found) == 2
    assert sum(found.values()) <= 2, found


def test_a_tunnel_takes_little_memory(lab: Lab) -> None:
    """What its processes have for themselves; pages that they share count once, and those of libraries not at all."""
    connection = lab.connected()
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii") for pid in family(connection.process.pid)]
    taken = [int(rollup.partition("\nPss_Anon:")[2].split()[0]) / 1024 for rollup in rollups]
    assert sum(taken) < LARGEST_MIB, taken
