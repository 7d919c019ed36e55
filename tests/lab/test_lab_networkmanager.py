"""NetworkManager with our plugin: nmcli imports, connects, asks and disconnects, against a real gateway."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import (
    INSIDE_DNS,
    INSIDE_IPV4,
    INTERNET_IPV4,
)
from lab.networkmanager import NetworkManager
from lab.traffic import peer_address, ping
from lab.world import Lab

pytestmark = pytest.mark.skipif(shutil.which("NetworkManager") is None, reason="needs Debian's network-manager")

OFFER = Offer(auth="eap-mschapv2", dns=(INSIDE_DNS,), domains=("corp.example",))
WRONG = "not-the-password-1"


@pytest.fixture(scope="module")
def desktop(module_lab: Lab) -> NetworkManager:
    """NetworkManager on the client, with one cable."""
    return NetworkManager(module_lab.network.client, module_lab.network.subdirectory("nm"))


@pytest.fixture
def nm(module_lab: Lab, desktop: NetworkManager) -> Iterator[NetworkManager]:
    """The same without a connection of ours."""
    module_lab.prepare(OFFER)
    yield desktop
    for name in ("work", "second"):
        desktop.nmcli("connection", "delete", name, check=False)
    wait_for(lambda: not desktop.plugins, timeout=20, what="our plugin to end")


def import_profile(lab: Lab, nm: NetworkManager, *changes: str, **profile: dict[str, object]) -> None:
    """Have nmcli import the profile `work`, with `changes` of the connection."""
    lab.client.write_profile(lab.gateway, profile)
    nm.nmcli("connection", "import", "type", "ikeclient", "file", str(lab.client.profiles / "work.toml"))
    if changes:
        nm.nmcli("connection", "modify", "work", *changes)


def up(nm: NetworkManager, name: str = "work") -> None:
    nm.nmcli("-w", "40", "connection", "up", name)
    assert nm.state(name) == "activated"


def routes(nm: NetworkManager) -> set[str]:
    found = json.loads(nm.machine.run("ip", "-j", "route", "show", "dev", "ike0").stdout)
    return {route["dst"] for route in found}


def test_an_imported_profile_comes_up_and_goes_down_again(module_lab: Lab, nm: NetworkManager) -> None:
    import_profile(module_lab, nm)
    up(nm)
    assert nm.field("work", "IP4.ADDRESS").startswith("10.88.0.")
    assert "10.99.0.0/24" in nm.field("work", "IP4.ROUTE")
    assert "fd99::/64" in nm.field("work", "IP6.ROUTE").replace("\\", "")
    assert nm.field("work", "IP4.DNS") == INSIDE_DNS
    assert nm.field("work", "IP4.DOMAIN") == "corp.example"
    assert f"nameserver {INSIDE_DNS}" in nm.machine.read_file("/etc/resolv.conf")
    assert ping(nm.machine, INSIDE_IPV4) == 3
    assert peer_address(nm.machine, INSIDE_IPV4).startswith("10.88.0.")
    assert peer_address(nm.machine, INTERNET_IPV4) == "10.1.0.2"  # only those networks
    assert module_lab.status("work")["state"] == "connected"
    rules = nm.machine.run("ip", "rule").stdout.splitlines()
    assert len(rules) == 3, rules  # NetworkManager changes the machine, and nobody else
    nm.nmcli("connection", "down", "work")
    wait_for(lambda: not nm.plugins, timeout=15, what="the plugin to end")
    assert nm.machine.run("ip", "link", "show", "ike0", check=False).returncode != 0
    wait_for(lambda: not module_lab.gateway.list_sas(), timeout=10, what="the goodbye")
