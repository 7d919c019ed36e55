"""The same download by three ways through the same gateway: `connect`, directly in the namespace (`exec`), and `proxy`.

The gateway is strongSwan, in userspace, and slow: so besides the rates the processor time of our own processes counts.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

from lab import proxy_peers
from lab.client import Client, Cpu
from lab.gateway import Gateway
from lab.machines import LabError
from lab.person import Person
from lab.world import Lab

from bench.peers import strongswan_gateway
from bench.world import INSIDE, World

PORT = 9000
Figures = dict[str, float]


def compare(world: World, megabytes: int) -> dict[str, Figures]:
    """Mbit/s and processor seconds per GB of the tunnel and of the proxy, for each way."""
    proxy_peers.start_peers(world.gateway, PORT)
    ways: dict[str, Callable[[World, Gateway, int], Figures]] = {"connect": _connect, "exec": _exec, "proxy": _proxy}
    found: dict[str, Figures] = {}
    for name, measure in ways.items():
        with strongswan_gateway(world) as gateway:
            found[name] = measure(world, gateway, megabytes)
            print(f"{name}: {found[name]['mbit_s']:.0f} Mbit/s", file=sys.stderr, flush=True)
    return found


def _connect(world: World, gateway: Gateway, megabytes: int) -> Figures:
    directory = world.directory / f"pc{time.monotonic_ns()}"
    directory.mkdir()
    client = Client(world.client, directory)
    client.write_profile(gateway)
    connection = client.connect()
    try:
        return _measured(world, megabytes, {"tunnel": connection.process.pid}, _bulk(0, megabytes))
    finally:
        connection.terminate()


def _exec(world: World, gateway: Gateway, megabytes: int) -> Figures:
    person = _person(world, gateway)
    holder = person.start("exec", "work", "--", "cat", stdin=subprocess.PIPE)
    try:
        pid = person.wait_state("connected")["pid"]
        inside = person.command("exec", "work", "--", *_bulk(0, megabytes))
        return _measured(world, megabytes, {"tunnel": pid}, inside, person.environment)
    finally:
        holder.communicate(timeout=30)


def _proxy(world: World, gateway: Gateway, megabytes: int) -> Figures:
    person = _person(world, gateway)
    with _a_proxy(person) as (port, pids):
        return _measured(world, megabytes, pids, _bulk(port, megabytes))


@contextmanager
def _a_proxy(person: Person) -> Iterator[tuple[int, dict[str, int]]]:
    process = person.start("proxy", "work", "--log-format", "json", "--socks", "0")
    assert process.stderr is not None
    try:
        for line in process.stderr:
            event: dict[str, Any] = json.loads(line) if line.startswith(b"{") else {}
            if event.get("event") == "listening":
                break
        else:
            raise LabError("the proxy did not start")
        tunnel = person.wait_state("connected")["pid"]
        port = int(event["listeners"][0].rpartition(":")[2])
        owners = re.findall(r"pid=(\d+)", person.machine.run("ss", "-Hltnp", f"sport = :{port}").stdout)
        serving = next(int(pid) for pid in owners if int(pid) != process.pid)  # its child; it holds a copy itself
        yield port, {"tunnel": tunnel, "proxy": serving}
    finally:
        process.terminate()
        process.wait(30)


def _person(world: World, gateway: Gateway) -> Person:
    directory = world.directory / f"pp{time.monotonic_ns()}"
    directory.mkdir()
    client = Client(world.client, directory)
    parts = SimpleNamespace(network=SimpleNamespace(client=world.client), client=client, gateway=gateway)
    return Person(cast("Lab", parts))


def _bulk(proxy: int, megabytes: int) -> tuple[str, ...]:
    return (sys.executable, proxy_peers.__file__, "bulk", str(proxy), INSIDE, str(PORT + 1), str(megabytes))


def _measured(
    world: World,
    megabytes: int,
    pids: dict[str, int],
    command: tuple[str, ...],
    environment: dict[str, str] | None = None,
) -> Figures:
    before = {name: Cpu.of(pid).total for name, pid in pids.items()}
    rate, digest = world.client.run(*command, timeout=600, env=environment).stdout.split()
    if digest != proxy_peers.bulk_hash(megabytes):
        raise LabError("the download is damaged")
    gigabytes = megabytes * proxy_peers.MEGABYTE / 1e9
    used = {f"{name}_cpu_s_per_gb": (Cpu.of(pid).total - before[name]) / gigabytes for name, pid in pids.items()}
    return {"mbit_s": float(rate), **used}
