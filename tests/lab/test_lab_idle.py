"""A gateway that deletes idle Child SAs: one login, and a Child SA whenever a packet wants to leave."""

from __future__ import annotations

import time

import pytest
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_IPV4, INSIDE_IPV6
from lab.traffic import fetch, keep_pinging, ping
from lab.world import Lab

pytestmark = pytest.mark.waits


def idle(lab: Lab) -> None:
    """Wait until the gateway has deleted the Child SA, and the client says so."""
    wait_for(lambda: lab.status()["idle"], timeout=30, what="an idle tunnel", interval=0.1)


@pytest.mark.parametrize("offload", ["auto", "off"])
def test_a_gateway_that_deletes_idle_children_gets_one_login(lab: Lab, offload: str) -> None:
    """S5, G18: three times idle, three times needed again, and not even the first packet is lost."""
    connection = lab.connected(Offer(child={"inactivity": "3s"}), session={"offload": offload})
    machine = lab.network.client
    assert ping(machine, INSIDE_IPV4) == 3
    for inside in (INSIDE_IPV4, INSIDE_IPV6, INSIDE_IPV4):
        idle(lab)
        found = lab.status()
        assert (found["state"], found["children"], found["reconnects"]) == ("connected", [], 0)
        assert found["routes"] == ["10.99.0.0/24", "fd99::/64"]
        assert " dev ike0" in machine.run("ip", "route", "get", INSIDE_IPV4).stdout
        assert lab.gateway.children() == []
        assert ping(machine, inside) == 3
        found = lab.status()
        assert not found["idle"]
        assert len(lab.gateway.children()) == 1
    assert fetch(machine, INSIDE_IPV4).sha256 == lab.servers.sha256
    assert lab.gateway.counters()["ike-auth-in-req"] == 1
    assert "reconnecting" not in connection.stderr
    assert connection.terminate() == 0


def test_a_gateway_that_makes_no_child_any_more_gets_a_new_login_after_a_few_attempts(lab: Lab) -> None:
    """S5, G18: what the gateway refuses is asked for again with pauses, then the connection is made anew."""
    connection = lab.connected(Offer(child={"inactivity": "3s"}))
    idle(lab)
    # What is being loaded changes the IKE SA's own configuration: it now accepts none of the client's algorithms.
    lab.gateway.serve(Offer(esp_proposals="aes192-sha512"))
    keep_pinging(lab.network.client)
    wait_for(lambda: "reconnecting" in connection.stderr, timeout=30, what="another connection", interval=0.1)
    lab.gateway.serve(Offer())
    lab.client.wait_state("connected", timeout=40)
    time.sleep(0.5)
    assert ping(lab.network.client, INSIDE_IPV4) == 3


def test_a_child_that_was_deleted_by_hand_is_made_again_under_load(lab: Lab) -> None:
    """S5: an administrator closes it while a file is on its way."""
    connection = lab.connected()
    time.sleep(2.5)
    keep_pinging(lab.network.client, interval=0.1)
    for turn in range(3):
        lab.gateway.terminate(child="net")
        wait_for(lambda turn=turn: connection_made(lab, turn + 2), timeout=15, what="a Child SA", interval=0.1)
        time.sleep(2.5)
    assert fetch(lab.network.client, INSIDE_IPV4).sha256 == lab.servers.sha256
    assert lab.gateway.counters()["ike-auth-in-req"] == 1
    assert lab.status()["reconnects"] == 0
    assert "reconnecting" not in connection.stderr


def connection_made(lab: Lab, number: int) -> bool:
    """Whether the gateway has made its Child SA of that number, and the client uses it."""
    return f"CHILD_SA net{{{number}}} established" in lab.gateway.log and len(lab.status()["children"]) == 1


def test_an_idle_tunnel_moves_to_another_network(lab: Lab) -> None:
    """S5, S16: there is no Child SA while it moves; the next packet makes one on the new path."""
    lab.network.add_second_path()
    lab.connected(Offer(child={"inactivity": "3s"}))
    idle(lab)
    lab.network.use_second_path()
    assert lab.client.wait_moved("10.2.0.2")["idle"]
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert lab.gateway.counters()["ike-auth-in-req"] == 1


def test_a_gateway_that_ends_idle_connections_altogether_gets_a_login_for_the_next_packet(lab: Lab) -> None:
    """G18: twice is a habit. The routes stay, and nothing leaves in the clear."""
    connection = lab.connected(Offer(child={"inactivity": "3s"}, settings={"inactivity_close_ike": True}))
    machine = lab.network.client
    wait_for(lambda: "the next packet" in connection.stderr, timeout=40, what="the second idle end", interval=0.1)
    logins = lab.gateway.counters()["ike-auth-in-req"]
    assert logins == 2
    assert lab.status()["state"] == "reconnecting"
    time.sleep(15)
    assert lab.gateway.counters()["ike-auth-in-req"] == logins
    assert " dev ike0" in machine.run("ip", "route", "get", INSIDE_IPV4).stdout
    keep_pinging(machine, interval=0.5)
    lab.client.wait_state("connected", timeout=20)
    assert ping(machine, INSIDE_IPV4) == 3
    assert lab.gateway.counters()["ike-auth-in-req"] == logins + 1
    assert connection.terminate() == 0
