"""The in-process stack beside the kernel's TCP over a device, both through our engine at both ends: `--stack`.

Two clients take turns: `stack`, where the tunnel ends in the process that uses it, and `device`, where it ends in a TUN
device and a program of the kernel's sockets uses it. The far end is the same for both, a device with a program behind
it. Every kernel end uses CUBIC, as the stack does. A row that fails is left out, with its reason; what is left goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lab.client import Cpu
from lab.machines import LabError, Machine, addresses, wait_for

from bench.targets import Target
from bench.world import CLIENT, GATEWAY, Figures, World, resident_mib

REPOSITORY = Path(__file__).resolve().parent.parent
BETWEEN = "10.1.0.3"  # where the path stands
FAR, NEAR = "10.98.0.1", "10.98.0.2"
RATE = 200e6  # bit/s, of every path
MANY, IDLE, AT_ONCE = 64, 1000, 32
FLOWS_WITH_FAULTS = 4  # so that more losses are met in the same time
_SETTLING = 0.6  # seconds
_PATIENCE = 30.0

# Faults and delay of one direction; both have the same.
PATHS: dict[str, dict[str, float]] = {
    "delay_50": {"delay": 0.025},
    "delay_100": {"delay": 0.05},
    "loss_0.1": {"delay": 0.01, "loss": 0.001},
    "loss_1": {"delay": 0.01, "loss": 0.01},
    "reorder_1": {"delay": 0.01, "reorder": 0.01},
}
WAYS = ("up", "down")
_PATH_WORDS = {
    "delay_50": "50 ms round trip",
    "delay_100": "100 ms round trip",
    "loss_0.1": "20 ms, 0.1 % loss",
    "loss_1": "20 ms, 1 % loss",
    "reorder_1": "20 ms, 1 % reordered",
}
NOTES = (
    "`stack`: the client has no device. `device`: it has one, as with `connect`, and the kernel's TCP uses it. Our "
    "engine with static keys is at both ends of both, AES-128-GCM, and every end in the kernel uses CUBIC.",
    f"Paths with a delay are a program between the two ends that passes {RATE / 1e6:.0f} Mbit/s at the most, for both "
    "alike and with the same seeds, which is well below what it could; loss, reordering and delay hold in each "
    f"direction, and {FLOWS_WITH_FAULTS} flows share a path with faults. What is reordered overtakes by half of the "
    "round trip.",
    "CPU is that of the client's process, which has the stack and its user in it. `all` adds the program that uses the "
    "kernel's TCP.",
    "The proxy is the shipped one; in a namespace it is a process beside the tunnel's.",
    "wireproxy is not measured: neither apt nor pip nor npm has a binary of it.",
)

TARGETS: tuple[Target, ...] = (
    *((f"one TCP stream {way} / `connect`", "stack", "device", f"one_{way}", ">=", 0.8) for way in WAYS),
    *((f"client CPU per GB {way} / `connect`", "stack", "device", f"one_{way}_cpu", "<=", 1.3) for way in WAYS),
    *(
        (
            f"{_PATH_WORDS[path]}, {way} / `connect`",
            "stack",
            "device",
            f"{path}_{way}",
            ">=",
            0.9 if "delay" in path else 0.8,
        )
        for path in PATHS
        for way in WAYS
    ),
    *((f"{MANY} flows / one flow, {way}", "stack", "stack", f"many_{way}/one_{way}", ">=", 0.8) for way in WAYS),
    *((f"`proxy` {way} / in a namespace", "stack", "device", f"proxy_{way}", ">=", 1.0) for way in WAYS),
    (f"MiB for {IDLE} idle connections", "stack", "", "idle_mib", "<=", 8.0),
    ("connections opened a second", "stack", "", "per_second", ">=", 1000.0),
    *(
        (
            f"CPU per GB {way} / `connect` and its program",
            "stack",
            "device",
            f"one_{way}_cpu/one_{way}_all_cpu",
            "",
            None,
        )
        for way in WAYS
    ),
    *((f"`proxy`, CPU per GB {way} / in a namespace", "stack", "device", f"proxy_{way}_cpu", "", None) for way in WAYS),
)


class Told:
    """A program that does what lines of JSON tell it, and answers each by one."""

    def __init__(self, machine: Machine, *command: str, log: Path) -> None:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(REPOSITORY)}
        pipe = subprocess.PIPE
        with log.open("ab") as errors:
            self.process = machine.start(*command, stdin=pipe, stdout=pipe, stderr=errors, env=environment)
        self._log = log
        self._pending = b""

    def line(self, timeout: float = _PATIENCE) -> str:
        """The next line of its answer."""
        assert self.process.stdout is not None
        end = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                left = end - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise LabError(f"no answer within {timeout:.0f} s")
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    raise LabError(f"it ended: {self._log.read_text()[-300:].strip()}")
                self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def ask(self, *words: object, timeout: float = _PATIENCE) -> dict[str, Any]:
        """Tell it something that is a list; what it answers."""
        return self._tell(list(words), timeout)

    def configure(self, settings: dict[str, float]) -> dict[str, Any]:
        """Tell it something that is an object; what it answers."""
        return self._tell(settings, _PATIENCE)

    def _tell(self, message: object, timeout: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise LabError(f"it ended: {self._log.read_text()[-300:].strip()}") from None
        answer: dict[str, Any] = json.loads(self.line(timeout))
        if "error" in answer:
            raise LabError(answer["error"])
        return answer

    def cpu(self) -> float:
        """Seconds that it has used."""
        return Cpu.of(self.process.pid).total

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@dataclass(kw_only=True)
class Ends:
    """A tunnel with its users: `near` opens what `far` serves. The client consists of `tunnel` and `others`."""

    near: Told
    far: Told
    tunnel: Told
    others: list[Told] = field(default_factory=list)
    path: Told | None = None
    proxy: int = 0


@contextmanager
def ends(world: World, *, stack: bool, path: bool = False, proxy: bool = False) -> Iterator[Ends]:
    """Both engines, and a program at either end; with a `path` between them, or a `proxy` before the near end."""
    with ExitStack() as rest:
        number = time.monotonic_ns()

        def start(machine: Machine, name: str, *words: str) -> Told:
            log = world.directory / f"{name}-{number}"
            told = Told(machine, sys.executable, str(REPOSITORY / "bench" / f"{name}.py"), *words, log=log)
            rest.callback(told.close)
            return told

        between = start(world.gateway, "path", BETWEEN, GATEWAY, CLIENT) if path else None
        there, here = (BETWEEN, BETWEEN) if path else (GATEWAY, CLIENT)
        networks = f"{FAR}/32", f"{NEAR}/32"
        cubic = "--congestion", "cubic"
        gateway = start(world.gateway, "engine", "bnt0", GATEWAY, here, *networks, "a", *cubic)
        mode = ("--stack",) if stack else cubic
        tunnel = start(world.client, "engine", "bnt0", CLIENT, there, *reversed(networks), "b", *mode)
        for engine in (gateway, tunnel):
            if not engine.line().startswith("ready"):
                raise LabError("an engine did not start")
        far = start(world.gateway, "traffic")
        far.ask("listen")
        port, others = 0, []
        if proxy and stack:
            port = tunnel.ask("proxy")["port"]
        elif proxy:
            others.append(start(world.client, "socks"))
            port = json.loads(others[0].line())["port"]
        near = tunnel if stack and not proxy else start(world.client, "traffic")
        yield Ends(near=near, far=far, tunnel=tunnel, others=others, path=between, proxy=port)


class Stand:
    """Ends that are made when somebody wants them, and made again after a failure."""

    def __init__(self, world: World, **options: bool) -> None:
        self._make = partial(ends, world, **options)
        self._open = ExitStack()
        self._ends: Ends | None = None

    def get(self) -> Ends:
        """The ends."""
        if self._ends is None:
            self._ends = self._open.enter_context(self._make())
        return self._ends

    def close(self) -> None:
        """End them."""
        self._ends = None
        self._open.close()


def carry(ends: Ends, way: str, flows: int, seconds: float, settling: float = _SETTLING) -> Figures:
    """As much as goes, one way: Mbit/s that arrived, and CPU seconds per GB of the client, and with its program."""
    counter = ends.far if way == "up" else ends.near
    client = [ends.tunnel, *ends.others]
    everybody = client if ends.near is ends.tunnel else [*client, ends.near]
    ends.near.ask("open", way, FAR, flows, ends.proxy)
    try:
        time.sleep(settling)
        before, used = counter.ask("count"), {told: told.cpu() for told in everybody}
        busy = ends.path.cpu() if ends.path is not None else 0.0
        time.sleep(seconds)
        after = counter.ask("count")
        costs = {told: told.cpu() - used[told] for told in everybody}
        if ends.path is not None:
            busy = (ends.path.cpu() - busy) / seconds
    finally:
        ends.near.ask("stop")
        ends.far.ask("stop")
    size = after["bytes"] - before["bytes"]
    if size <= 0:
        raise LabError("nothing arrived")
    figures = {"": size * 8e-6 / (after["at"] - before["at"])}
    figures["_cpu"] = sum(costs[told] for told in client) * 1e9 / size
    figures["_all_cpu"] = sum(costs.values()) * 1e9 / size
    if ends.path is not None:
        figures["_path_busy"] = busy
    return figures


def over(ends: Ends, name: str, way: str, seconds: float, seed: int) -> Figures:
    """The same over a path, from the first byte on."""
    assert ends.path is not None
    ends.path.configure({"rate": RATE, "seed": seed, **PATHS[name]})
    flows = 1 if name.startswith("delay") else FLOWS_WITH_FAULTS
    return carry(ends, way, flows, seconds, 0.0)


def idle(ends: Ends) -> Figures:
    """What connections take that do nothing."""
    ends.near.ask("idle", FAR, 20)
    ends.near.ask("stop")
    before = resident_mib(ends.tunnel.process.pid)
    ends.near.ask("idle", FAR, IDLE, timeout=60)
    time.sleep(1.0)
    after = resident_mib(ends.tunnel.process.pid)
    ends.near.ask("stop")
    return {"": after - before}


def rate(ends: Ends, seconds: float) -> Figures:
    """Connections opened a second."""
    return {"": ends.near.ask("rate", FAR, seconds, AT_ONCE, timeout=seconds + _PATIENCE)["per_second"]}


class Measuring:
    """One turn of one client: the figures, and for those that are missing why."""

    def __init__(self, world: World, client: str, seconds: float, number: int, wanted: Sequence[str]) -> None:
        self._world = world
        self._client = client
        self._seconds = seconds
        self._number = number
        self._wanted = wanted
        self.figures: Figures = {}
        self.failed: dict[str, str] = {}

    def run(self) -> None:
        """Everything."""
        stack, seconds = self._client == "stack", self._seconds
        with self._stand(stack=stack) as stand:
            for way in WAYS:
                self._row(stand, f"one_{way}", lambda ends, way=way: carry(ends, way, 1, seconds))
            if stack:
                for way in WAYS:
                    self._row(stand, f"many_{way}", lambda ends, way=way: carry(ends, way, MANY, seconds))
                self._row(stand, "per_second", lambda ends: rate(ends, min(seconds, 3)))
        if stack:
            with self._stand(stack=True) as stand:
                self._row(stand, "idle_mib", idle)
        with self._stand(stack=stack, proxy=True) as stand:
            for way in WAYS:
                self._row(stand, f"proxy_{way}", lambda ends, way=way: carry(ends, way, 1, seconds))
        with self._stand(stack=stack, path=True) as stand:
            for name in PATHS:
                for way in WAYS:
                    self._row(
                        stand,
                        f"{name}_{way}",
                        lambda ends, name=name, way=way: over(ends, name, way, seconds, 100 * self._number + 7),
                    )

    @contextmanager
    def _stand(self, **options: bool) -> Iterator[Stand]:
        stand = Stand(self._world, **options)
        try:
            yield stand
        finally:
            stand.close()

    def _row(self, stand: Stand, name: str, measure: Any) -> None:
        if self._wanted and not any(name.startswith(wanted) for wanted in self._wanted):
            return
        try:
            found = measure(stand.get())
        except Exception as error:  # whatever it is, the other rows are worth having
            self.failed[f"{self._client}: {name}"] = f"{type(error).__name__}: {error}"
            stand.close()
            return
        self.figures |= {f"{name}{key}": value for key, value in found.items()}


def run(options: argparse.Namespace, machine: Mapping[str, str]) -> dict[str, Any]:
    """Measure both in turn."""
    rounds: dict[str, list[Figures]] = defaultdict(list)
    failed: dict[str, str] = {}
    world = World()
    try:
        for end in (world.gateway, world.client):
            end.sysctl("net.ipv4.tcp_no_metrics_save", 1)
        addresses(world.gateway, "up0", f"{BETWEEN}/24")
        answers = ("ping", "-c1", "-W1", BETWEEN)
        wait_for(lambda: world.client.run(*answers, check=False).returncode == 0, timeout=10, what="the cable")
        wanted = options.only.split(",") if options.only else ()
        for number in range(options.rounds):
            # Who comes first changes, so that what drifts hurts both.
            for client in ("stack", "device")[:: 1 if number % 2 == 0 else -1]:
                measuring = Measuring(world, client, options.seconds, number, wanted)
                measuring.run()
                rounds[client].append(measuring.figures)
                failed |= measuring.failed
                said = ", ".join(f"{name} {measuring.figures.get(f'one_{name}', 0):.0f}" for name in WAYS)
                print(f"round {number + 1}: {client}: {said}", file=sys.stderr, flush=True)
                for name, reason in measuring.failed.items():
                    print(f"FAILED: {name}: {reason}", file=sys.stderr, flush=True)
    finally:
        world.close()
    return {
        "machine": dict(machine),
        "stack": True,
        "seconds": options.seconds,
        "rounds": dict(rounds),
        "failed": failed,
    }
