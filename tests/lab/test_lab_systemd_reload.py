"""What systemd of Debian 13 can that Debian 12's cannot: `systemctl reload` waits until the profile was taken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from documents import blocks
from lab.booted import BootedMachine, another_release, needs_another_release, needs_systemd
from lab.client import REPOSITORY
from lab.gateway import PSK, Offer
from lab.world import Lab

UNITS = REPOSITORY / "docs" / "systemd"
PAGE = {block.section: block for block in blocks(UNITS / "README.md")}
WORK = "ikeclient@work.service"
CLONE = "/root/clone"
PROFILE = "/etc/ikeclient/profiles/work.toml"

pytestmark = [
    pytest.mark.extended,
    pytest.mark.timeout(900),
    needs_another_release,
    needs_systemd,
]


@pytest.fixture
def machine(lab: Lab) -> Iterator[BootedMachine]:
    """Debian 13 with the unit, as the page installs it, and its drop-in."""
    lab.gateway.serve(Offer(unique="never"))
    overrides = {"auth": {"psk": {"credential": "psk"}}, "network": {"routes": ["10.99.0.0/24"], "dns": "none"}}
    files = {
        **{f"{CLONE}/docs/systemd/{source.name}": source.read_text() for source in UNITS.iterdir()},
        f"{CLONE}/work.toml": lab.client.write_profile(lab.gateway, overrides).read_text(),
        f"{CLONE}/corp-ca.pem": "",
        "/etc/ikeclient/secrets/psk": PSK,
        "/etc/systemd/system/ikeclient@.service.d/secret.conf": (
            "[Service]\nLoadCredential=psk:/etc/ikeclient/secrets/psk\n"
        ),
    }
    directory = lab.network.subdirectory("trixie")
    machine = BootedMachine(lab.network.client, directory, files, another_release("trixie", "3.13"))
    try:
        machine.run("sh", "-ec", f"cd {CLONE}\n{PAGE['A tunnel as a systemd service'].text}", timeout=120)
        machine.run("sh", "-ec", f"cd {CLONE}\n{PAGE['A reload that waits'].text}", timeout=120)
        yield machine
    finally:
        machine.close()


def status(machine: BootedMachine) -> dict[str, Any]:
    [tunnel] = json.loads(machine.run("ikeclient", "status", "--json").stdout)["tunnels"]
    return tunnel


def test_a_reload_returns_when_the_profile_was_taken_or_refused(machine: BootedMachine) -> None:
    """O4: without a wait in between the tunnel has the new routes; a profile that is broken changes nothing."""
    assert machine.show(WORK, "Type") == "notify-reload"
    before = status(machine)
    text = machine.run("cat", PROFILE).stdout
    for routes in ("10.99.0.0/25", "10.99.0.0/26", "10.99.0.0/24"):
        machine.run("tee", PROFILE, stdin=text.replace("10.99.0.0/24", routes))
        machine.run("systemctl", "reload", WORK)
        assert status(machine)["routes"] == [routes]
        assert machine.show(WORK, "ActiveState") == "active"
    machine.run("tee", PROFILE, stdin="version = 1\n[gateway]\n")
    machine.run("systemctl", "reload", WORK)
    assert "the profile was not loaded again" in machine.journal(WORK)
    after = status(machine)
    assert (after["pid"], after["state"]) == (before["pid"], "connected")
    machine.run("tee", PROFILE, stdin=text)
    machine.run("systemctl", "reload", WORK)
    machine.run("systemctl", "stop", WORK)
    assert machine.show(WORK, "Result") == "success"
