"""`connect --retry-first`, and what `--timeout` waits for without it: machines that are up before their network is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from lab.client import Connection
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import GATEWAY_NAME, INSIDE_IPV4
from lab.traffic import reaches
from lab.world import Lab


@pytest.fixture
def lab(module_lab: Lab) -> Iterator[Lab]:
    """The module's lab, whose network is there again afterwards."""
    yield module_lab
    module_lab.network.use_first_path()


def retrying(connection: Connection) -> list[dict[str, object]]:
    events = [json.loads(line) for line in connection.stderr.splitlines()]
    return [event for event in events if event["event"] == "retrying"]


def waits(lab: Lab, connection: Connection, words: str) -> None:
    """Wait until an attempt has failed with these words, and see that people are told so."""
    wait_for(lambda: connection.process.poll() is None and retrying(connection), timeout=40, what="a failed attempt")
    assert words in str(retrying(connection)[0]["error"])
    status = lab.status()
    assert status["state"] == "connecting"
    assert words in status["last_error"]


def test_a_gateway_that_comes_up_later_is_connected_to(lab: Lab) -> None:
    lab.gateway.offer = Offer()
    lab.client.write_profile(lab.gateway)
    connection = lab.client.start("work", "--retry-first", "--timeout", "1", "--log-format", "json")
    waits(lab, connection, "no IKE answer")
    lab.gateway.serve(Offer())
    connection.wait_connected(90)
    assert reaches(lab.network.client, INSIDE_IPV4)
    assert connection.interrupt() == 130


@pytest.mark.parametrize("option", ["--retry-first", "--timeout=60"])
def test_a_name_server_that_answers_later_is_waited_for(lab: Lab, option: str) -> None:
    """Either way: within `--timeout` a network that is not there yet is no failure."""
    rules = lab.network.gateway.block_udp_port(53)
    lab.client.machine.write_file("/etc/resolv.conf", "nameserver 203.0.113.53\noptions timeout:1 attempts:1\n")
    try:
        lab.prepare(gateway={"address": GATEWAY_NAME})
        connection = lab.client.start("work", option, "--log-format", "json")
        waits(lab, connection, f"cannot find the gateway {GATEWAY_NAME}")
    finally:
        rules.remove()
    connection.wait_connected(90)
    assert connection.interrupt() == 130


def test_a_network_that_comes_up_ends_the_pause(lab: Lab) -> None:
    lab.prepare()
    lab.network.client.set_link("wan", up=False)
    connection = lab.client.start("work", "--timeout=60", "--log-format", "json")
    waits(lab, connection, "no route to the gateway")
    lab.network.use_first_path()
    connection.wait_connected(60)
    assert connection.interrupt() == 130


def test_a_command_ends_a_tunnel_that_waits_for_its_network(lab: Lab) -> None:
    lab.prepare()
    lab.network.client.set_link("wan", up=False)
    connection = lab.client.start("work", "--retry-first", "--log-format", "json")
    waits(lab, connection, "no route to the gateway")
    assert lab.client.run("disconnect", "work").returncode == 0
    assert connection.wait() == 0


@pytest.mark.parametrize(
    ("offer", "secret"),
    [
        (Offer(), "psk"),
        pytest.param(Offer(auth="eap-mschapv2"), "password", marks=pytest.mark.extended),
    ],
    ids=["psk", "password"],
)
def test_refused_credentials_are_never_tried_again(lab: Lab, offer: Offer, secret: str) -> None:
    """E9: at a machine that starts unattended nobody would see the account being locked."""
    lab.prepare(offer)
    lab.client.secret_file(secret, "not the right one")
    before = lab.gateway.log.count("IKE_AUTH request 1")
    connection = lab.client.start("work", "--retry-first", "--log-format", "json")
    assert connection.wait(60) == 4
    assert retrying(connection) == []
    assert lab.gateway.log.count("parsed IKE_AUTH request 1") - before <= 1


def test_a_name_that_does_not_exist_is_told_at_once_unless_asked_otherwise(lab: Lab) -> None:
    lab.prepare(gateway={"address": "nowhere.example.org"})
    done = lab.client.run("connect", "work", "--timeout", "300")
    assert (done.returncode, "nowhere.example.org" in done.stderr) == (5, True)
    connection = lab.client.start("work", "--retry-first", "--log-format", "json")
    waits(lab, connection, "nowhere.example.org")
    assert connection.terminate() == 0
