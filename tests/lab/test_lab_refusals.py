"""A gateway that is proven and refuses for a while: the tunnel that was up stays closed, asks again, and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from lab.client import Connection
from lab.gateway import PASSWORD, Offer, gateway_conf, gateway_credentials
from lab.machines import wait_for
from lab.network import CLIENT_IPV4, INTERNET_IPV4
from lab.traffic import carries, keep_pinging, peer_address
from lab.world import Lab

pytestmark = pytest.mark.waits

FULL = Offer(auth="eap-mschapv2", local_ts=("0.0.0.0/0",), pools=("p4",))


def without_pool(lab: Lab) -> None:
    lab.gateway.serve(replace(FULL, pools=()))


def with_other_selectors(lab: Lab) -> None:
    """Of the family that the client does not ask for."""
    lab.gateway.serve(replace(FULL, local_ts=("fd99::/64",)))


def with_other_algorithms(lab: Lab) -> None:
    lab.gateway.serve(replace(FULL, esp_proposals="aes192-sha512"))


def with_another_password(lab: Lab) -> None:
    """EAP-Failure, as from a RADIUS server that lost its mind for a moment."""
    conf = gateway_conf(lab.gateway, FULL)
    secrets = {"eap-alice": {"id": "alice", "secret": '"another"'}}
    lab.gateway.load({**conf, "secrets": secrets}, gateway_credentials(lab.gateway, FULL))


def with_an_unknown_certificate(lab: Lab) -> None:
    """Not the gateway at all."""
    lab.gateway.serve(replace(FULL, gateway_certificate=lab.gateway.pki.unknown_authority()))


def with_an_expired_certificate(lab: Lab) -> None:
    lab.gateway.serve(replace(FULL, gateway_certificate=lab.gateway.pki.expired()))


def connected(lab: Lab, **session: object) -> Connection:
    """A full tunnel that was up, and whose gateway asks for a new connection."""
    connection = lab.connected(FULL, network={"routes": ["0.0.0.0/0"]}, session=session)
    assert peer_address(lab.network.client, INTERNET_IPV4).startswith("10.88.0.")
    return connection


def refused(connection: Connection, words: str, times: int = 1, *, timeout: float = 30.0) -> None:
    wait_for(lambda: connection.stderr.count(words) >= times, timeout=timeout, what=f"{times} x {words}", interval=0.1)


@pytest.mark.parametrize(
    ("refusing", "words"),
    [
        (without_pool, "INTERNAL_ADDRESS_FAILURE"),
        (with_other_selectors, "TS_UNACCEPTABLE"),
        (with_other_algorithms, "NO_PROPOSAL_CHOSEN"),
        (with_another_password, "E=691"),
        (with_an_unknown_certificate, "issuer"),
        (with_an_expired_certificate, "expired"),
    ],
)
def test_what_is_refused_for_a_while_is_asked_again_and_nothing_leaves_meanwhile(
    lab: Lab, refusing: Callable[[Lab], None], words: str
) -> None:
    """S21, S5: the routes stay, `status` says what is wrong, and the end of the refusal is the end of the outage."""
    connection = connected(lab)
    refusing(lab)
    expression = f"ip and src host {CLIENT_IPV4} and not udp port 500 and not udp port 4500"
    with lab.capture(expression=expression) as capture:
        keep_pinging(lab.network.client, INTERNET_IPV4, interval=0.1)
        lab.gateway.terminate()
        refused(connection, words)
        status = lab.status()
        assert status["state"] == "reconnecting"
        assert status["last_error"]
        assert connection.process.poll() is None
        assert " dev ike0" in lab.network.client.run("ip", "route", "get", INTERNET_IPV4).stdout
        lab.gateway.serve(FULL)
        lab.client.wait_state("connected", timeout=40)
        carries(lab.network.client, INTERNET_IPV4)
    assert capture.count("ip") == 0
    assert peer_address(lab.network.client, INTERNET_IPV4).startswith("10.88.0.")
    assert connection.terminate() == 0


@pytest.mark.parametrize("refusals", [1, 2])
def test_credentials_that_stay_refused_end_it_after_as_many_attempts_as_the_profile_says(
    lab: Lab, refusals: int
) -> None:
    """S21: no account is locked by an endless row of guesses, and the end is said in words."""
    before = lab.client.traces()
    connection = connected(lab, refusals=refusals)
    with_another_password(lab)
    logins = lab.gateway.log.count("EAP method EAP_MSCHAPV2 failed for peer")
    lab.gateway.terminate()
    started = time.monotonic()
    assert connection.wait(60) == 4
    assert lab.gateway.log.count("EAP method EAP_MSCHAPV2 failed for peer") - logins == refusals
    assert time.monotonic() - started >= 5 * (refusals - 1)
    assert "protects nothing" in connection.stderr
    assert PASSWORD not in connection.stderr
    assert lab.client.traces() == before
