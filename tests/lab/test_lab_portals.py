"""Networks that answer in the gateway's place, or spoil what it says: a clear error in time, and nothing else."""

from __future__ import annotations

import sys

import pytest
from lab.gateway import Offer
from lab.network import INSIDE_IPV4
from lab.traffic import ping
from lab.world import Lab

PORTAL = """
import os, select, socket, sys
sockets = []
for port in map(int, sys.argv[2].split(",")):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("10.1.0.1", port))
    sockets.append(one)
page = b"HTTP/1.1 302 Found\\r\\nLocation: http://portal.example/login\\r\\n\\r\\n"
print("ready", flush=True)
while True:
    for one in select.select(sockets, [], [])[0]:
        data, who = one.recvfrom(65535)
        for answer in {
            "page": [page],
            "echo": [data],
            "zeros": [bytes(len(data))],
            "noise": [os.urandom(len(data)), os.urandom(1), b""],
            "halves": [data[: len(data) // 2], data[:28], data[:1]],
            "responder": [data[:8] + os.urandom(8) + data[16:19] + b"\\x20" + data[20:]],
        }[sys.argv[1]]:
            one.sendto(answer, who)
"""


@pytest.mark.parametrize("answer", ["page", "echo", "zeros", "noise", "halves", "responder"])
def test_a_portal_that_answers_everything_is_no_gateway(lab: Lab, answer: str) -> None:
    """O16: on both ports; within the time limit, in words, and without a trace of it."""
    lab.prepare()
    lab.gateway.kill()
    before = lab.client.traces()
    portal = lab.network.gateway.start(sys.executable, "-c", PORTAL, answer, "500,4500", stdout=-1)
    assert portal.stdout is not None
    assert portal.stdout.readline() == b"ready\n"
    connection = lab.client.start("work", "--timeout", "4")
    assert connection.wait(20) in (5, 6), connection.stderr
    error = connection.stderr[connection.stderr.index("error:") :]
    assert len(error.strip().splitlines()) <= 3
    assert "bug" not in error
    if answer != "responder":  # which is well-formed, and says something
        assert "no IKE answer from 10.1.0.1" in error
        assert "500 nor 4500" in error
        assert "captive portal" in error
    assert lab.client.traces() == before


def test_a_network_without_udp_says_what_may_be_blocked(lab: Lab) -> None:
    """O16: a firewall that refuses with ICMP, and one that is silent."""
    lab.prepare()
    for verdict in ("reject with icmpx admin-prohibited", "drop"):
        rules = lab.network.gateway.add_rules("input", f"meta l4proto udp {verdict}")
        connection = lab.client.start("work", "--timeout", "3")
        assert connection.wait(20) == 5
        assert "no IKE answer from 10.1.0.1" in connection.stderr
        assert "a firewall may block UDP 500 and 4500" in connection.stderr
        rules.remove()


def test_a_network_that_mangles_port_4500_says_so(lab: Lab) -> None:
    """O16: port 500 answers, and what comes from 4500 is altered on the way; once it no longer is, all is well."""
    lab.prepare()
    rules = lab.network.gateway.add_rules("output", "udp sport 4500 @th,128,32 set 0xdeadbeef counter")
    connection = lab.client.start("work", "--timeout", "5")
    assert connection.wait(20) == 5, connection.stderr
    assert "4500" in connection.stderr
    assert rules.hits() > 0
    rules.remove()
    connection = lab.client.connect()
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert connection.terminate() == 0


@pytest.mark.parametrize("zone", ["XYZ-167:59:59", "Mars/Olympus", ":/etc/shadow"])
def test_an_impossible_time_zone_does_not_keep_a_gateway_from_being_judged(lab: Lab, zone: str) -> None:
    """O14: certificates are judged by the time, whatever TZ says."""
    connection = lab.start(Offer(auth="certificate"), env={"TZ": zone})
    connection.wait_connected()
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert connection.terminate() == 0
