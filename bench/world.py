"""Two machines with one cable, and what is measured between them.

The machines are those of the lab (`tests/lab`), network namespaces with processes in them; the cable is a plain veth
pair that carries segmented bursts, as a network card with offloads would take them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.client import Cpu
from lab.machines import LabError, Machine, addresses, host_run, make_directory, wait_for

GATEWAY, CLIENT = "10.1.0.1", "10.1.0.2"
INSIDE = "10.99.0.1"


SETTLED = 32.0  # seconds after the last packet, when nothing is looked after any more


Figures = dict[str, float]


class World:
    """The machines `gateway` and `client`; close it to remove everything."""

    def __init__(self) -> None:
        self.directory = make_directory("bn")
        self.gateway = Machine(f"bn{os.getpid()}-gw", self.directory)
        self.client = Machine(f"bn{os.getpid()}-cl", self.directory)
        end = ("name", "up0", "netns", self.gateway.name)
        host_run("ip", "link", "add", *end, "type", "veth", "peer", "name", "up0", "netns", self.client.name)
        for machine, address in ((self.gateway, GATEWAY), (self.client, CLIENT)):
            machine.ip("link", "set", "lo", "up")
            machine.ip("link", "set", "up0", "up")
            addresses(machine, "up0", f"{address}/24")
        addresses(self.gateway, "lo", f"{INSIDE}/32", "fd99::1/128")
        self.client.ip("route", "add", "default", "via", GATEWAY)
        self.gateway.sysctl("net.ipv4.ip_forward", 1)

    def close(self) -> None:
        """Kill and remove everything."""
        self.gateway.close()
        self.client.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@dataclass
class Tunnel:
    """A tunnel that is up: the address to talk to, and the processes of both ends (0: none)."""

    target: str
    client_pid: int
    gateway_pid: int
    connect_seconds: float | None = None
    status: Callable[[], dict[str, Any] | None] = lambda: None
    detach_seconds: float | None = None


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()) if pid else None
    return int(found[1]) / 1024 if found else 0.0


def processes(pid: int) -> list[int]:
    """A process and everything it started that still runs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(process for child in children for process in processes(int(child)))]


def pss_mib(pid: int) -> float:
    """Memory of a process and its children, each page that several share counted once."""
    rollups = [Path(f"/proc/{process}/smaps_rollup").read_text() for process in processes(pid)]
    return sum(int(kib) for rollup in rollups for kib in re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)) / 1024


def wakeups(pid: int) -> int:
    """How often a process and its children have slept until now, in all their threads."""
    tasks = [task for process in processes(pid) for task in Path(f"/proc/{process}/task").iterdir()]
    return sum(
        int(count) for task in tasks for count in re.findall(r"\nvoluntary.*\t(\d+)", (task / "status").read_text())
    )


class Meter:
    """Measures one tunnel with iperf3 and ping."""

    def __init__(self, world: World, tunnel: Tunnel) -> None:
        self._world = world
        self._tunnel = tunnel
        self._server = world.gateway.start("iperf3", "-s")
        wait_for(self._reachable, timeout=15, what="the tunnel to answer a ping", interval=0.05)

    def close(self) -> None:
        """End the server."""
        self._server.kill()
        self._server.wait()

    def _reachable(self) -> bool:
        return self._world.client.run("ping", "-c1", "-W1", self._tunnel.target, check=False).returncode == 0

    def iperf(self, seconds: float, *options: str) -> dict[str, float]:
        """One run: Mbit/s that arrived, segments sent again, and CPU seconds per GB at both ends, and in the kernel."""
        before = self._used()
        command = ("iperf3", "-J", "-c", self._tunnel.target, "-t", str(seconds), *options)
        for _ in range(5):
            done = self._world.client.run(*command, check=False, timeout=seconds + 30)
            result: dict[str, Any] = json.loads(done.stdout or "{}")
            if "error" not in result and result.get("end"):
                break
            time.sleep(0.5)
            before = self._used()
        else:
            raise LabError(f"iperf3 failed: {done.stdout[-500:]}")
        end = result["end"]
        total = end.get("sum_received") or end["sum"]
        back = end.get("sum_received_bidir_reverse", {"bytes": 0, "bits_per_second": 0.0})
        gigabytes = (total["bytes"] + back["bytes"]) / 1e9
        figures = {"mbit_s": (total["bits_per_second"] + back["bits_per_second"]) / 1e6}
        if "-u" in options:
            # The receiver's share of what was sent; older servers report it as loss only.
            delivered = 1 - end["sum"].get("lost_percent", 0.0) / 100
            sent = end["sum"]["bytes"] if "sum_received" not in end else total["bytes"]
            figures = {"mbit_s": sent * 8 / 1e6 / seconds * (delivered if "sum_received" not in end else 1)}
            gigabytes = figures["mbit_s"] * seconds / 8e3
        elif "retransmits" in end["sum_sent"]:
            figures["resent_per_gb"] = end["sum_sent"]["retransmits"] / gigabytes
        return figures | (self._costs(before, gigabytes) if gigabytes else {})

    def small_packets(self, seconds: float) -> float:
        """Thousands of IPv4 packets of 64 bytes a second that arrived, of one UDP flow."""
        return self.iperf(seconds, "-u", "-b", "0", "-l", "36")["mbit_s"] * 1e3 / 8 / 36

    def wakeups(self, seconds: float) -> float:
        """How often a minute the client wakes up while nothing happens."""
        time.sleep(SETTLED)
        before = wakeups(self._tunnel.client_pid)
        time.sleep(seconds)
        return (wakeups(self._tunnel.client_pid) - before) * 60 / seconds

    def _used(self) -> tuple[Cpu, Cpu]:
        return Cpu.of(self._tunnel.client_pid), Cpu.of(self._tunnel.gateway_pid)

    def _costs(self, before: tuple[Cpu, Cpu], gigabytes: float) -> dict[str, float]:
        figures = {}
        for name, start, end in zip(("client", "gateway"), before, self._used(), strict=True):
            figures[f"{name}_cpu_s_per_gb"] = (end.total - start.total) / gigabytes
            figures[f"{name}_kernel_s_per_gb"] = (end.kernel - start.kernel) / gigabytes
        return figures

    def ping(self, count: int = 100, interval: float = 0.02) -> float:
        """The median round trip in milliseconds."""
        output = self._world.client.run("ping", "-c", str(count), "-i", str(interval), self._tunnel.target).stdout
        return statistics.median(float(time) for time in re.findall(r"time=([\d.]+)", output))

    def loaded_ping(self, seconds: float) -> float:
        """The median round trip in milliseconds while one TCP stream fills the tunnel."""
        load = self._world.client.start("iperf3", "-c", self._tunnel.target, "-t", str(seconds + 1))
        time.sleep(0.7)
        try:
            return self.ping(20, seconds / 25)
        finally:
            load.wait()

    def loaded(self, seconds: float, *options: str) -> dict[str, float]:
        """As `iperf`, with the median round trip of a ping that shares the tunnel as `ping_ms`."""
        count = max(int(seconds / 0.2) - 5, 3)
        command = ("ping", "-n", "-c", str(count), "-i", "0.2", "-W", "1", self._tunnel.target)
        ping = self._world.client.start(*command, stdout=subprocess.PIPE)
        figures = self.iperf(seconds, *options)
        output = ping.communicate(timeout=30)[0].decode()
        times = [float(time) for time in re.findall(r"time=([\d.]+)", output)]
        return figures | {"ping_ms": statistics.median(times or [float("inf")]), "ping_lost": count - len(times)}

    def many(self, seconds: float, pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
        """One TCP stream for each pair of (our address, theirs) at once; the sum, and what it cost at either end."""
        servers = [self._world.gateway.start("iperf3", "-s", "-p", str(5300 + n)) for n in range(len(pairs))]
        time.sleep(0.5)
        before = self._used()
        try:
            streams = []
            for n, (local, remote) in enumerate(pairs):
                command = ("iperf3", "-J", "-c", remote, "-B", local, "-p", str(5300 + n), "-t", str(seconds))
                streams.append(self._world.client.start(*command, stdout=subprocess.PIPE))
            ends = [
                json.loads(stream.communicate(timeout=seconds + 30)[0])["end"]["sum_received"] for stream in streams
            ]
        finally:
            for server in servers:
                server.kill()
                server.wait()
        gigabytes = sum(end["bytes"] for end in ends) / 1e9
        return {"mbit_s": sum(end["bits_per_second"] for end in ends) / 1e6} | self._costs(before, gigabytes)
