"""What a gateway grants beyond a network: lists of subnets, everything as our side, and addresses of our own LAN."""

from __future__ import annotations

import pytest
from lab.charon import Conf
from lab.gateway import MARKED, Offer
from lab.machines import wait_for
from lab.network import (
    CLIENT_IPV4,
    GATEWAY_IPV4,
    INSIDE_DNS,
    INSIDE_IPV4,
    INTERNET_IPV4,
    SECOND_CLIENT_IPV4,
    SECOND_GATEWAY_IPV4,
)
from lab.traffic import peer_address, ping
from lab.world import Lab


def in_tunnel(address: str) -> bool:
    return address.startswith("10.88.0.")


def test_however_much_is_granted_as_ours_only_the_inner_address_is(lab: Lab) -> None:
    """K21: else the gateway reaches services of the LAN, and hosts beyond a machine that forwards."""
    lab.connected(
        Offer(pools=("p4",), local_ts=("10.99.0.0/24",), settings=MARKED, child={"remote_ts": ["0.0.0.0/0"]}),
        network={"request": ["ipv4"]},
    )
    assert "=== 0.0.0.0/0" in lab.gateway.log
    status = lab.status()
    inner = status["addresses"][0].removesuffix("/32")
    assert status["children"][0]["local_ts"] == [f"{inner}/32"]
    machine, gateway = lab.network.client, lab.network.gateway
    machine.sysctl("net.ipv4.ip_forward", 1)
    came_out = machine.add_rules("prerouting", f'iifname "ike0" ip daddr != {inner} counter', priority=-400)

    def drops() -> int:
        now = lab.status()
        return int(now["children"][0]["selector_drops"])

    for target in (CLIENT_IPV4, "10.1.0.77", "192.168.7.1", "10.88.0.77"):
        before = drops()
        gateway.run("ping", "-n", "-c", "2", "-i", "0.1", "-W", "0.3", "-I", INSIDE_IPV4, target, check=False)
        wait_for(lambda before=before: drops() >= before + 2, timeout=5, what=f"packets to {target}")  # type: ignore[misc]
    assert came_out.hits() == 0
    answered = gateway.run("ping", "-n", "-c", "2", "-i", "0.1", "-W", "2", "-I", INSIDE_IPV4, inner).stdout
    assert "2 received" in answered
    assert ping(machine, INSIDE_IPV4) == 3


@pytest.mark.parametrize(
    ("attributes", "routes"),
    [
        ({"subnet": ["10.99.0.0/25", "10.99.0.128/25"]}, ["10.99.0.0/24"]),
        ({"subnet": ["10.99.0.0/24", "10.98.0.0/16"]}, ["10.98.0.0/16", "10.99.0.0/24"]),
        ({"split_include": ["10.99.0.0/24", "10.98.0.0/16"]}, ["10.98.0.0/16", "10.99.0.0/24"]),
    ],
)
def test_a_gateway_that_lets_everything_through_may_name_its_subnets(
    lab: Lab, attributes: Conf, routes: list[str]
) -> None:
    """RFC 7296 section 3.15.2, and the lists that Cisco made and others send."""
    lab.connected(Offer(pools=("p4",), local_ts=("0.0.0.0/0",), attributes=attributes))
    status = lab.status()
    assert status["children"][0]["remote_ts"] == ["0.0.0.0/0"]
    assert status["routes"] == routes
    machine = lab.network.client
    assert in_tunnel(peer_address(machine, INSIDE_IPV4))
    assert in_tunnel(peer_address(machine, INSIDE_DNS))
    assert peer_address(machine, INTERNET_IPV4) == CLIENT_IPV4
    lab.client.disconnect()
    lab.client.write_profile(lab.gateway, {"network": {"routes": "all"}})
    lab.client.connect()
    assert in_tunnel(peer_address(machine, INTERNET_IPV4)), "the profile counts more"


@pytest.mark.parametrize("excluded", [["203.0.113.0/24", "10.2.0.0/24"], ["0.0.0.0/0"]])
def test_a_gateway_may_want_networks_outside(lab: Lab, excluded: list[str]) -> None:
    """UNITY_LOCAL_LAN; without an address it means the networks that the client is on."""
    lab.network.add_second_path()
    lab.connected(Offer(pools=("p4",), local_ts=("0.0.0.0/0",), attributes={"split_exclude": excluded}))
    machine = lab.network.client
    assert peer_address(machine, SECOND_GATEWAY_IPV4) == SECOND_CLIENT_IPV4
    assert in_tunnel(peer_address(machine, INSIDE_IPV4))
    assert in_tunnel(peer_address(machine, INTERNET_IPV4)) == (excluded == ["0.0.0.0/0"])


@pytest.mark.parametrize("pool", ["10.1.0.53/32", "10.1.0.1/32", "10.1.0.2/32", "10.1.0.255/32"])
def test_an_inner_address_of_the_lan_is_refused(lab: Lab, pool: str) -> None:
    """K12: a neighbour's, the router's (here also the gateway's), our own, and the broadcast address."""
    before = lab.client.traces()
    connection = lab.start(Offer(pools=("p4",), pool_ipv4=pool, settings=MARKED), network={"request": ["ipv4"]})
    assert connection.wait() == 6
    assert pool.removesuffix("/32") in connection.stderr
    assert lab.client.traces() == before


def test_a_name_server_beside_the_listed_subnets_is_asked_through_the_tunnel(lab: Lab) -> None:
    """K14."""
    offer = Offer(pools=("p4",), local_ts=("0.0.0.0/0",), attributes={"subnet": ["10.99.0.0/28"]}, dns=(INSIDE_DNS,))
    lab.connected(offer)
    status = lab.status()
    assert (status["routes"], status["dns"]["servers"]) == (["10.99.0.0/28"], [INSIDE_DNS])
    assert in_tunnel(peer_address(lab.network.client, INSIDE_DNS))


def test_a_name_server_of_the_lan_is_not_asked_past_the_tunnel(lab: Lab) -> None:
    """K14: nor this machine itself."""
    lab.connected(
        Offer(pools=("p4",), local_ts=("0.0.0.0/0",), dns=("10.1.0.53", CLIENT_IPV4, INSIDE_DNS)),
        network={"exclude": ["lan"]},
    )
    status = lab.status()
    assert status["dns"]["servers"] == [INSIDE_DNS]
    assert len([text for text in status["warnings"] if "is not used" in text]) == 2
    resolver = lab.network.client.read_file("/etc/resolv.conf")
    assert "10.1.0.53" not in resolver
    assert f"nameserver {CLIENT_IPV4}\n" not in resolver
    assert peer_address(lab.network.client, GATEWAY_IPV4) == CLIENT_IPV4, "and the LAN stays in reach"
