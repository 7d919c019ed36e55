"""Gateways that hand out no address: what was agreed goes through the tunnel from the machine's own (K22)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from lab.capture import Capture
from lab.charon import Conf
from lab.gateway import MARKED, Offer
from lab.network import (
    CLIENT_IPV4,
    CLIENT_IPV6,
    CLIENT_PRIVATE,
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    INSIDE_IPV4,
    INSIDE_IPV6,
    INTERNET_IPV4,
    SECOND_CLIENT_IPV4,
    Topology,
)
from lab.traffic import carries, keep_pinging, peer_address, ping
from lab.world import Lab, MakeLab

IN_THE_CLEAR = "(ip or ipv6) and not udp.port in {500, 4500} and not icmpv6.type in {130..143}"


def without_pool(*local_ts: str, remote_ts: Sequence[str] = ()) -> Offer:
    child: Conf = {"remote_ts": remote_ts} if remote_ts else {}
    return Offer(pools=(), local_ts=local_ts, settings=MARKED, child=child)


def connect(lab: Lab, offer: Offer, *, address: str = GATEWAY_IPV4) -> dict[str, object]:
    lab.connected(offer, gateway={"address": address}, network={"request": []})
    return lab.status()


def in_the_clear(capture: Capture) -> list[tuple[str, ...]]:
    return capture.packets(IN_THE_CLEAR, "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "_ws.col.Info")


def reached_from(lab: Lab, host: str, client: str) -> None:
    """The host sees that address of the client, and nothing goes there in the clear."""
    machine = lab.network.client
    with lab.capture() as capture:
        assert ping(machine, host) == 3
        assert peer_address(machine, host) == client
    assert in_the_clear(capture) == []
    assert capture.count("esp") > 6


@pytest.mark.parametrize(
    ("gateway", "client", "inside", "network"),
    [
        (GATEWAY_IPV4, CLIENT_IPV4, INSIDE_IPV4, "10.99.0.0/24"),
        (GATEWAY_IPV6, CLIENT_IPV6, INSIDE_IPV6, "fd99::/64"),
    ],
)
def test_a_network_is_reached_from_the_outer_address(
    lab: Lab, gateway: str, client: str, inside: str, network: str
) -> None:
    before = lab.client.traces()
    status = connect(lab, without_pool("10.99.0.0/24", "fd99::/64"), address=gateway)
    length = 32 if "." in client else 128
    assert status["routes"] == [network]
    assert status["addresses"] == [f"{client}/{length}"]
    reached_from(lab, inside, client)
    assert ping(lab.network.gateway, client) == 3, "neighbours go on reaching the machine"
    lab.client.disconnect()
    assert lab.client.traces() == before


def test_host_to_host(lab: Lab) -> None:
    """The gateway's own address is inside, our ESP to it outside."""
    status = connect(lab, without_pool(f"{GATEWAY_IPV4}/32"))
    assert status["routes"] == [f"{GATEWAY_IPV4}/32"]
    reached_from(lab, GATEWAY_IPV4, CLIENT_IPV4)


def test_everything_is_reached_from_the_outer_address(lab: Lab) -> None:
    connect(lab, without_pool("0.0.0.0/0"))
    machine = lab.network.client
    with lab.capture() as capture:
        assert peer_address(machine, INTERNET_IPV4) == CLIENT_IPV4
        assert ping(machine, INSIDE_IPV4) == 3
    assert in_the_clear(capture) == []


def test_behind_a_nat_it_is_the_private_address(make_lab: MakeLab) -> None:
    """RFC 7296 section 2.23.1 is about transport mode: in a tunnel TSi is what we call ourselves."""
    lab = make_lab(Topology(client_nat=True))
    status = connect(lab, without_pool("10.99.0.0/24", remote_ts=["192.168.7.0/24"]))
    assert status["addresses"] == [f"{CLIENT_PRIVATE}/32"]
    with lab.capture() as capture:
        assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert in_the_clear(capture) == []


def test_a_gateway_that_only_knows_the_address_of_the_nat_is_refused(make_lab: MakeLab) -> None:
    lab = make_lab(Topology(client_nat=True))
    connection = lab.start(without_pool("10.99.0.0/24"), network={"request": []})
    assert connection.wait() == 6
    assert "TS_UNACCEPTABLE" in connection.stderr


@pytest.mark.parametrize("flushed", [False, True])
def test_in_a_new_network_the_new_address_is_agreed_on(lab: Lab, flushed: bool) -> None:
    """With MOBIKE the gateway would go on expecting packets from the old one: a new connection is made."""
    lab.network.add_second_path()
    connect(lab, without_pool("10.99.0.0/24"))
    machine = lab.network.client
    assert ping(machine, INSIDE_IPV4) == 3
    with lab.capture("one") as one, lab.capture("two", interface="wan2") as two:
        flood = keep_pinging(machine, interval=0.005)
        if flushed:
            machine.ip("address", "flush", "dev", "wan")
        lab.network.use_second_path()
        status = lab.client.wait_moved(SECOND_CLIENT_IPV4)
        flood.terminate()
    assert [packet for capture in (one, two) for packet in in_the_clear(capture) if INSIDE_IPV4 in packet] == []
    assert status["addresses"] == [f"{SECOND_CLIENT_IPV4}/32"]
    assert status["reconnects"] == 1
    assert status["roams"] == 0
    with lab.capture(interface="wan2") as capture:
        carries(machine, INSIDE_IPV4)
        assert peer_address(machine, INSIDE_IPV4) == SECOND_CLIENT_IPV4
    assert in_the_clear(capture) == []


def test_exec_has_the_address_in_its_namespace(lab: Lab) -> None:
    lab.prepare(without_pool("10.99.0.0/24"), network={"request": []})
    done = lab.client.run("exec", "work", "--", "ping", "-n", "-c", "3", "-i", "0.1", "-W", "2", INSIDE_IPV4)
    assert done.returncode == 0, done.stderr
    assert "3 received" in done.stdout
