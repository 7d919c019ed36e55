"""One login is one login: gateways that are slow, have several addresses, or are impersonated while we connect."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import pytest
from lab import init_flood
from lab.client import Tables
from lab.gateway import Offer
from lab.machines import Machine, wait_for
from lab.network import GATEWAY_IPV4, INSIDE_IPV4
from lab.traffic import ping
from lab.world import Lab

IKE_AUTH, IKE_SA_INIT = 35, 34


def slow(milliseconds: int, exchange: int = IKE_AUTH) -> dict[str, int]:
    """charon's settings for dealing late with each request of one kind."""
    return {"receive_delay": milliseconds, "receive_delay_type": exchange}


def established(lab: Lab) -> list[str]:
    """The numbers of the IKE SAs that the gateway has ever established."""
    return re.findall(r"IKE_SA rw\[(\d+)\] established", lab.gateway.log)


@pytest.mark.waits
@pytest.mark.parametrize(
    ("auth", "delay"), [("psk", 2500), ("psk", 6000), ("certificate", 2500), ("eap-mschapv2", 2500)]
)
def test_a_slow_login_is_one_login_and_carries_packets(lab: Lab, auth: str, delay: int) -> None:
    """K20: also when each of several rounds is slow; nothing is left of any other at the gateway."""
    lab.prepare(Offer(auth=auth, settings=slow(delay)))  # type: ignore[arg-type]
    with lab.capture() as capture:
        lab.client.connect("work", "--timeout", "60", timeout=70)
        assert ping(lab.network.client, INSIDE_IPV4, count=3) == 3
    assert len(established(lab)) == 1
    assert len(lab.gateway.list_sas()) == 1
    logins = capture.packets(f"isakmp.exchangetype == {IKE_AUTH} and ip.dst == {GATEWAY_IPV4}", "isakmp.rspi")
    assert len(set(logins)) == 1


def test_a_slow_answer_to_ike_sa_init_leads_to_one_login(lab: Lab) -> None:
    """K20: port 4500 is asked meanwhile, which is no login."""
    lab.connected(Offer(settings=slow(1300, IKE_SA_INIT)))
    assert ping(lab.network.client, INSIDE_IPV4, count=3) == 3
    assert len(established(lab)) == 1


@pytest.mark.waits
def test_a_login_that_was_given_up_is_taken_back(lab: Lab) -> None:
    """K20: the gateway finishes it after we have gone on to the next attempt, and then hears that it is over."""
    lab.connected(Offer(unique="never"), "--timeout", "4", session={"liveness": 5})
    lab.gateway.kill()
    lab.gateway.serve(Offer(unique="never", settings=slow(7000)))
    wait_for(lambda: established(lab)[1:] or None, timeout=60, what="a login that comes too late")
    wait_for(lambda: "received DELETE for IKE_SA rw[" in lab.gateway.log or None, timeout=30, what="its DELETE")
    lab.gateway.kill()
    lab.gateway.serve(Offer(unique="never"))
    lab.client.wait_state("connected", timeout=90)
    assert ping(lab.network.client, INSIDE_IPV4, count=3) == 3


def addresses(*hosts: str) -> Tables:
    return {"gateway": {"address": list(hosts)}}


@pytest.mark.waits
def test_the_next_address_is_asked_after_a_refusal_that_nobody_has_proven(lab: Lab) -> None:
    """N14: NO_PROPOSAL_CHOSEN from the first address, which anybody could have sent."""
    lab.network.add_second_path()
    lab.gateway.serve()
    lab.client.write_profile(lab.gateway, addresses("10.2.0.1", GATEWAY_IPV4))
    with Answering(lab.network.gateway, "10.2.0.1", "refuse"):
        connection = lab.client.connect()
    assert "10.2.0.1: the gateway accepts none of the offered algorithms" in connection.stderr
    assert ping(lab.network.client, INSIDE_IPV4, count=3) == 3


def test_no_address_is_left_after_refusals(lab: Lab) -> None:
    """N14: what a gateway said is worth more than the silence of another address."""
    lab.network.add_second_path()
    lab.client.write_profile(lab.gateway, addresses("10.2.0.1", GATEWAY_IPV4))
    with Answering(lab.network.gateway, "10.2.0.1", "refuse"):
        connection = lab.client.start("work", "--timeout", "6")
        assert connection.wait(30) == 6
    assert "NO_PROPOSAL_CHOSEN" in connection.stderr


def test_a_slow_login_at_one_address_is_not_repeated_at_another(lab: Lab) -> None:
    """K20: both lead to the same gateway, which works on the login when the first one's share of the time is over."""
    lab.network.add_second_path()
    lab.gateway.listen = ("10.1.0.1", "10.2.0.1")
    lab.gateway.serve(Offer(settings=slow(8000)))
    lab.client.write_profile(lab.gateway, addresses("10.2.0.1", GATEWAY_IPV4))
    connection = lab.client.start("work", "--timeout", "14")
    assert connection.wait_connected()["gateway"]["address"] == "10.2.0.1"
    assert ping(lab.network.client, INSIDE_IPV4, count=3) == 3
    assert len(established(lab)) == 1


@pytest.mark.waits
def test_an_address_at_which_a_login_cannot_arrive_gives_way_to_the_next(lab: Lab) -> None:
    """Port 500 answers there, and port 4500 is blocked."""
    lab.network.add_second_path()
    lab.network.gateway.add_rules("input", "ip daddr 10.2.0.1 udp dport 4500 counter drop")
    lab.gateway.listen = ("10.1.0.1", "10.2.0.1")
    lab.gateway.serve()
    lab.client.write_profile(lab.gateway, addresses("10.2.0.1", GATEWAY_IPV4))
    connection = lab.client.start("work", "--timeout", "14")
    assert connection.wait_connected()["gateway"]["address"] == GATEWAY_IPV4
    assert "10.2.0.1: the gateway 10.2.0.1 stopped answering during IKE_AUTH" in connection.stderr


def test_a_proven_refusal_of_the_password_asks_no_other_address(lab: Lab) -> None:
    """Each further address would be one more failed login of that user."""
    lab.network.add_second_path()
    lab.gateway.listen = ("10.1.0.1", "10.2.0.1")
    lab.gateway.serve(Offer(auth="eap-mschapv2"))
    lab.client.write_profile(lab.gateway, addresses("10.2.0.1", GATEWAY_IPV4))
    lab.client.secret_file("password", "not-the-password")
    connection = lab.client.start()
    assert connection.wait(30) == 4
    assert lab.gateway.log.count("EAP method EAP_MSCHAPV2 failed") == 1


def test_a_gateway_that_answers_from_another_address_is_connected_to(lab: Lab) -> None:
    """N4: as one that has several addresses, or runs in a container behind a proxy of its host's."""
    lab.network.gateway.ip("address", "add", "10.1.0.7/24", "dev", "wan")
    lab.network.gateway.run(
        "nft",
        "-f",
        "-",
        stdin=(
            "table ip elsewhere {\n"
            "chain out { type filter hook postrouting priority 200\n"
            "ip saddr 10.1.0.1 udp sport { 500, 4500 } ip saddr set 10.1.0.7\n}\n}\n"
        ),
    )
    lab.prepare()
    with lab.capture() as capture:
        lab.client.connect()
        assert ping(lab.network.client, INSIDE_IPV4, count=3) == 3
    assert capture.count("ip.src == 10.1.0.1 and udp") == 0
    assert capture.count("ip.dst == 10.1.0.7") == 0
    assert len(established(lab)) == 1


def test_an_answer_from_elsewhere_is_told_when_nothing_comes_of_it(lab: Lab) -> None:
    """N4: "nothing came back" would be untrue."""
    lab.network.gateway.ip("address", "add", "10.1.0.7/24", "dev", "wan")
    lab.client.write_profile(lab.gateway)
    with Answering(lab.network.gateway, GATEWAY_IPV4, "good", source="10.1.0.7"):
        connection = lab.client.start("work", "--timeout", "6")
        assert connection.wait(30) == 5
    assert "10.1.0.7" in connection.stderr


def test_a_gateway_without_udp_encapsulation_is_said_so_at_once(lab: Lab) -> None:
    """N20: in these words, not that a firewall may block a port."""
    lab.network.gateway.block_udp_port(4500)
    lab.client.write_profile(lab.gateway)
    with Answering(lab.network.gateway, GATEWAY_IPV4, "plain"):
        connection = lab.client.start()
        assert connection.wait(15) == 6
    assert "UDP encapsulation" in connection.stderr
    assert "firewall" not in connection.stderr


@pytest.mark.parametrize("count", [7, 20, 500])
def test_forged_answers_before_the_gateways_own_do_not_deny_the_connection(lab: Lab, count: int) -> None:
    """N22, N21: an attacker on the path answers each IKE_SA_INIT that often, with good key shares; then the gateway."""
    lab.prepare(Offer(settings=slow(150, IKE_SA_INIT)))
    with Answering(lab.network.gateway, GATEWAY_IPV4, "good", count=count):
        lab.client.connect(timeout=40)
        assert ping(lab.network.client, INSIDE_IPV4, count=3) == 3
    assert len(established(lab)) == 1


class Answering:
    """Somebody in a machine who answers every IKE_SA_INIT for `address`, beside or in place of a gateway."""

    def __init__(self, machine: Machine, address: str, what: str, *, count: int = 1, source: str | None = None) -> None:
        self._arguments: Sequence[str] = (what, address, source or address, str(count))
        self._machine = machine

    def __enter__(self) -> None:
        program = (sys.executable, init_flood.__file__, *self._arguments)
        self._process = self._machine.start(*program, stdout=-1)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)


@pytest.mark.parametrize("auth", ["certificate", "eap-mschapv2"])
def test_a_path_that_swallows_long_packets_carries_the_login_in_smaller_fragments(lab: Lab, auth: str) -> None:
    """RFC 7383 section 2.5.2: 576 bytes pass, longer packets vanish without a word, in both directions."""
    lab.prepare(Offer(auth=auth, kind="rsa2048", settings={"fragment_size": 576}))  # type: ignore[arg-type]
    swallow = "udp sport { 500, 4500 } meta length > 590 counter drop", "udp dport 4500 meta length > 590 counter drop"
    rules = [machine.add_rules("prerouting", *swallow) for machine in (lab.network.gateway, lab.network.client)]
    lab.client.connect()
    assert ping(lab.network.client, INSIDE_IPV4, count=3) == 3
    assert len(established(lab)) == 1
    assert auth != "certificate" or rules[0].hits() > 0
