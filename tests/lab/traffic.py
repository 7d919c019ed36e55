"""Traffic that proves a tunnel: pings, files compared by their hash, and the address a server saw."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from lab import echo
from lab.machines import LabError, Machine, wait_for
from lab.network import INSIDE_IPV4


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A downloaded body: its hash, size in bytes and the seconds it took."""

    sha256: str
    size: int
    seconds: float


def ping(
    machine: Machine,
    address: str,
    *,
    count: int = 3,
    interval: float = 0.05,
    size: int = 56,
    timeout: float = 2.0,
    octet: int = 0,
    hops: int = 0,
    whole: bool = False,
) -> int:
    """Ping and return the number of answers.

    `size` is the ICMP payload in bytes, `octet` the TOS or traffic class, `hops` the TTL unless it is 0; `whole`
    forbids fragments.
    """
    wanted = {
        "address": address,
        "count": count,
        "interval": interval,
        "size": size,
        "timeout": timeout,
        "octet": octet,
        "hops": hops,
        "whole": whole,
    }
    done = machine.run(sys.executable, echo.__file__, json.dumps(wanted), timeout=count * interval + timeout + 30)
    return int(done.stdout)


class Pinger:
    """A ping every 20 ms: the longest gap between answers is the outage."""

    def __init__(self, machine: Machine) -> None:
        self._process = machine.start("ping", "-n", "-i", "0.02", "-D", INSIDE_IPV4, stdout=subprocess.PIPE)

    def longest_gap(self) -> float:
        """Stop, and return the longest time without an answer in seconds."""
        self._process.terminate()
        output, _ = self._process.communicate(timeout=10)
        lines = [line for line in output.decode().splitlines() if line.startswith("[") and "time=" in line]
        times = [float(line[1 : line.index("]")]) for line in lines]
        return max(b - a for a, b in itertools.pairwise(times))


def keep_pinging(machine: Machine, address: str = INSIDE_IPV4, *, interval: float = 0.2) -> subprocess.Popen[bytes]:
    """Send a ping every `interval` seconds until the lab closes."""
    return machine.start("ping", "-n", "-q", "-i", str(interval), address)


def carries(machine: Machine, address: str) -> None:
    """Packets flow; right after a move or a reconnection this gateway may lose some."""
    wait_for(lambda: ping(machine, address, count=1) == 1, timeout=15, what=f"an answer from {address}")


def fetch(machine: Machine, host: str, path: str = "/blob", *, timeout: float = 30.0) -> Fetched:
    """Download from the lab's HTTP server; `LabError` when curl fails."""
    started = time.monotonic()
    body = _curl(machine, host, path, "--max-time", str(timeout))
    return Fetched(sha256=hashlib.sha256(body).hexdigest(), size=len(body), seconds=time.monotonic() - started)


def upload(machine: Machine, host: str, *, size: int = 1 << 20, timeout: float = 30.0) -> bool:
    """Send random bytes to the lab's HTTP server and tell whether it received them as they were."""
    body = os.urandom(size)
    options = ("--max-time", str(timeout), "-X", "PUT", "--data-binary", "@-", "-H", "Expect:")
    answer = _curl(machine, host, "/sink", *options, body=body)
    return answer.decode() == hashlib.sha256(body).hexdigest()


def peer_address(machine: Machine, host: str, *, timeout: float = 5.0) -> str:
    """The address that a server in the gateway machine sees when this machine talks to it."""
    return _curl(machine, host, "/peer", "--max-time", str(timeout)).decode()


def reaches(machine: Machine, host: str, *, timeout: float = 1.0) -> bool:
    """Whether the lab's HTTP server answers at all at that address."""
    try:
        peer_address(machine, host, timeout=timeout)
    except LabError:
        return False
    return True


def _curl(machine: Machine, host: str, path: str, *options: str, body: bytes = b"") -> bytes:
    url = f"http://[{host}]{path}" if ":" in host else f"http://{host}{path}"
    command = machine.command("curl", "-sS", "--noproxy", "*", *options, url)
    done = subprocess.run(command, input=body, capture_output=True, check=False, timeout=120)
    if done.returncode:
        raise LabError(f"curl {url}: {done.stderr.decode().strip()}")
    return done.stdout
