"""IKE answers and ESP is dead, in either direction: it is noticed, new keys, then a new connection, then a warning."""

from __future__ import annotations

import time

import pytest
from lab.gateway import Offer
from lab.machines import Machine, Rules, wait_for
from lab.network import INSIDE_IPV4, INTERNET_IPV4
from lab.traffic import carries, keep_pinging, ping
from lab.world import Lab

pytestmark = pytest.mark.waits

NOTICED = 15.0
SYSLOG = """
import socket, time
sender = socket.socket(type=socket.SOCK_DGRAM)
while True:
    sender.sendto(b"x", ("{}", 514))
    time.sleep(0.2)
"""
SILENT = "nothing comes back through the tunnel"


def swallow_esp(machine: Machine, direction: str) -> Rules:
    """Drop ESP in UDP, and leave IKE alone: its first four bytes are zero (RFC 3948 section 2.2)."""
    hook, port = ("prerouting", "dport") if direction == "to the gateway" else ("output", "sport")
    return machine.add_rules(hook, f"udp {port} 4500 @th,64,32 != 0 counter drop", priority=-450)


def warned(lab: Lab, words: str = SILENT) -> bool:
    return any(words in warning for warning in lab.status()["warnings"])


def rekeys(lab: Lab) -> int:
    return lab.gateway.log.count("inbound CHILD_SA net{")


def logins(lab: Lab) -> int:
    return lab.gateway.counters()["ike-auth-in-req"]


@pytest.mark.parametrize(
    ("direction", "before"),
    [
        ("to the client", "carried"),
        pytest.param("to the gateway", "carried", marks=pytest.mark.extended),
        pytest.param("to the client", "never carried", marks=pytest.mark.extended),
        ("to the gateway", "never carried"),
    ],
)
def test_a_dead_data_path_is_noticed_and_every_step_is_taken_once(lab: Lab, direction: str, before: str) -> None:
    """S20, S14, G4, G22: new keys within 15 s, then one new connection, then words; over when packets come back."""
    connection = lab.connected()
    if before == "carried":
        assert ping(lab.network.client, INSIDE_IPV4) == 3
    rules = swallow_esp(lab.network.gateway, direction)
    started = time.monotonic()
    keep_pinging(lab.network.client, interval=0.3)
    wait_for(lambda: warned(lab), timeout=NOTICED, what="a warning", interval=0.1)
    wait_for(
        lambda: "parsed CREATE_CHILD_SA request" in lab.gateway.log,
        timeout=max(NOTICED + started - time.monotonic(), 0.5),
        what="new keys",
    )
    assert logins(lab) == 1
    assert rules.hits() > 0
    wait_for(lambda: logins(lab) == 2, timeout=45, what="a new connection", interval=0.2)
    wait_for(lambda: warned(lab, "neither new keys nor"), timeout=30, what="the reasons", interval=0.2)
    assert any("outside UDP" in warning for warning in lab.status()["warnings"])
    assert " dev ike0" in lab.network.client.run("ip", "route", "get", INSIDE_IPV4).stdout
    time.sleep(20)
    assert logins(lab) == 2
    assert lab.gateway.log.count("parsed CREATE_CHILD_SA request") == 1
    rules.remove()
    wait_for(lambda: not warned(lab), timeout=15, what="the end of the warning", interval=0.2)
    assert "packets come back through the tunnel again" in connection.stderr
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert connection.terminate() == 0


def test_new_keys_are_enough_where_the_gateway_has_lost_its_sa(lab: Lab) -> None:
    """S20: only the first SA is dead; the one that comes with new keys works."""
    lab.connected()
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    spi = int(lab.status()["children"][0]["spi_out"], 16)
    lab.network.gateway.add_rules("prerouting", f"udp dport 4500 @th,64,32 == {spi} counter drop", priority=-450)
    keep_pinging(lab.network.client, interval=0.3)
    wait_for(lambda: warned(lab), timeout=NOTICED, what="a warning", interval=0.1)
    carries(lab.network.client, INSIDE_IPV4)
    wait_for(lambda: not warned(lab), timeout=5, what="the end of the warning", interval=0.1)
    assert logins(lab) == 1
    assert lab.status()["reconnects"] == 0


@pytest.mark.parametrize("gateway", ["answers probes", pytest.param("answers no probe", marks=pytest.mark.extended)])
def test_traffic_that_nobody_answers_is_not_taken_for_a_dead_path(lab: Lab, gateway: str) -> None:
    """S20: syslog over UDP and pings to a host that is down, through a gateway that is fine."""
    lab.gateway.serve(Offer(local_ts=("0.0.0.0/0",), pools=("p4",)))
    machine = lab.network.gateway
    silent = "203.0.113.99"
    machine.add_rules("forward", f"ip daddr {silent} drop")
    if gateway == "answers no probe":
        machine.add_rules("prerouting", 'iifname "ipsec0" icmp type echo-request drop')
    lab.client.write_profile(lab.gateway)
    connection = lab.client.connect()
    carries_before = gateway == "answers no probe"
    if carries_before:
        assert lab.network.client.run("curl", "-sS", f"http://{INTERNET_IPV4}/peer").stdout.startswith("10.88.")
    keep_pinging(lab.network.client, silent, interval=0.3)
    lab.network.client.start("python3", "-c", SYSLOG.format(silent))
    time.sleep(75)
    assert lab.status()["state"] == "connected"
    requests = lab.gateway.log.count("parsed CREATE_CHILD_SA request")
    if gateway == "answers probes":
        assert (requests, logins(lab)) == (0, 1)
        assert not warned(lab)
        assert "reconnecting" not in connection.stderr
    else:
        assert requests <= 1
        assert logins(lab) <= 2
