"""`ikeclient` with everything below the command line replaced by a script of events: no root, no network, no gateway.

    python cli_fake_tunnel.py MODE ARGUMENTS...

runs the command line with ARGUMENTS; the tunnel it would start behaves as MODE says. The control socket is the real
one, so that all other commands can be tried against it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli_example import example

from ikeclient.control.server import ControlServer, Orders
from ikeclient.errors import AuthenticationFailed, Interrupted

CANARY = "S3cr3t-CANARY"
Listener = Callable[[dict[str, object]], None]
NOTICE = "DNS is left alone: nothing that could be told of the name server 10.99.0.53 for corp.example runs here"
BUSY: dict[str, Any] = {
    "warnings": [NOTICE],
    "roams": 2,
    "routes": ["10.99.0.0/24", "10.99.1.0/24", "fd99::/64"],
    "drops": {**example()["drops"], "unrouted": 7},
}
STEPS: tuple[dict[str, object], ...] = (
    {"event": "resolving", "host": "vpn.example.com"},
    {"event": "negotiating", "gateway": "203.0.113.7"},
    {"event": "authenticating", "gateway": "203.0.113.7"},
)
CONNECTED: dict[str, object] = {
    "event": "connected",
    "elapsed_ms": 412,
    "interface": "ike0",
    "addresses": ["10.88.0.1/32"],
    "gateway": {"address": "203.0.113.7", "port": 4500, "identity": "vpn.example.com"},
}


@dataclass(frozen=True, kw_only=True)
class ConnectOptions:
    name: str
    timeout: float
    keylog: Path | None
    runtime_directory: Path
    verbosity: int = 0
    reread: Callable[[], Any] | None = None
    ask: Callable[[str], Any] | None = None
    metrics: tuple[str, int] | None = None
    retry_first: bool = False


def run(profile: Any, options: ConnectOptions, on_event: Listener, *_: object) -> None:
    """Do what the mode says: every mode negotiates, then connects, fails, breaks, dies or waits."""
    asyncio.run(_run(options, on_event, sys.modules[__name__].MODE))


async def _run(options: ConnectOptions, on_event: Listener, mode: str) -> None:
    def tell(event: dict[str, object]) -> None:
        event = {**event, "time": "2026-11-23T08:00:00Z", "tunnel": options.name}
        on_event(event)
        server.publish(event)

    stop = asyncio.Event()
    interrupted: list[bool] = []
    status = example(name=options.name, pid=os.getpid(), state="connecting")
    again = lambda: tell({"event": "reconnecting", "error": ["asked to"]})  # noqa: E731
    server = ControlServer(
        options.name,
        options.runtime_directory,
        status=lambda: {**status, "listeners": len(server._subscribers)},
        orders=Orders(disconnect=stop.set, reconnect=again, suspend=again, resume=again),
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: (interrupted.append(True), stop.set()))
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    for step in STEPS:
        tell(step)
    await asyncio.sleep(0.05)
    if mode.startswith("noisy"):
        await asyncio.sleep(1.0)
        for number in range(12_000):
            tell({"event": "notice", "text": f"line {number} " + "x" * 100})
    if mode == "noticing":
        for _ in range(3):
            tell({"event": "notice", "text": NOTICE})
    if mode in {"refused", "noisy-refused"}:
        raise AuthenticationFailed("the gateway refused us", reason="AUTHENTICATION_FAILED", hint="check the password")
    if mode == "bug":
        raise ValueError(f"something with {CANARY}")
    if mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "busy":
        status.update(BUSY)
        status["children"][0].update(bytes_in=1_300_000, packets_in=1_200, replays=3)
    if mode != "waiting":
        status["state"] = "connected"
        tell(CONNECTED)
    if mode == "late-bug":
        await asyncio.sleep(0.3)
        raise ValueError(f"something with {CANARY}")
    await stop.wait()
    tell({"event": "disconnected"})
    await server.close()
    if interrupted:
        raise Interrupted("interrupted")


def plan(profile: Any, options: ConnectOptions, on_event: Listener) -> list[str]:
    """A plan of two lines."""
    on_event(STEPS[0])
    return ["ip address add 10.88.0.1/32 dev ike0", "ip rule add not fwmark 1 table 7000"]


def install(mode: str) -> None:
    """Put this module where the supervisor would be."""
    fake = types.ModuleType("ikeclient.process.run")
    fake.__dict__.update(run=run, plan=plan, ConnectOptions=ConnectOptions)
    sys.modules["ikeclient.process.run"] = fake
    sys.modules[__name__].MODE = mode  # type: ignore[attr-defined]


if __name__ == "__main__":
    install(sys.argv[1])
    from ikeclient.cli.app import main

    code = main(sys.argv[2:])
    sys.exit(code)
