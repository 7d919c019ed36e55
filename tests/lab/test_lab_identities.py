"""Identities of every type that a gateway may be configured with, as a profile writes them, in both directions."""

from __future__ import annotations

import pytest
from lab.gateway import Offer
from lab.network import INSIDE_IPV4
from lab.traffic import ping
from lab.world import Lab

IDENTITIES = {  # as strongSwan's configuration has it, and as a profile has it
    "key ID in text": ("keyid:branch-7", "keyid:branch-7"),
    "key ID in hexadecimal": ('"@#c0ffee01"', "keyid:#c0ffee01"),
    "an address as a name": ("fqdn:10.0.0.1", "fqdn:10.0.0.1"),
    "a mailbox without domain": ("@@alice", "email:alice"),
    "UTF-8": (f'"fqdn:#{"Filiale Zürich".encode().hex()}"', "Filiale Zürich"),
    "an address": ("192.0.2.77", "ipv4:192.0.2.77"),
}


@pytest.mark.parametrize("kind", IDENTITIES)
def test_a_gateway_and_a_client_know_each_other_by_any_type_of_identity(lab: Lab, kind: str) -> None:
    """G16: and `status` shows the gateway's as a profile would write it."""
    theirs, ours = IDENTITIES[kind]
    connection = lab.connected(Offer(client_identity=theirs), auth={"identity": ours})
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert connection.terminate() == 0
    connection = lab.start(Offer(gateway_identity=theirs), gateway={"identity": ours})
    status = connection.wait_connected()
    assert status["gateway"]["identity"] == ours.removeprefix("ipv4:")
    assert connection.terminate() == 0
