"""SIGHUP: a changed profile reaches a running tunnel, a broken one does not, and a terminal that hangs up ends it."""

from __future__ import annotations

import os
import pty
import signal
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from lab.client import Connection
from lab.gateway import PSK, Offer
from lab.machines import wait_for
from lab.network import GATEWAY_NAME, INSIDE_DNS, INSIDE_IPV4, INSIDE_IPV6, INSIDE_NETWORKS
from lab.traffic import ping, reaches
from lab.world import Lab

# No terminal, whatever the tests were started from, and files of others are closed to this root.
SERVICE = ("setsid", "setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all")
ONE_ROUTE = {"network": {"routes": [f"{INSIDE_IPV4}/32"]}}


def served(lab: Lab, *options: str, **profile: Mapping[str, Any]) -> Connection:
    connection = lab.start(Offer(dns=(INSIDE_DNS,)), *options, prefix=SERVICE, **profile)
    connection.wait_connected()
    return connection


def hang_up(connection: Connection, *expected: str) -> None:
    """Send SIGHUP and wait for these words."""
    heard = len(connection.stderr)
    connection.process.send_signal(signal.SIGHUP)
    for words in expected:
        wait_for(lambda words=words: words in connection.stderr[heard:], timeout=20, what=f"{words!r} to be said")


def routes_of(lab: Lab) -> list[str]:
    status = lab.client.wait_state("connected")
    routes: list[str] = status["routes"]
    return routes


def test_changed_routes_are_there_after_sighup_and_the_rest_of_the_tunnel_stays(lab: Lab) -> None:
    """O4: without a terminal SIGHUP reads the profile again."""
    before = lab.client.traces()
    connection = served(lab, **ONE_ROUTE)
    assert not reaches(lab.network.client, INSIDE_DNS)
    first = lab.client.status("work")
    lab.client.write_profile(lab.gateway)
    hang_up(connection, "the profile was read again: connecting anew", "connected in")
    wait_for(lambda: routes_of(lab) == list(INSIDE_NETWORKS), timeout=10, what="the new routes")
    assert reaches(lab.network.client, INSIDE_DNS)
    second = lab.client.status("work")
    assert first is not None
    assert second is not None
    assert (second["pid"], second["interface"]) == (first["pid"], first["interface"])
    assert len(lab.gateway.list_sas()) == 1
    hang_up(connection, "the profile was read again: nothing changed")
    assert connection.terminate() == 0
    assert lab.client.traces() == before


def test_what_the_gateway_need_not_know_is_changed_in_place(lab: Lab) -> None:
    connection = served(lab)
    spi = lab.client.wait_state("connected")["ike"]["spi_i"]
    lab.client.write_profile(lab.gateway, {"network": {"mtu": 1290, "exclude": ["10.99.0.128/25"], "interface": "x"}})
    hang_up(connection, "the profile was read again: applied", "'network.interface' changes with the next start")
    status = lab.client.wait_state("connected")
    assert (status["mtu"], status["ike"]["spi_i"], status["interface"]) == (1290, spi, "ike0")
    assert any(line.startswith("throw 10.99.0.128/25") for line in lab.client.traces()["routes"])
    wait_for(lambda: reaches(lab.network.client, INSIDE_IPV4), timeout=10, what="an answer")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"network": {"rotes": "all"}}, "key 'network.rotes' is unknown"),
        ({"auth": {"psk": {"file": "/nowhere/psk"}}}, "/nowhere/psk: there is no such file"),
        ({"gateway": {"address": "nowhere.example.net"}}, "cannot find the gateway nowhere.example.net"),
        ({}, "permission denied"),
    ],
    ids=["invalid", "no secret", "no address", "unreadable"],
)
def test_a_broken_profile_leaves_the_tunnel_as_it_is(
    lab: Lab, damage: Mapping[str, Mapping[str, Any]], said: str
) -> None:
    """O4, F2: also where a right is missing that the first reading had or did not need."""
    connection = served(lab)
    spi = lab.client.wait_state("connected")["ike"]["spi_i"]
    path = lab.client.write_profile(lab.gateway, damage)
    if not damage:
        os.chown(path, 1000, 1000)
        path.chmod(0o600)
    hang_up(connection, "the profile was not loaded again", said)
    assert lab.client.wait_state("connected")["ike"]["spi_i"] == spi
    assert ping(lab.network.client, INSIDE_IPV4) == 3


def test_a_profile_that_the_gateway_refuses_is_taken_back(lab: Lab) -> None:
    connection = served(lab)
    right = lab.client.profile_tables(lab.gateway)["auth"]["psk"]["file"]
    wrong = lab.client.secret_file("wrong", "not the pre-shared key at all")
    path = lab.client.write_profile(lab.gateway)
    path.write_text(path.read_text().replace(str(right), str(wrong)))
    spi = lab.client.wait_state("connected")["ike"]["spi_i"]
    hang_up(connection, "connecting anew", "going back to the former profile")
    assert lab.client.wait_state("connected")["ike"]["spi_i"] == spi
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    hang_up(connection, "going back to the former profile")  # it is tried again when it is told to


def test_an_inner_address_of_the_lan_is_refused_at_a_new_authentication_too(lab: Lab) -> None:
    """K12: else the tunnel says that it is connected, and its machine has another address than its selectors."""
    connection = lab.start(Offer(pools=("p6",)), prefix=SERVICE)
    connection.wait_connected()
    before = lab.client.wait_state("connected")
    lab.prepare(Offer(pool_ipv4="10.1.0.53/32"), session={"liveness": 40})
    hang_up(connection, "connecting anew", "10.1.0.53 cannot be used")
    after = lab.client.wait_state("connected")
    assert (after["addresses"], after["ike"]["spi_i"]) == (before["addresses"], before["ike"]["spi_i"])
    assert ping(lab.network.client, INSIDE_IPV6) == 3


def test_another_gateway_that_is_silent_costs_an_outage_and_no_more(lab: Lab) -> None:
    connection = served(lab, "--timeout", "3")
    lab.client.write_profile(lab.gateway, {"gateway": {"address": "10.1.0.77", "identity": GATEWAY_NAME}})
    hang_up(connection, "connecting anew", "going back to the former profile", "connected in")
    lab.client.wait_state("connected")
    assert ping(lab.network.client, INSIDE_IPV4) == 3


def test_secrets_that_can_be_had_only_once_are_remembered(lab: Lab) -> None:
    """F10: the variable is gone after the first reading, and a second one still works."""
    connection = lab.start(prefix=SERVICE, env={"VPN_PSK": PSK}, auth={"psk": {"env": "VPN_PSK"}})
    connection.wait_connected()
    lab.client.write_profile(lab.gateway, {"auth": {"psk": {"env": "VPN_PSK"}}, "session": {"liveness": 40}})
    hang_up(connection, "the profile was read again: connecting anew", "reauthenticated")
    assert ping(lab.network.client, INSIDE_IPV4) == 3


def test_a_detached_tunnel_reads_its_profile_again(lab: Lab) -> None:
    lab.prepare(**ONE_ROUTE)
    assert lab.client.run("connect", "work", "--detach").returncode == 0
    status = lab.client.wait_state("connected")
    lab.client.write_profile(lab.gateway)
    os.kill(status["pid"], signal.SIGHUP)
    wait_for(lambda: routes_of(lab) == list(INSIDE_NETWORKS), timeout=20, what="the new routes")
    assert lab.client.disconnect("work").returncode == 0


def test_the_hangup_of_its_terminal_ends_a_tunnel_in_order(lab: Lab) -> None:
    """O4"""
    before = lab.client.traces()
    lab.prepare()
    master, terminal = pty.openpty()
    command = ("setsid", "--ctty", "--wait", sys.executable, "-m", "ikeclient", "connect", "work")
    with os.fdopen(terminal, "r+b", buffering=0) as end:
        process = lab.network.client.start(*command, stdin=end, stdout=end, stderr=end, env=lab.client.environment)
    lab.client.wait_state("connected")
    os.close(master)
    assert process.wait(15) == 0
    assert lab.client.traces() == before
    assert lab.gateway.list_sas() == []
