"""What a service manager hears of a tunnel's events."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ikeclient.process.service_notify import Reporter
from ikeclient.process.service_socket import Service


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def service(tmp_path: Path, **variables: str) -> Service:
    return Service({"NOTIFY_SOCKET": str(tmp_path / "notify"), **variables})


def test_a_tunnel_is_ready_once_and_says_how_it_is(tmp_path: Path, manager: Manager) -> None:
    reporter = Reporter(service(tmp_path))
    connected = {"event": "connected", "interface": "ike0", "gateway": {"address": "203.0.113.7"}}
    for event in (
        {"event": "resolving", "host": "vpn.example.com"},
        {"event": "negotiating", "gateway": "203.0.113.7"},
        connected,
        {"event": "rekeyed", "what": "child"},
        {"event": "roamed", "local": "192.0.2.10", "gateway": "203.0.113.7", "took_ms": 20},
        {"event": "reconnecting", "error": ["the gateway does not answer", "silence"]},
        {"event": "reconnecting", "error": []},
        connected,
    ):
        reporter.event(event)
    reporter.stopping()
    reporter.event({"event": "disconnected"})
    reporter.close()
    assert manager.heard() == [
        "STATUS=connecting",
        "STATUS=connecting: negotiating with 203.0.113.7",
        "READY=1\nSTATUS=connected on ike0",
        "STATUS=connected, moved to 192.0.2.10",
        "STATUS=reconnecting: the gateway does not answer",
        "STATUS=reconnecting: the gateway is silent",
        "STATUS=connected on ike0",
        "STOPPING=1\nSTATUS=disconnecting",
        "STATUS=disconnected",
    ]


def test_the_heartbeat_is_the_event_loops(tmp_path: Path, manager: Manager) -> None:
    """Twice in the interval that the manager allows, and not after the end."""

    async def live() -> None:
        reporter = Reporter(service(tmp_path, WATCHDOG_USEC="40000"))
        reporter.start()
        beats = 0
        while beats < 4:
            await asyncio.sleep(0.01)
            beats += manager.heard().count("WATCHDOG=1")
        reporter.close()
        manager.heard()
        await asyncio.sleep(0.1)
        assert manager.heard() == []

    asyncio.run(asyncio.wait_for(live(), 10))


def test_a_reload_is_told_from_its_beginning_to_its_end(tmp_path: Path, manager: Manager) -> None:
    """Before the tunnel is ready nothing is: READY would end the start."""
    reporter = Reporter(service(tmp_path))
    reporter.reloading(True)
    reporter.reloading(False)
    assert manager.heard() == []
    reporter.event({"event": "connected", "interface": "ike0", "gateway": {"address": "203.0.113.7"}})
    manager.heard()
    before = time.monotonic_ns() // 1000
    reporter.reloading(True)
    reporter.reloading(False)
    began, ended = manager.heard()
    assert began.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert before <= int(began.rpartition("=")[2]) <= time.monotonic_ns() // 1000
    assert ended == "READY=1"
    reporter.close()
