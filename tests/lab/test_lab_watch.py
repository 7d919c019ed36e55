"""`ikeclient watch`: a laptop that is carried between networks has its tunnel where [when] of its profile says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_IPV4
from lab.traffic import reaches
from lab.world import Lab

from ikeclient.when.decide import SETTLE


class Watching:
    """A running `ikeclient watch work` on the client's machine."""

    def __init__(self, lab: Lab, place: Path) -> None:
        self.lab = lab
        self._said = place / "watch.stderr"
        command = (sys.executable, "-m", "ikeclient", "watch", "work")
        with self._said.open("wb") as said:
            self.process: subprocess.Popen[bytes] = lab.network.client.start(
                *command, stdout=said, stderr=said, env=lab.client.environment
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    def up(self) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.said
            status = self.lab.client.status()
            return status if status and status["state"] == "connected" else None

        return wait_for(found, timeout=60, what=f"a tunnel\n{self.said}", interval=0.2)

    def down(self) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            status = self.lab.client.status()
            return status if status and status["pid"] == 0 else None

        return wait_for(found, timeout=60, what=f"no tunnel\n{self.said}", interval=0.2)


@pytest.fixture
def lab(module_lab: Lab) -> Iterator[Lab]:
    if "wan2" not in module_lab.network.client.run("ip", "-o", "link").stdout:
        module_lab.network.add_second_path()
    yield module_lab
    module_lab.network.use_first_path()


@pytest.fixture
def watching(lab: Lab, tmp_path: Path) -> Iterator[Watching]:
    """The second network is trusted, by its gateway's MAC address."""
    links = json.loads(lab.network.gateway.run("ip", "-j", "link", "show", "wan2").stdout)
    lab.prepare(Offer(), when={"trusted": [{"gateway_mac": [links[0]["address"]]}]})
    watching = Watching(lab, tmp_path)
    yield watching
    watching.process.send_signal(signal.SIGKILL)
    watching.process.wait(timeout=10)


def test_the_tunnel_is_up_where_the_network_is_not_trusted_and_status_says_why(watching: Watching) -> None:
    lab, network = watching.lab, watching.lab.network
    before = lab.client.traces()
    first = watching.up()
    assert reaches(network.client, INSIDE_IPV4)
    assert "kept up: untrusted network (wired on wan)" in lab.client.run("status").stdout
    assert first["watch"]["reason"] == "untrusted network (wired on wan)"
    network.use_second_path()
    assert watching.down()["state"] == "disconnected"
    assert "not connected: trusted network (wired on wan2)" in lab.client.run("status").stdout
    wait_for(lambda: "received DELETE for IKE_SA" in lab.gateway.log, timeout=10, what="the gateway to be told")
    network.use_first_path()
    again = watching.up()
    assert again["pid"] != first["pid"]
    watching.process.terminate()
    assert watching.process.wait(timeout=30) == 0
    assert lab.client.status() is None
    after = lab.client.traces()
    assert {name: after[name] for name in ("rules", "firewall", "resolver")} == {
        name: before[name] for name in ("rules", "firewall", "resolver")
    }


@pytest.mark.extended
def test_what_a_person_ended_or_the_gateway_refused_is_not_started_again(watching: Watching, tmp_path: Path) -> None:
    """E9: a decision is no reason to guess again."""
    lab = watching.lab
    watching.up()
    assert lab.client.run("disconnect", "work").returncode == 0
    wait_for(lambda: "stays down" in watching.said, timeout=20, what="the end to be noticed")
    watching.process.terminate()
    watching.process.wait(timeout=30)
    lab.client.secret_file("psk", "not the right one")
    logins = lab.gateway.log.count("parsed IKE_AUTH request 1")
    again = Watching(lab, tmp_path)
    wait_for(lambda: "exit code 4" in again.said, timeout=60, what="the refusal")
    lab.network.client.ip("address", "add", "10.1.0.77/24", "dev", "wan")  # which moves no decision
    lab.network.client.ip("address", "del", "10.1.0.77/24", "dev", "wan")
    [tunnel] = json.loads(lab.client.run("status", "--json").stdout)["tunnels"]
    assert (tunnel["pid"], "exit code 4" in tunnel["watch"]["trouble"]) == (0, True)
    assert lab.gateway.log.count("parsed IKE_AUTH request 1") == logins + 1
    again.process.terminate()
    assert again.process.wait(timeout=30) == 0


def test_a_profile_without_rules_is_not_watched(lab: Lab) -> None:
    lab.prepare(Offer())
    done = lab.client.run("watch", "work")
    assert (done.returncode, "[when]" in done.stderr) == (2, True)


@pytest.mark.extended
def test_a_kill_switch_is_opened_where_the_tunnel_is_to_be_down_and_one_that_hangs_is_killed(
    lab: Lab, tmp_path: Path
) -> None:
    """What refused credentials, or a process that had to be killed, keep closed would cut off a trusted network."""
    links = json.loads(lab.network.gateway.run("ip", "-j", "link", "show", "wan2").stdout)
    trusted = [{"gateway_mac": [links[0]["address"]]}]
    lab.prepare(Offer(), when={"trusted": trusted}, session={"kill_switch": True})
    lab.client.secret_file("psk", "not the right one")
    watching = Watching(lab, tmp_path)

    def is_open() -> bool:
        status = lab.client.status()
        return status is not None and status["state"] == "disconnected" and not status["blocked"]

    try:
        wait_for(lambda: "exit code 4" in watching.said, timeout=60, what="the refusal")
        status = lab.client.status()
        assert status is not None
        assert (status["state"], status["watch"]["action"]) == ("blocked", "connect")
        lab.network.use_second_path()
        wait_for(is_open, timeout=60, what=f"the kill switch to be opened\n{watching.said}", interval=0.2)
        lab.prepare(Offer(), when={"trusted": trusted}, session={"kill_switch": True})
        lab.network.use_first_path()
        hanging = watching.up()
        lab.network.client.run("kill", "-STOP", str(hanging["pid"]))
        lab.network.use_second_path()
        wait_for(is_open, timeout=60, what=f"the kill switch to be opened\n{watching.said}", interval=0.2)
        assert "was killed" in watching.said
        assert lab.client.run("repair").stdout == "", "nothing was left to repair"
    finally:
        watching.process.terminate()
        assert watching.process.wait(timeout=30) == 0
        lab.client.run("unblock", "--all")


@pytest.mark.waits
def test_the_domain_of_a_network_is_that_of_its_interface_and_never_the_tunnels(lab: Lab, tmp_path: Path) -> None:
    """The tunnel's own domain is the one that is trusted: with it up, the network below is no other than before."""
    client = lab.network.client
    dns = {"dns": "all", "dns_servers": ["10.99.0.53"], "dns_domains": ["corp.example"]}
    lab.prepare(Offer(), network=dns, when={"trusted": [{"dns_suffix": ["corp.example"]}]})
    before = client.run("cat", "/etc/resolv.conf").stdout
    index = json.loads(client.run("ip", "-j", "link", "show", "wan").stdout)[0]["ifindex"]
    links = "/run/systemd/netif/links"
    watching = Watching(lab, tmp_path)
    try:
        first = watching.up()
        assert "search corp.example" in client.run("cat", "/etc/resolv.conf").stdout
        time.sleep(2 * SETTLE)
        assert watching.up()["pid"] == first["pid"]
        client.run("mkdir", "-p", links)  # as systemd-networkd does, whose DHCP client was told a domain at last
        client.run("sh", "-c", f"printf 'ADMIN_STATE=configured\\nDOMAINS=a.corp.example\\n' > {links}/{index}")
        assert watching.down()["watch"]["reason"] == "trusted network (wired on wan)"
        assert client.run("cat", "/etc/resolv.conf").stdout == before
    finally:
        watching.process.terminate()
        assert watching.process.wait(timeout=30) == 0
        client.run("rm", "-rf", links)
