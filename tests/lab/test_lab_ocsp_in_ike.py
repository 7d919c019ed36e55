"""OCSP inside IKE (RFC 4806) against strongSwan 6, which asks for it and sends it; C8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.charon import PLUGINS
from lab.gateway import Offer
from lab.machines import Machine
from lab.network import INSIDE_IPV4, Topology
from lab.pki import Pki
from lab.traffic import ping
from lab.trixie import TrixieGateway
from lab.world import Lab
from test_lab_revocation import asked, certificate

pytestmark = pytest.mark.extended


@pytest.fixture
def newer(pki: Pki) -> Iterator[Lab]:
    """Client and gateway on one cable, strongSwan 6 at its end."""
    with Lab(Topology(), pki=pki) as lab:
        machine: Machine = lab.network.gateway
        lab.gateway = TrixieGateway(machine, lab.network.subdirectory("gw6"), pki, lab.network.gateway_listen)
        yield lab


def offer(pki: Pki, name: str, **connection: str) -> Offer:
    return Offer(
        auth="certificate",
        gateway_certificate=certificate(pki, name, responder=True),
        settings={"load": f"{PLUGINS} curl"},
        connection=connection,
    )


def test_the_gateway_sends_the_response_that_it_is_asked_for(newer: Lab, pki: Pki, tmp_path: Path) -> None:
    """Nobody else can be asked: what came inside IKE is all there is."""
    serving = offer(pki, "ocsp-in-ike", ocsp="reply")
    assert serving.gateway_certificate is not None
    with asked(newer, pki, serving.gateway_certificate, tmp_path, revoked=False):
        for port in (8888, 8889):
            newer.network.client.add_rules("output", f"tcp dport {port} counter drop")
        connection = newer.connected(serving, "-v", "--timeout", "60", timeout=70, gateway={"revocation": "strict"})
        assert ping(newer.network.client, INSIDE_IPV4, count=1) == 1
        (proof,) = newer.status()["gateway"]["auth"]
        assert proof["revocation"] == "good (OCSP)"
    assert connection.stderr


@pytest.mark.parametrize("revoked", [False, True])
def test_the_gateway_asks_for_a_response_about_us(newer: Lab, pki: Pki, revoked: bool, tmp_path: Path) -> None:
    """What we send decides: the gateway cannot ask anybody about our certificate."""
    own = certificate(pki, f"ocsp-client-{revoked}", responder=True, role="client")
    serving = offer(pki, "ocsp-asks", ocsp="request")
    remote = {"auth": "pubkey", "id": "%any", "cacerts": str(own.authority_file), "revocation": "strict"}
    serving = Offer(
        auth="certificate",
        gateway_certificate=serving.gateway_certificate,
        client_certificate=own,
        connection={"ocsp": "request", "remote": remote},
    )
    with asked(newer, pki, own, tmp_path, revoked=revoked):
        connection = newer.start(serving, "--timeout", "60", gateway={"revocation": "relaxed"})
        if revoked:
            assert connection.wait(90) == 4
            assert "our own certificate has been revoked" in connection.stderr or "AUTHENTICATION_FAILED" in (
                connection.stderr
            )
        else:
            connection.wait_connected(70)
            assert ping(newer.network.client, INSIDE_IPV4, count=1) == 1
    assert "certificate status is good" in newer.gateway.log or revoked
