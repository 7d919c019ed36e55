"""`ikeclient notify` beside real tunnels: what a person at the desktop reads of each."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from desktop_session import Service, SessionBus, until
from lab.gateway import PSK, Offer
from lab.world import Lab

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs Debian's dbus")


@asynccontextmanager
async def desktop(lab: Lab, directory: Path) -> AsyncIterator[Service]:
    """A desktop whose user runs `ikeclient notify` on the client's machine."""
    bus = SessionBus(directory)
    service = await Service.on(bus.address, "body", "body-markup")
    environment = {**lab.client.environment, "DBUS_SESSION_BUS_ADDRESS": bus.address}
    notify = lab.network.client.start(sys.executable, "-m", "ikeclient", "notify", env=environment)
    try:
        yield service
    finally:
        notify.terminate()
        code = await asyncio.to_thread(notify.wait, 10)
        await service.leave()
        bus.close()
    assert code == 0


async def told(service: Service, number: int, seconds: float = 10.0) -> dict[str, Any]:
    """The notification of that number, from 1; it is the last one there is."""
    await until(lambda: len(service.calls) >= number, f"notification {number}", seconds)
    assert len(service.calls) == number, service.summaries
    return service.calls[-1]


def aside(work: Callable[..., Any], *arguments: object) -> Any:
    """Wait for something of the lab while the desktop goes on."""
    return asyncio.to_thread(work, *arguments)


def test_a_refused_login_is_told_with_its_reason_and_replaced_by_success(lab: Lab, tmp_path: Path) -> None:
    """E9: not a word of the secret."""

    async def seen() -> None:
        async with desktop(lab, tmp_path) as service:
            lab.prepare(Offer())
            lab.client.secret_file("psk", "not-the-pre-shared-key")
            refused = lab.client.start("work")
            assert await aside(refused.wait) == 4
            first = await told(service, 1)
            assert (first["summary"], first["urgency"]) == ("VPN work: the login was refused", 2)
            assert "AUTHENTICATION_FAILED" in first["body"]
            assert "not-the-pre-shared-key" not in str(first)
            lab.client.secret_file("psk", PSK)
            await aside(lab.client.connect)
            second = await told(service, 2)
            assert (second["summary"], second["replaces"]) == ("VPN work: connected", first["number"])
            assert second["body"].splitlines()[1].startswith("10.88.0.")
            await aside(lab.client.disconnect)
            await until(lambda: not service.shown, "the end of the notification")

    asyncio.run(seen())


@pytest.mark.extended
def test_a_loss_a_closed_kill_switch_and_its_opening_are_told(lab: Lab, tmp_path: Path) -> None:
    """Also of a tunnel that was killed: the machine stays closed, and so stands the notification until it is opened."""
    switch = {"network": {"routes": "all"}, "session": {"kill_switch": True, "liveness": 5}}

    async def seen() -> None:
        async with desktop(lab, tmp_path) as service:
            offer = Offer(local_ts=("0.0.0.0/0", "::/0"), pools=("p4", "p6"))
            lab.prepare(offer, **switch)
            tunnel = await aside(lab.client.connect)
            await told(service, 1)
            silent = [lab.network.gateway.block_udp_port(port) for port in (500, 4500)]
            blocked = await told(service, 2, 60)
            assert (blocked["summary"], blocked["urgency"]) == ("VPN work: not connected", 2)
            assert "The kill switch holds all traffic" in blocked["body"]
            for rules in silent:
                rules.remove()
            assert (await told(service, 3, 60))["summary"] == "VPN work: connected"
            tunnel.kill()
            assert "`ikeclient unblock work` opens it" in (await told(service, 4))["body"]
            await aside(lab.client.run, "unblock", "work")
            await until(lambda: not service.shown, "the end of the notification")

    asyncio.run(seen())
