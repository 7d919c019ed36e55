"""The unit as it is shipped, under a systemd that has booted: what an administrator types, and what it does.

One machine for all: services are started, killed, reloaded and stopped one after the other, by tests in this order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import blocks
from lab.booted import BootedMachine, needs_systemd
from lab.client import REPOSITORY
from lab.gateway import PSK, Offer
from lab.machines import wait_for
from lab.network import INSIDE_DNS, INSIDE_IPV4, INTERNET_DNS, INTERNET_IPV4
from lab.pki import Pki
from lab.servers import DOMAIN
from lab.world import Lab

UNITS = REPOSITORY / "docs" / "systemd"
WORK, HOME = "ikeclient@work.service", "ikeclient@home.service"
CLONE = "/root/clone"
PAGE = {block.section: block for block in blocks(UNITS / "README.md")}
INSTALL = PAGE["A tunnel as a systemd service"].text
OFFER = Offer(unique="never", dns=(INSIDE_DNS,), domains=(DOMAIN,))
STRANGER = "1234"

pytestmark = [
    pytest.mark.xdist_group("systemd"),
    pytest.mark.timeout(400),
    needs_systemd,
]


@pytest.fixture(scope="module")
def lab(pki: Pki) -> Iterator[Lab]:
    with Lab(pki=pki) as lab:
        lab.gateway.serve(OFFER)
        yield lab


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[BootedMachine]:
    """The client's machine, as the commands of docs/systemd/README.md make it, and one more profile."""
    profiles = {
        name: lab.client.write_profile(
            lab.gateway,
            {"auth": {"psk": {"credential": "psk"}}, "network": {"routes": [routes]}, "session": {"liveness": 5}},
            name=name,
        ).read_text()
        for name, routes in (("work", "10.99.0.0/24"), ("home", "fd99::/64"))
    }
    files = {
        **{f"{CLONE}/docs/systemd/{source.name}": source.read_text() for source in UNITS.iterdir()},
        f"{CLONE}/work.toml": profiles["work"],
        f"{CLONE}/corp-ca.pem": "",
        "/etc/ikeclient/profiles/home.toml": profiles["home"],
        "/etc/ikeclient/profiles/closed.toml": f"{profiles['work']}kill_switch = true\n",
        "/etc/systemd/system/ikeclient-block@.service": (UNITS / "ikeclient-block@.service").read_text(),
        "/etc/ikeclient/secrets/psk": PSK,
        "/etc/systemd/system/ikeclient@.service.d/secret.conf": (
            "[Service]\nLoadCredential=psk:/etc/ikeclient/secrets/psk\n"
        ),
        "/etc/systemd/resolved.conf.d/lab.conf": f"[Resolve]\nDNS={INTERNET_DNS}\nDNSSEC=no\n",
    }
    machine = BootedMachine(lab.network.client, lab.network.subdirectory("systemd"), files)
    try:
        machine.run("chmod", "-R", "go-rwx", "/etc/ikeclient/secrets")
        machine.run("systemctl", "start", "dbus.service", "systemd-resolved.service")
        machine.run("sh", "-ec", f"cd {CLONE}\n{INSTALL}")
        yield machine
    finally:
        machine.close()


def status(machine: BootedMachine, user: str | None = None) -> dict[str, dict[str, Any]]:
    done = machine.run("ikeclient", "status", "--json", user=user)
    return {tunnel["name"]: tunnel for tunnel in json.loads(done.stdout)["tunnels"]}


def start(machine: BootedMachine, unit: str = WORK) -> None:
    done = machine.run("systemctl", "start", unit, check=False)
    assert done.returncode == 0, done.stderr + machine.journal(unit)


def link(machine: BootedMachine, interface: str) -> str:
    return machine.run("resolvectl", "status", interface).stdout


def query(machine: BootedMachine, name: str) -> str:
    return machine.run("resolvectl", "query", "--legend=no", "-4", name, check=False).stdout


@pytest.fixture
def work(machine: BootedMachine) -> BootedMachine:
    """The service `work` is up."""
    if machine.show(WORK, "ActiveState") != "active":
        start(machine)
    return machine


def test_started_means_connected_and_names_are_the_tunnels(work: BootedMachine) -> None:
    """O10: systemd-resolved has the tunnel's servers and domains on its link, and answers with what they say."""
    tunnel = status(work)["work"]
    assert (tunnel["state"], tunnel["user"], tunnel["warnings"]) == ("connected", "ikeclient", [])
    assert "connected" in work.show(WORK, "StatusText")
    said = link(work, tunnel["interface"])
    assert re.search(rf"DNS Servers: {re.escape(INSIDE_DNS)}\n", said), said
    assert re.search(rf"DNS Domain: ~{re.escape(DOMAIN)}\n", said), said
    assert INSIDE_IPV4 in query(work, f"host.{DOMAIN}")
    assert INTERNET_IPV4 in query(work, "www.example.net")
    assert work.run("getent", "ahostsv4", f"host.{DOMAIN}").stdout.split()[0] == INSIDE_IPV4


def test_the_journal_is_asked_for_events_by_their_fields(work: BootedMachine) -> None:
    """S4: journald itself has taken the entries as the unit's, with every field, and none holds the secret."""
    asked = ("-o", "json", "IKECLIENT_TUNNEL=work", "IKECLIENT_EVENT=connected")
    entry = json.loads(work.journal(WORK, *asked).splitlines()[-1])
    tunnel = status(work)["work"]
    expected = {
        "PRIORITY": "5",
        "SYSLOG_IDENTIFIER": "ikeclient",
        "IKECLIENT_INTERFACE": tunnel["interface"],
        "IKECLIENT_GATEWAY": tunnel["gateway"]["address"],
        "IKECLIENT_GATEWAY_IDENTITY": tunnel["gateway"]["identity"],
        "IKECLIENT_ADDRESSES": tunnel["addresses"],
        "_PID": str(tunnel["pid"]),
        "_SYSTEMD_UNIT": WORK,
    }
    assert {name: entry[name] for name in expected} == expected
    assert entry["MESSAGE"].startswith("connected in ")
    assert PSK not in work.run("journalctl", "-o", "json", "--no-pager", "--all").stdout


def test_an_ordinary_user_looks_and_does_not_touch(work: BootedMachine) -> None:
    """O15: status and events for everybody, orders for root and the service's user."""
    assert status(work, STRANGER)["work"]["state"] == "connected"
    assert "connected" in work.run("ikeclient", "status", user=STRANGER).stdout
    for order in ("disconnect", "reconnect"):
        refused = work.run("ikeclient", order, "work", user=STRANGER, check=False)
        assert refused.returncode == 11
        assert "not yours to control" in refused.stderr
        assert "user ikeclient" in refused.stderr
    assert status(work)["work"]["state"] == "connected"
    assert work.run("ls", "/run/ikeclient/work/work.undo.json", user=STRANGER).stdout
    for name in work.run("sh", "-c", "ls -A /run/ikeclient/work").stdout.split():
        if not name.endswith(".sock"):
            assert work.run("cat", f"/run/ikeclient/work/{name}", user=STRANGER, check=False).returncode == 1


def test_what_may_not_be_read_is_said_as_such(work: BootedMachine) -> None:
    work.run("chmod", "700", "/run/ikeclient/work")
    try:
        refused = work.run("ikeclient", "status", "work", user=STRANGER, check=False)
        assert refused.returncode == 11
        assert "/run/ikeclient/work may not be read" in refused.stderr
        assert "/run/ikeclient/work may not be read" in work.run("ikeclient", "status", user=STRANGER).stderr
    finally:
        work.run("chmod", "755", "/run/ikeclient/work")


def test_root_does_not_start_a_second_one(work: BootedMachine) -> None:
    """F16."""
    refused = work.run("ikeclient", "connect", "work", check=False)
    assert refused.returncode == 2
    assert "tunnel 'work' is already running" in refused.stderr
    assert "/run/ikeclient/work" in refused.stderr


def test_a_reload_takes_the_new_profile_in_the_same_process(work: BootedMachine) -> None:
    """O4"""
    before = status(work)["work"]
    path = "/etc/ikeclient/profiles/work.toml"
    text = work.run("cat", path).stdout
    work.run("tee", path, stdin=text.replace('"10.99.0.0/24"', '"10.99.0.0/25"'))
    work.run("systemctl", "reload", WORK)
    after = work.until(lambda: (t := status(work)["work"])["routes"] == ["10.99.0.0/25"] and t, "the new routes")
    assert after["pid"] == before["pid"]
    work.until(lambda: work.show(WORK, "ActiveState") == "active", "the end of the reload")
    work.run("tee", path, stdin="version = 1\n[gateway]\n")
    work.run("systemctl", "reload", WORK)
    work.until(lambda: "the profile was not loaded again" in work.journal(WORK), "a word about the bad profile")
    assert status(work)["work"]["state"] == "connected"
    work.run("tee", path, stdin=text)


def test_after_a_crash_systemd_starts_it_again_and_the_machine_is_in_order(work: BootedMachine) -> None:
    """O20: the journal of the dead one is still there, and cleared up by the next."""
    before = status(work)["work"]
    work.run("systemctl", "kill", "--kill-whom=all", "-s", "KILL", WORK)
    after = work.until(
        lambda: (t := status(work).get("work")) and t["pid"] != before["pid"] and t["state"] == "connected" and t,
        "another tunnel",
    )
    rules = work.run("ip", "rule").stdout.splitlines()
    assert len([line for line in rules if line.startswith("20000:")]) == 1, rules
    assert INSIDE_IPV4 in query(work, f"host.{DOMAIN}")
    assert re.search(rf"DNS Servers: {re.escape(INSIDE_DNS)}\n", link(work, after["interface"]))


def test_a_restart_is_another_process_on_the_same_machine(work: BootedMachine) -> None:
    before = status(work)["work"]["pid"]
    work.run("systemctl", "restart", WORK)
    assert status(work)["work"]["pid"] != before
    assert INSIDE_IPV4 in query(work, f"host.{DOMAIN}")


def test_two_services_run_side_by_side_and_end_one_by_one(work: BootedMachine) -> None:
    start(work, HOME)
    tunnels = status(work)
    assert {name: tunnel["state"] for name, tunnel in tunnels.items()} == {"home": "connected", "work": "connected"}
    assert tunnels["home"]["interface"] != tunnels["work"]["interface"]
    assert status(work, STRANGER).keys() == {"home", "work"}
    several = work.run("ikeclient", "disconnect", check=False)
    assert (several.returncode, "home, work" in several.stderr) == (2, True)
    work.run("ikeclient", "disconnect", "home")
    work.until(lambda: work.show(HOME, "ActiveState") == "inactive", "the end of the service")
    assert work.show(HOME, "Result") == "success"
    assert status(work).keys() == {"work"}
    assert INSIDE_IPV4 in query(work, f"host.{DOMAIN}")


def test_before_a_sleep_the_gateway_is_told_and_after_it_the_tunnel_is_made_anew(work: BootedMachine, lab: Lab) -> None:
    """Systemd starts what a sleep waits for, and stops it when the machine is awake; nobody really sleeps here.

    In place of systemd-suspend.service stands a unit that needs sleep.target, and does nothing.
    """
    before = status(work)["work"]
    work.run("cp", f"{CLONE}/docs/systemd/ikeclient-sleep.service", "/etc/systemd/system/")
    asleep = "[Unit]\nRequires=sleep.target\nAfter=sleep.target\n[Service]\nRemainAfterExit=yes\nExecStart=/bin/true\n"
    work.run("tee", "/etc/systemd/system/asleep.service", stdin=asleep)
    work.run("systemctl", "daemon-reload")
    work.run("systemctl", "enable", "ikeclient-sleep.service")
    work.run("systemctl", "start", "asleep.service")
    assert "work suspended" in work.journal("ikeclient-sleep.service")
    assert status(work)["work"]["state"] == "reconnecting"
    assert before["ike"]["spi_i"] not in str(lab.gateway.list_sas())
    work.run("systemctl", "stop", "asleep.service")
    wait_for(lambda: status(work)["work"]["state"] == "connected", timeout=20, what="the tunnel")
    assert status(work)["work"]["reconnects"] == before["reconnects"] + 1
    work.run("systemctl", "disable", "ikeclient-sleep.service")


def test_stopped_means_disconnected_and_nothing_left(work: BootedMachine, lab: Lab) -> None:
    tunnel = status(work)["work"]
    interface = tunnel["interface"]
    work.run("systemctl", "stop", WORK)
    assert work.show(WORK, "Result") == "success"
    assert status(work) == {}
    assert work.run("ikeclient", "status", user=STRANGER).stdout.startswith("disconnected")
    assert interface not in work.run("ip", "-o", "link").stdout
    assert "2000" not in work.run("ip", "rule").stdout
    assert INSIDE_IPV4 not in query(work, f"host.{DOMAIN}")
    assert INTERNET_IPV4 in query(work, "www.example.net")
    assert tunnel["ike"]["spi_i"] not in str(lab.gateway.list_sas())


def closed(machine: BootedMachine) -> bool:
    rules = machine.run("ip", "rule").stdout
    return "20020" in rules and "unreachable 10.99.0.0/24" in machine.run("ip", "route", "show", "table", "7528").stdout


@pytest.mark.extended
def test_the_unit_for_the_start_closes_for_a_profile_with_a_switch_and_no_other(machine: BootedMachine) -> None:
    """O3: `connect` goes on from there, what ends the service leaves the machine closed, and `unblock` opens it."""
    machine.run("systemctl", "stop", WORK, HOME)
    refused = machine.run("systemctl", "start", "ikeclient-block@home.service", check=False)
    assert refused.returncode != 0
    assert "the profile home has no kill switch" in machine.journal("ikeclient-block@home.service")
    assert "20020" not in machine.run("ip", "rule").stdout
    start(machine, "ikeclient-block@closed.service")
    assert closed(machine)
    assert status(machine)["closed"]["blocked"]
    start(machine, "ikeclient@closed.service")
    assert status(machine)["closed"]["state"] == "connected"
    machine.run("systemctl", "stop", "ikeclient@closed.service", "ikeclient-block@closed.service")
    assert closed(machine)
    machine.run("ikeclient", "unblock", "closed")
    assert "20020" not in machine.run("ip", "rule").stdout


def test_without_the_rule_the_error_is_in_systemd_resolveds_words(machine: BootedMachine) -> None:
    machine.run("systemctl", "stop", WORK)
    rule = Path("/etc/polkit-1/rules.d/50-ikeclient.rules")
    text = machine.run("cat", str(rule)).stdout
    machine.run("rm", str(rule))
    try:
        machine.run("systemctl", "restart", "polkit.service")
        done = machine.run("systemctl", "start", WORK, check=False)
        said = machine.journal(WORK, "-n", "40")
        errors = machine.journal(WORK, "-n", "10", "-p", "err")
        machine.run("systemctl", "stop", WORK)
        assert done.returncode != 0, said
        assert "nteractive authentication required" in said
        assert "50-ikeclient.rules" in said
        assert "nteractive authentication required" in errors, "errors have the journal's priority of errors"
    finally:
        machine.run("tee", str(rule), stdin=text)
        machine.run("systemctl", "restart", "polkit.service")


def test_a_proxy_is_ready_when_it_serves(machine: BootedMachine) -> None:
    """The unit of the page: `start` returns when READY came, and not when the program was started."""
    machine.run("systemctl", "stop", WORK)
    unit = PAGE["A proxy as a service"]
    assert unit.who == "file"
    machine.run("tee", unit.how, stdin=unit.text)
    machine.run("systemctl", "daemon-reload")
    done = machine.run("systemctl", "start", "office-proxy", check=False)
    try:
        assert done.returncode == 0, done.stderr + machine.journal("office-proxy")
        assert "serving as a proxy for work" in machine.show("office-proxy", "StatusText")
        got = machine.run("curl", "-s", "-x", "http://127.0.0.1:8181", f"http://{INSIDE_IPV4}/peer", check=False)
        assert got.stdout.startswith("10.88."), machine.journal("office-proxy")
    finally:
        machine.run("systemctl", "stop", "office-proxy", check=False)
    assert machine.show("office-proxy", "Result") == "success"
