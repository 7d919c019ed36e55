"""What a tunnel lives through: dead and restarted gateways, forgotten NAT mappings, standstill, rekeys under load."""

from __future__ import annotations

import signal
import time

import pytest
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import CLIENT_IPV4, INSIDE_DNS, INSIDE_IPV4, INTERNET_IPV4, SECOND_CLIENT_IPV4, Topology
from lab.traffic import Pinger, carries, fetch, keep_pinging, peer_address, ping, reaches
from lab.world import Lab, MakeLab

pytestmark = pytest.mark.waits


def test_a_restarted_gateway_is_noticed_soon_and_the_tunnel_comes_back(lab: Lab) -> None:
    """S14: the gateway has forgotten us; its unprotected INVALID_IKE_SPI makes us look, silence convinces."""
    lab.connected()
    keep_pinging(lab.network.client)
    time.sleep(0.5)
    lab.gateway.restart()
    started = time.monotonic()
    lab.client.wait_state("reconnecting", timeout=20)
    lab.client.wait_state("connected", timeout=20)
    assert time.monotonic() - started < 25
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    status = lab.status()
    assert status["reconnects"] == 1


def test_a_gateway_that_reboots_is_back_within_a_minute(lab: Lab) -> None:
    """S14: first no answers, then one that has never heard of us; the routes stay, and nothing leaves meanwhile."""
    everything = Offer(local_ts=("0.0.0.0/0",), pools=("p4",))
    connection = lab.connected(everything, network={"routes": "all"})
    keep_pinging(lab.network.client, INTERNET_IPV4)
    with lab.capture(expression=f"ip and dst host {INTERNET_IPV4}") as capture:
        started = time.monotonic()
        blocked = [lab.network.gateway.block_udp_port(port) for port in (500, 4500)]
        lab.gateway.restart()
        lab.client.wait_state("reconnecting", timeout=25)
        assert " dev ike0" in lab.network.client.run("ip", "route", "get", INTERNET_IPV4).stdout
        time.sleep(max(0.0, started + 20 - time.monotonic()))
        for rules in blocked:
            rules.remove()
        lab.client.wait_state("connected", timeout=60 - (time.monotonic() - started))
        carries(lab.network.client, INTERNET_IPV4)
    assert capture.count("ip") == 0
    assert connection.stderr.count("connected in") == 2


@pytest.mark.timeout(240)
def test_a_dead_gateway_is_noticed_within_twenty_seconds_and_awaited(lab: Lab) -> None:
    connection = lab.connected()
    keep_pinging(lab.network.client)
    time.sleep(0.5)
    blocked = [lab.network.gateway.block_udp_port(port) for port in (500, 4500)]
    started = time.monotonic()
    wait_for(lambda: connection.stderr.count("negotiating") == 2, timeout=21, what="another attempt", interval=0.1)
    assert time.monotonic() - started < 21
    time.sleep(max(0.0, started + 60 - time.monotonic()))  # a minute in all
    for rules in blocked:
        rules.remove()
    lab.client.wait_state("connected", timeout=75)
    assert ping(lab.network.client, INSIDE_IPV4) == 3


def test_a_refusal_that_nobody_signed_does_not_open_a_full_tunnel(lab: Lab) -> None:
    """S5, N14: whoever answers in the place of the lost gateway cannot make the traffic leave in the clear."""
    everything = ["0.0.0.0/0", "::/0"]
    connection = lab.connected(Offer(local_ts=everything), network={"routes": "all"})
    assert peer_address(lab.network.client, INTERNET_IPV4).startswith("10.88.0.")
    lab.gateway.kill()
    lab.gateway.serve(Offer(local_ts=everything, proposals="aes128-sha1-modp3072"))
    keep_pinging(lab.network.client)
    wait_for(lambda: "NO_PROPOSAL_CHOSEN" in connection.stderr, timeout=40, what="a refusal", interval=0.2)
    assert connection.process.poll() is None
    assert not reaches(lab.network.client, INTERNET_IPV4)
    lab.gateway.serve(Offer(local_ts=everything))
    lab.client.wait_state("connected", timeout=40)
    assert peer_address(lab.network.client, INTERNET_IPV4).startswith("10.88.0.")


def test_a_gateway_with_a_name_is_found_again_though_dns_was_inside(lab: Lab) -> None:
    lab.connected(
        Offer(local_ts=["0.0.0.0/0"], dns=[INSIDE_DNS]),
        gateway={"address": "gw.example.org"},
        network={"routes": "all"},
    )
    keep_pinging(lab.network.client)
    time.sleep(0.5)
    lab.gateway.restart()
    lab.client.wait_state("reconnecting", timeout=20)
    lab.client.wait_state("connected", timeout=20)
    assert ping(lab.network.client, INSIDE_IPV4) == 3


def test_a_nat_that_forgets_its_mapping_does_not_end_the_tunnel(make_lab: MakeLab) -> None:
    lab = make_lab(Topology(client_nat=True))
    lab.connected()
    keep_pinging(lab.network.client)
    time.sleep(0.5)
    router = lab.network.client_router
    assert router is not None
    for timeout in ("udp_timeout", "udp_timeout_stream"):
        router.sysctl(f"net.netfilter.nf_conntrack_{timeout}", 1)
    time.sleep(1.0)  # the timeouts are taken over with the next packets
    silence = router.add_rules(
        "prerouting", "udp dport 4500 counter drop", "udp sport 4500 counter drop", priority=-500
    )
    time.sleep(2.5)
    for timeout in ("udp_timeout", "udp_timeout_stream"):
        router.sysctl(f"net.netfilter.nf_conntrack_{timeout}", 120)
    silence.remove()
    wait_for(lambda: ping(lab.network.client, INSIDE_IPV4, count=1) == 1, timeout=30, what="traffic", interval=0.2)
    lab.client.wait_state("connected", timeout=20)
    assert "remote endpoint changed" in lab.gateway.log  # the router's new port, which only we could tell it
    assert fetch(lab.network.client, INSIDE_IPV4).sha256 == lab.servers.sha256


def test_a_process_that_stood_still_looks_at_once_and_connects_again(lab: Lab) -> None:
    """S15: stopped for longer than the gateway's patience, as by a suspended machine."""
    connection = lab.connected(
        Offer(connection={"dpd_delay": "1s"}, settings={"retransmit_tries": 1, "retransmit_timeout": 0.5})
    )
    connection.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: not lab.gateway.list_sas(), timeout=20, what="the gateway's patience to end", interval=0.2)
    time.sleep(3)
    connection.process.send_signal(signal.SIGCONT)
    started = time.monotonic()
    wait_for(lambda: lab.gateway.list_sas(), timeout=25, what="another connection", interval=0.1)
    lab.client.wait_state("connected", timeout=20)
    assert time.monotonic() - started < 25  # the next check of liveness would come after 30 s
    assert ping(lab.network.client, INSIDE_IPV4) == 3


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [30, pytest.param(120, marks=pytest.mark.extended)])
def test_rekeys_from_both_sides_lose_nothing_under_load(lab: Lab, seconds: int) -> None:
    connection = lab.connected(
        Offer(settings={"delete_rekeyed_delay": 1}), session={"rekey_child": 10, "rekey_ike": 14}
    )
    deadline = time.monotonic() + seconds
    turn = 0
    while time.monotonic() < deadline:
        lab.gateway.rekey(**({"child": "net"} if turn % 3 else {"ike": "rw"}))
        assert fetch(lab.network.client, INSIDE_IPV4).sha256 == lab.servers.sha256
        turn += 1
        time.sleep(0.5)
    time.sleep(3)
    status = lab.status()
    assert status["reconnects"] == 0, connection.stderr
    [child] = lab.gateway.children()
    [ours] = status["children"]
    assert (ours["spi_in"], ours["spi_out"]) == (child["spi-out"], child["spi-in"])
    assert len(lab.gateway.list_sas()) == 1
    assert ping(lab.network.client, INSIDE_IPV4) == 3


@pytest.mark.parametrize("unique", ["replace", pytest.param("never", marks=pytest.mark.extended)])
def test_a_new_authentication_comes_before_the_old_one_ends(lab: Lab, unique: str) -> None:
    """RFC 4478: with AUTH_LIFETIME the gateway asks for it; a gateway may drop the old IKE SA by itself or not."""
    connection = lab.connected(
        Offer(unique=unique, connection={"reauth_time": "60s", "over_time": "60s", "rand_time": "0s"})
    )
    before = lab.status()
    pinger = Pinger(lab.network.client)
    wait_for(lambda: "reauthenticated" in connection.stderr, timeout=80, what="a new authentication", interval=0.2)
    assert fetch(lab.network.client, INSIDE_IPV4).sha256 == lab.servers.sha256
    assert pinger.longest_gap() < 1.0
    after = lab.status()
    assert after["ike"]["spi_i"] != before["ike"]["spi_i"]
    assert after["addresses"] == before["addresses"]
    assert (after["state"], after["reconnects"]) == ("connected", 0)
    wait_for(lambda: len(lab.gateway.list_sas()) == 1, timeout=5, what="the end of the old IKE SA")
    [child] = lab.gateway.children()
    [ours] = after["children"]
    assert (ours["spi_in"], ours["spi_out"]) == (child["spi-out"], child["spi-in"])


def test_the_handshake_rekeys_and_moves_survive_a_bad_cable(make_lab: MakeLab) -> None:
    lab = make_lab(Topology(impaired=True))
    assert lab.network.relay is not None
    lab.prepare(session={"rekey_child": 10})
    lab.network.add_second_path()
    lab.network.relay.impair(loss=0.05, reorder=0.05, delay=0.005, jitter=0.004, seed=11)
    lab.client.connect()
    for turn in range(4):
        lab.gateway.rekey(ike="rw")
        assert fetch(lab.network.client, INSIDE_IPV4, timeout=60).sha256 == lab.servers.sha256
        move, address = (
            (lab.network.use_first_path, CLIENT_IPV4) if turn % 2 else (lab.network.use_second_path, SECOND_CLIENT_IPV4)
        )
        move()
        status = lab.client.wait_moved(address)
        # This gateway sends to the old address until its own rekey is through, whose loss it notices after 4 seconds.
        wait_for(lambda: ping(lab.network.client, INSIDE_IPV4, count=1), timeout=20, what="traffic", interval=0.1)
    assert status["reconnects"] == 0
