"""`ikeclient notify` as a process: a fake tunnel, a real session bus, and what is missing where there is none."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desktop_session import Service, SessionBus, until

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported
WITHOUT = "import sys; sys.modules['dbus_fast'] = None\nfrom ikeclient.cli.app import main\nsys.exit(main(['notify']))"

needs_bus = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs Debian's dbus")


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[SessionBus]:
    bus = SessionBus(tmp_path)
    yield bus
    bus.close()


@needs_bus
def test_a_tunnel_is_told_of_and_sigterm_ends_it_in_order(shell: Shell, bus: SessionBus) -> None:
    async def told() -> None:
        service = await Service.on(bus.address, "body", "body-markup")
        notify = shell.start("notify", DBUS_SESSION_BUS_ADDRESS=bus.address)
        tunnel = await asyncio.to_thread(shell.connected)
        await until(lambda: service.calls, "a notification")
        assert (service.calls[0]["summary"], service.calls[0]["urgency"]) == ("VPN work: connected", 0)
        assert service.calls[0]["body"] == "Gateway vpn.example.com\n10.88.0.1/32"
        tunnel.kill()
        await until(lambda: len(service.calls) == 2, "another one")
        assert service.calls[1]["summary"] == "VPN work: not connected"
        assert service.calls[1]["replaces"] == service.calls[0]["number"]
        notify.send_signal(signal.SIGTERM)
        _, said = await asyncio.to_thread(notify.communicate)
        assert (notify.returncode, said, service.shown) == (0, "", {})
        await service.leave()

    asyncio.run(told())


@needs_bus
def test_the_end_of_the_session_ends_it(shell: Shell, bus: SessionBus) -> None:
    async def told() -> None:
        service = await Service.on(bus.address)
        notify = shell.start("notify", DBUS_SESSION_BUS_ADDRESS=bus.address)
        await asyncio.to_thread(shell.connected)
        await until(lambda: service.calls, "a notification")
        bus.close()
        _, said = await asyncio.to_thread(notify.communicate)
        assert (notify.returncode, "the session bus is gone" in said) == (12, True)

    asyncio.run(told())


def test_without_a_session_it_says_so(shell: Shell) -> None:
    done = shell.run("notify")
    assert (done.returncode, done.stdout) == (12, "")
    assert "there is no session bus" in done.stderr


def test_without_dbus_fast_it_says_what_to_install(shell: Shell) -> None:
    words = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(words, env=shell.environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "pip install 'ikeclient[desktop]'" in done.stderr
