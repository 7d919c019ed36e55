"""The protocol log of a real connection: what was proposed, chosen, assigned, and no secret."""

from __future__ import annotations

import re

from lab.gateway import PASSWORD, Offer
from lab.network import GATEWAY_IPV4, GATEWAY_NAME
from lab.world import Lab


def test_each_message_and_decision_of_a_login_is_a_line(lab: Lab) -> None:
    """F12: with `-v`; the password is in none of them, and what `-vv` adds is not there."""
    lab.gateway.serve(Offer(auth="eap-mschapv2"))
    lab.client.write_profile(lab.gateway)
    connection = lab.client.start("work", "-v")
    status = connection.wait_connected()
    assert lab.client.disconnect().returncode == 0
    connection.wait()
    lines = [line.partition("  ike: ")[2] for line in connection.stderr.splitlines() if "  ike: " in line]
    text = "\n".join(lines)
    order = [
        rf"sent IKE_SA_INIT request 0 to {GATEWAY_IPV4}\[500\]: SA KE\(\w+\) NONCE N\(NAT_DETECTION_SOURCE_IP\)",
        r"  proposed: IKE aes256gcm16",
        rf"received IKE_SA_INIT response 0 from {GATEWAY_IPV4}\[500\]: SA KE",
        rf"  chosen: IKE {status['ike']['suite']}",
        rf"goes on with {status['ike']['suite']}, .*fragmentation",
        rf"sent IKE_AUTH request 1 to {GATEWAY_IPV4}\[4500\]: IDi\(.*SA TSi\(.*TSr\(",
        rf"received IKE_AUTH response 1 .*IDr\({GATEWAY_NAME}\).*AUTH\(.*EAP\(REQUEST IDENTITY\)",
        r"sent IKE_AUTH request 2 .*EAP\(RESPONSE IDENTITY\)",
        r"EAP\(REQUEST MSCHAPV2\)",
        r"EAP\(SUCCESS\)",
        r"AUTH\(SHARED_KEY\)",
        rf"  chosen: ESP \w+ {status['children'][0]['suite']}",
        rf"IKE SA {status['ike']['spi_i']}_i {status['ike']['spi_r']}_r established with {GATEWAY_NAME}",
        r"assigned: addresses 10",
        rf"Child SA {status['children'][0]['spi_in']}_i .*===",
        r"sent INFORMATIONAL request \d+ .*DELETE\(IKE\)",
    ]
    place = 0
    for pattern in order:
        found = re.compile(pattern).search(text, place)
        assert found, f"{pattern} is not in\n{text[place:]}"
        place = found.start()
    assert "bytes" not in text
    assert PASSWORD not in connection.stderr
